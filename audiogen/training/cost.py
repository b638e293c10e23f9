"""What an update costs, counted before the first one: memory by its parts, and floating-point operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from audiogen.training.sharded import part


class Memory(NamedTuple):
    """Bytes that one process needs, about: what a library keeps for itself comes on top."""

    parameters: int
    gradients: int
    optimiser: int
    averaged: int
    activations: int

    @property
    def total(self) -> int:
        return sum(self)

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {_readable(value)}" for name, value in zip(self._fields, self, strict=True))
        return f"memory of one process, about {_readable(self.total)}: {parts}"


class Cost(NamedTuple):
    """Of the forward pass of one excerpt: bytes kept for the backward pass, floating-point operations."""

    kept_bytes: int
    operations: int


def standing(groups: list[dict[str, Any]], state: dict[str, Tensor]) -> Memory:
    """Memory that does not depend on the batch: of an optimiser's parameter `groups` and the averaged `state`.

    A matrix that Muon turns has one moment, everything else two.
    """
    own = sum(_bytes(weight) for group in groups for weight in group["params"])
    moments = sum((1 if group["matrices"] else 2) * sum(map(_bytes, group["params"])) for group in groups)
    return Memory(own, own, moments, sum(map(_bytes, state.values())), 0)


def measure(forward: Callable[[], Any], module: nn.Module) -> Cost:
    """Run `forward` once and count what autograd keeps of it and what its matrix products and convolutions take.

    Weights are not counted as kept. An LSTM's operations are counted from its weights, since PyTorch's counter does
    not know them.
    """
    weights = {_identity(weight) for weight in module.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if _identity(tensor) not in weights:
            kept[_identity(tensor)] = part(tensor).untyped_storage().nbytes()
        return tensor

    counter = FlopCounterMode(display=False, custom_mapping=_RECURRENT)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), counter:
        result = forward()
    del result
    return Cost(sum(kept.values()), int(counter.get_total_flops()))


def _bytes(tensor: Tensor) -> int:
    own = part(tensor)
    return own.numel() * own.element_size()


def _identity(tensor: Tensor) -> int:
    """Of the memory that holds it; of tensors that are only imagined too."""
    return part(tensor).untyped_storage()._cdata


def _readable(count: int) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1024  # type: ignore[assignment]
    return f"{count:.3g} GiB"


def _lstm_on_cpu(x: Any, inputs: Any, back: Any, *_: Any, **__: Any) -> int:
    return 2 * x[0] * x[1] * (inputs[0] * inputs[1] + back[0] * back[1])


def _lstm_on_gpu(x: Any, weights: Any, *_: Any, **__: Any) -> int:
    return 2 * x[0] * x[1] * sum(shape[0] * shape[1] for shape in weights if len(shape) == 2)


_RECURRENT = {
    torch.ops.aten.mkldnn_rnn_layer: _lstm_on_cpu,
    torch.ops.aten._cudnn_rnn: _lstm_on_gpu,
}
