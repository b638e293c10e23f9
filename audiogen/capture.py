"""CUDA graphs: work recorded once and played again without the host; and the second stream, on which codecs work.

On any other device the same work simply runs again, so that the code around a graph is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch
from torch.utils._pytree import tree_map

Capture = Callable[[Callable[[], Any], torch.device], tuple[Callable[[], object], Any]]
"""Work on fixed buffers, and where it runs → what does it again, and its outputs, which each time overwrites."""


def capture(run: Callable[[], Any], device: torch.device) -> tuple[Callable[[], object], Any]:
    """Record `run` → what plays it again, and its outputs, which each play overwrites. It is run a few times first."""
    if device.type != "cuda":
        return _plain(run)
    with torch.cuda.device(device):
        playing = torch.cuda.current_stream()
        stream = _stream_to_capture(playing)
        stream.wait_stream(playing)
        with torch.cuda.stream(stream):  # cuFFT and cuBLAS make their plans and workspaces outside of the graph
            for _ in range(3):
                run()
        playing.wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            outputs = run()
    return graph.replay, outputs


def beside(device: torch.device) -> AbstractContextManager[object]:
    """A GPU's second stream, which begins when the first has come as far as it is told now; nothing elsewhere."""
    if device.type != "cuda":
        return nullcontext()
    stream = _second_stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    return torch.cuda.stream(stream)


def _plain(run: Callable[[], Any]) -> tuple[Callable[[], object], Any]:
    outputs = tree_map(torch.clone, run())

    def play() -> None:
        tree_map(lambda mine, new: mine.copy_(new), outputs, run())

    return play, outputs


@cache
def _stream_to_capture(playing: torch.cuda.Stream) -> torch.cuda.Stream:
    """One for each stream that plays: cuBLAS has a workspace for each stream that it was captured on, which graphs that
    run at the same time must not share."""
    return torch.cuda.Stream(playing.device)


@cache
def _second_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
