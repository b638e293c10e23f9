"""On a GPU, a step of a stream as one captured CUDA graph: no launch waits for the host.

The graph works on buffers of its own; a call copies codes and state in and what came of them out, so the state stays
the caller's and any number of streams share the graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from audiogen.capture import Capture, capture

S = TypeVar("S")
Step = Callable[[Tensor, S], tuple[Tensor, S]]

_MOST_GRAPHS = 8


class GraphedStep:
    """`step` by graphs, one for each shape of its input that comes more than once, up to eight.

    Called as the step itself; gives the same.
    """

    def __init__(self, step: Step[Any], capture: Capture = capture) -> None:
        self._step, self._capture = step, capture
        self._graphs: dict[tuple[int, ...], tuple[Callable[[], object], list[Tensor], list[Tensor], Any]] = {}
        self._seen: set[tuple[int, ...]] = set()

    def __call__(self, codes: Tensor, state: S) -> tuple[Tensor, S]:
        """Codes `[B, k, t]` and state → audio and the next state, neither of them the graph's own memory."""
        shape = tuple(codes.shape)
        if shape not in self._graphs:
            if shape not in self._seen or len(self._graphs) == _MOST_GRAPHS:
                self._seen.add(shape)
                return self._step(codes, state)
            self._graphs[shape] = self._captured(codes, state)
        play, inputs, outputs, form = self._graphs[shape]
        torch._foreach_copy_(inputs, tree_flatten((codes, state))[0])
        play()
        return cast("tuple[Tensor, S]", tree_unflatten([output.clone() for output in outputs], form))

    def _captured(self, codes: Tensor, state: Any) -> tuple[Callable[[], object], list[Tensor], list[Tensor], Any]:
        values, form = tree_flatten((codes, state))
        inputs = [value.clone() for value in values]
        play, made = self._capture(lambda: self._step(*tree_unflatten(inputs, form)), codes.device)
        outputs, form = tree_flatten(made)
        return play, inputs, outputs, form
