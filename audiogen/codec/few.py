"""The decoder's layers for the few rows of one frame, on a CPU: compiled, their weights in int8 as they are stored.

A stream that is decoded frame by frame spends its time reading weights; as int8 with a scale a row they are a quarter
of the bytes and the same numbers (`few.c`). Without a compiler, for more rows, and for weights that were stored in
another way, PyTorch does it.
"""

from __future__ import annotations

import ctypes
from ctypes import c_float, c_int, c_int32, c_void_p
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
    scale = (weight.abs().amax(1) / 127).half().clamp_min(2**-24).float()
    found = (weight / scale[:, None]).round().clamp(-127, 127)
    return (found.to(torch.int8), scale) if torch.equal(found * scale[:, None], weight) else None


class FewRows:
    """A linear layer whose weights stay as they are now."""

    def __init__(self, layer: nn.Linear) -> None:
        self._layer, self.usable = layer, False
        found = levels(layer.weight.detach())
        self._library: Any = few()
        if found and not layer.out_features % _LANES and not isinstance(self._library, NoKernel):
            self._levels = found[0].unflatten(0, (-1, _LANES)).transpose(1, 2).contiguous()
            self._kept = self._levels, found[1], layer.bias.detach().clone()
            self.told = _Linear(*(part.data_ptr() for part in self._kept), layer.in_features, layer.out_features)
            self.usable = True

    def __call__(self, x: Tensor) -> Tensor:
        """`[..., in]` → `[..., out]`, without gradient."""
        rows = x.numel() // max(1, x.shape[-1])
        if not self.usable or not _serves(x, rows):
            return F.linear(x, self._layer.weight, self._layer.bias)
        x, out = x.contiguous(), x.new_empty(*x.shape[:-1], self._layer.out_features)
        self._library.linear(ctypes.byref(self.told), c_void_p(x.data_ptr()), c_void_p(out.data_ptr()), c_int(rows))
        return out


class FewRowsBlock:
    """A ConvNeXt block whose weights stay as they are now; of one stream."""

    def __init__(self, mix: nn.Conv1d, norm: nn.LayerNorm, up: nn.Linear, down: nn.Linear, scale: Tensor) -> None:
        self._inner = FewRows(up), FewRows(down)
        self._library: Any = few()
        self.usable = all(layer.usable for layer in self._inner) and not len(scale) % _LANES
        if self.usable:
            taps = mix.weight.detach()[:, 0].T.contiguous()
            others = (mix.bias, norm.weight, norm.bias, scale)
            self._kept = [taps, *(part.detach().clone() for part in others if part is not None)]
            pointers = [part.data_ptr() for part in self._kept]
            self._told = _Block(*(layer.told for layer in self._inner), *pointers, len(scale), len(taps), norm.eps)

    def __call__(self, seen: Tensor, rows: int) -> Tensor | None:
        """`[1, taps - 1 + rows, dim]` → `[1, rows, dim]`, without gradient; None where PyTorch is to do it."""
        if not self.usable or len(seen) != 1 or not _serves(seen, rows):
            return None
        seen, out = seen.contiguous(), seen.new_empty(1, rows, seen.shape[2])
        failed = self._library.convnext(
            ctypes.byref(self._told), c_void_p(seen.data_ptr()), c_void_p(out.data_ptr()), c_int(rows)
        )
        return None if failed else out


def _serves(x: Tensor, rows: int) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32 and 0 < rows <= MOST_ROWS
