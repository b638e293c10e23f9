"""The graph's bookkeeping, on the CPU with a stand-in for the capture; the capture itself where there is a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny import codec, notes

from audiogen.capture import capture
from audiogen.codec.graph import GraphedStep
from audiogen.codec.spectral import SpectralCodec


def step_of(made: SpectralCodec) -> Callable[..., Any]:
    return lambda codes, state: made.decode_latents(made.quantizer.decode(codes), state)


def streams_are_equal(made: SpectralCodec, graphed: GraphedStep, device: str) -> None:
    """Two streams through one graph, in turns, against the step itself."""
    step = step_of(made)
    codes = made.encode(torch.stack([notes(2.0, seed=1), notes(2.0, seed=2)]).to(device))
    with torch.inference_mode():
        for part in (codes, codes.flip(0)):
            plain, first, second = (made.decoder_state(2) for _ in range(3))
            for start in range(0, 48, 4):
                chunk = part[:, :, start : start + 4]
                expected, plain = step(chunk, plain)
                audio, first = graphed(chunk, first)
                other, second = graphed(chunk.flip(0), second)
                torch.testing.assert_close(audio, expected, atol=1e-5, rtol=0)
                torch.testing.assert_close(other.flip(0), expected, atol=1e-5, rtol=0)


def test_streams_share_a_graph() -> None:
    made = codec()
    captures = []

    def counted(run: Callable[[], Any], device: torch.device) -> Any:
        captures.append(device.type)
        return capture(run, device)

    graphed = GraphedStep(step_of(made), counted)
    streams_are_equal(made, graphed, "cpu")
    assert captures == ["cpu"]


def test_sizes_that_come_once_are_not_captured() -> None:
    made = codec()

    def never(run: Callable[[], Any], device: torch.device) -> Any:
        raise AssertionError

    graphed = GraphedStep(step_of(made), never)
    state, codes = made.decoder_state(1), made.encode(notes(1.0)[None])
    for length in (1, 2, 3, 5, 8):
        audio, state = graphed(codes[:, :, :length], state)
        assert audio.shape[2] == length * made.hop_length


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    made = codec().to("cuda")
    streams_are_equal(made, GraphedStep(step_of(made)), "cuda")
