"""The decoder's layers for the few rows of one frame, on a CPU: compiled, their weights in int8 as they are stored.

A stream that is decoded frame by frame spends its time reading weights; as int8 with a scale a row they are a quarter
of the bytes and the same numbers (`few.c`). Without a compiler, for more rows, and for weights that were stored in
another way, PyTorch does it.
"""

from __future__ import annotations

import ctypes
from ctypes import c_float, c_int, c_int32, c_void_p
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiogen.compiler import NoKernel, few

MOST_ROWS = 32
_LANES = 16


class _Linear(ctypes.Structure):
    _fields_ = (("levels", c_void_p), ("scale", c_void_p), ("bias", c_void_p), ("in_", c_int32), ("out", c_int32))


class _Block(ctypes.Structure):
    _fields_ = (
        ("up", _Linear), ("down", _Linear),
        *((name, c_void_p) for name in ("mix", "mix_bias", "gain", "shift", "scale")),
        ("dim", c_int32), ("taps", c_int32), ("epsilon", c_float),
    )  # fmt: skip


def levels(weight: Tensor) -> tuple[Tensor, Tensor] | None:
    """A matrix `[out, in]` as int8 and scales `[out]`, where it is exactly their product: as `storage` keeps it."""
    weight = weight.detach()
    scale = (weight.abs().amax(1) / 127).half().clamp_min(2**-24).float()
    found = (weight / scale[:, None]).round().clamp(-127, 127)
    return (found.to(torch.int8), scale) if torch.equal(found * scale[:, None], weight) else None


class FewRows:
    """A linear layer whose weights stay as they are now; they are packed when the first few rows come."""

    def __init__(self, layer: nn.Linear) -> None:
        self._layer = layer

    @cached_property
    def told(self) -> _Linear | None:
        """Where the packed weights lie, or None where PyTorch is to do it."""
        layer = self._layer
        if layer.out_features % _LANES or isinstance(few(), NoKernel) or (found := levels(layer.weight)) is None:
            return None
        packed = found[0].unflatten(0, (-1, _LANES)).transpose(1, 2).contiguous()
        self._kept = packed, found[1], layer.bias.detach().clone()
        return _Linear(*(part.data_ptr() for part in self._kept), layer.in_features, layer.out_features)

    def __call__(self, x: Tensor) -> Tensor:
        """`[..., in]` → `[..., out]`, without gradient."""
        rows = x.numel() // max(1, x.shape[-1])
        if not _serves(x, rows) or self.told is None:
            return F.linear(x, self._layer.weight, self._layer.bias)
        library: Any = few()
        x, out = x.contiguous(), x.new_empty(*x.shape[:-1], self._layer.out_features)
        library.linear(ctypes.byref(self.told), c_void_p(x.data_ptr()), c_void_p(out.data_ptr()), c_int(rows))
        return out


class FewRowsBlock:
    """A ConvNeXt block whose weights stay as they are now; of one stream."""

    def __init__(self, mix: nn.Conv1d, norm: nn.LayerNorm, up: nn.Linear, down: nn.Linear, scale: Tensor) -> None:
        self._parts = mix, norm, scale
        self._inner = FewRows(up), FewRows(down)

    @cached_property
    def told(self) -> _Block | None:
        """Where all of it lies, or None where PyTorch is to do it."""
        mix, norm, scale = self._parts
        up, down = (layer.told for layer in self._inner)
        if up is None or down is None or len(scale) % _LANES:
            return None
        taps = mix.weight.detach()[:, 0].T.contiguous()
        others = (mix.bias, norm.weight, norm.bias, scale)
        self._kept = [taps, *(part.detach().clone() for part in others if part is not None)]
        return _Block(up, down, *(part.data_ptr() for part in self._kept), len(scale), len(taps), norm.eps)

    def __call__(self, seen: Tensor, rows: int) -> Tensor | None:
        """`[1, taps - 1 + rows, dim]` → `[1, rows, dim]`, without gradient; None where PyTorch is to do it."""
        if len(seen) != 1 or not _serves(seen, rows) or self.told is None:
            return None
        library: Any = few()
        seen, out = seen.contiguous(), seen.new_empty(1, rows, seen.shape[2])
        failed = library.convnext(
            ctypes.byref(self.told), c_void_p(seen.data_ptr()), c_void_p(out.data_ptr()), c_int(rows)
        )
        return None if failed else out


def _serves(x: Tensor, rows: int) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32 and 0 < rows <= MOST_ROWS
