"""Training on the CPU in bfloat16: a block of the Transformer, RMSNorm and the heads' cross-entropy, their backward
passes written by hand.

PyTorch does the matrix products; all between two products is one pass of `fused.c` over the rows. Autograd spelled out
reads and writes the same rows ten times, which took three quarters of an update. What is kept for the backward pass is
kept in bfloat16, but for the residual stream. The plain spelling in `transformer.py` is the same arithmetic and serves
everything else: other precisions, GPUs, machines without a C compiler.
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import Function, once_differentiable
from torch.utils.flop_counter import register_flop_formula

from audiogen.compiler import NoKernel, fused

_BLOCK = 32
_VECTOR = 16
_EPSILON = 1e-6


def serves(x: Tensor, *widths: int) -> bool:
    """Whether these passes do what is asked: autocast to bfloat16 on the CPU, and rows of such widths."""
    return (
        type(x) in (Tensor, nn.Parameter)  # and not one that is only imagined
        and x.device.type == "cpu"
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        and not any(width % _VECTOR for width in widths)
        and not isinstance(fused(), NoKernel)
    )


class _Shape(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_int32) for name in ("batch", "positions", "prefix", "window", "heads", "kv_heads", "size")
    )


class Positions(NamedTuple):
    """What a block has to know of where its rows stand."""

    prefix: int
    window: int
    heads: int
    kv_heads: int
    cos: Tensor
    """`[T, head_dim / 4]`, float32, of the frames"""
    sin: Tensor


def _call(name: str, *arguments: Any) -> int:
    library: Any = fused()
    given = [
        ctypes.c_void_p(each.data_ptr()) if isinstance(each, Tensor)
        else ctypes.byref(each) if isinstance(each, ctypes.Structure)
        else ctypes.c_float(each) if isinstance(each, float) else each
        for each in arguments
    ]  # fmt: skip
    return int(getattr(library, name)(*given, torch.get_num_threads()))


def _call_with_room(name: str, *arguments: Any) -> None:
    if not _call(name, *arguments):
        raise MemoryError("out of memory")


def _half(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.bfloat16)


def _turned(rows: int, width: int) -> Tensor:
    """Room for a turned matrix; its rows are padded."""
    return _half(width, -(-rows // _BLOCK) * _BLOCK)


def _weight_gradient(turned_input: Tensor, gradient: Tensor, kind: torch.dtype) -> Tensor:
    """Input `[inputs, rows]`, gradient of the output `[rows, outputs]` → of the weight `[outputs, inputs]`."""
    product = torch.mm(turned_input[:, : len(gradient)], gradient)
    found = torch.empty(product.shape[::-1])
    _call("turn_to_float", product, found, *product.shape)
    return found.to(kind)


def _normed(x: Tensor, gain: Tensor, more: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows of float32, and what to add to them → their sum, it normalised, the same turned, 1 / rms."""
    rows, width = x.shape
    total = x if more is None else torch.empty_like(x)
    y, turned, inverse = _half(rows, width), _turned(rows, width), torch.empty(rows)
    _call("norm_forward", x, more, gain, total, y, turned, inverse, rows, width, _EPSILON)
    return total, y, turned, inverse


def _norm_gradient(
    dy: Tensor, x: Tensor, inverse: Tensor, gain: Tensor, before: Tensor | None = None,
    rounded: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """→ gradients of x, with what came `before` added, and of the gain; `rounded` is room for the first in bfloat16, as
    it is and turned."""
    rows, width = x.shape
    dx, dgain = torch.empty_like(x), torch.empty(width)
    near, turned = rounded or (None, None)
    parts = torch.empty(-(-rows // _BLOCK), width)
    _call("norm_backward", dy, x, inverse, gain, before, dx, near, turned, parts, dgain, rows, width)
    return dx, dgain


class _Norm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1]).float()
        _, y, _, inverse = _normed(rows, gain)
        ctx.save_for_backward(rows, gain, inverse)
        ctx.kind = x.dtype
        return y.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor]:
        rows, gain, inverse = ctx.saved_tensors
        given = dy.reshape(rows.shape).bfloat16()
        dx, dgain = _norm_gradient(given, rows, inverse, gain)
        return dx.view(dy.shape).to(ctx.kind), dgain


def norm(x: Tensor, module: nn.RMSNorm) -> Tensor:
    """`[..., D]` → normalised, in bfloat16."""
    return _Norm.apply(x, module.weight)  # type: ignore[no-any-return, no-untyped-call]


def _shape(q: Tensor, k: Tensor, prefix: int, window: int) -> _Shape:
    batch, heads, count, size = q.shape
    return _Shape(batch, count, prefix, window, heads, k.shape[1], size)


@torch.library.custom_op("audiogen::attend", mutates_args=())
def _attend(q: Tensor, k: Tensor, v: Tensor, prefix: int, window: int) -> tuple[Tensor, Tensor]:
    """Queries `[B, H, P, hd]`, keys, values `[B, KV, P, hd]` → mixtures like the queries, log Σ exp of the scores."""
    mixed, total = torch.empty_like(q), torch.empty(q.shape[:3])
    _call_with_room("attend_forward", q, k, v, mixed, total, _shape(q, k, prefix, window))
    return mixed, total


@register_flop_formula(torch.ops.audiogen.attend)  # type: ignore[untyped-decorator]
def _attend_operations(q: Any, k: Any, v: Any, prefix: int, window: int, **_: Any) -> int:
    """Of the blocks of scores that `attention.h` computes."""
    batch, heads, count, size = q
    starts = range(0, count, _BLOCK)
    blocks = sum(
        key < prefix or query - window < key + _BLOCK - 1 < query + 2 * _BLOCK - 1 for key in starts for query in starts
    )
    return int(4 * batch * heads * size * _BLOCK**2 * blocks)


def _part_heads(qkv: Tensor, batch: int, at: Positions) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of queries, keys and values → each `[B, heads, P, hd]`, turned, queries divided by √hd."""
    heads = (at.heads, at.kv_heads, at.kv_heads)
    size = qkv.shape[1] // sum(heads)
    q, k, v = (_half(batch, each, len(qkv) // batch, size) for each in heads)
    _call("part_heads", qkv, at.cos, at.sin, q, k, v, _shape(q, k, at.prefix, at.window))
    return q, k, v


def _attention_gradient(
    dmixed: Tensor, q: Tensor, k: Tensor, v: Tensor, mixed: Tensor, total: Tensor, at: Positions
) -> Tensor:
    """Gradient of the mixtures as rows `[B · P, D]` → of the rows of queries, keys and values."""
    given, dq, dk, dv = torch.empty_like(q), torch.empty_like(q), torch.empty(k.shape), torch.empty(k.shape)
    shape = _shape(q, k, at.prefix, at.window)
    _call("scatter_heads", dmixed, given, shape)
    _call_with_room("attend_backward", q, k, v, mixed, total, given, dq, dk, dv, shape)
    dqkv = _half(len(dmixed), (at.heads + 2 * at.kv_heads) * q.shape[3])
    _call("join_heads", dq, dk, dv, at.cos, at.sin, dqkv, shape)
    return dqkv


class _Block(Function):
    @staticmethod
    def forward(
        ctx: Any, h: Tensor, at: Positions, gain1: Tensor, qkv: Tensor, out: Tensor, gain2: Tensor, gate_up: Tensor,
        down: Tensor,
    ) -> Tensor:  # fmt: skip
        batch, dim, kind = len(h), h.shape[2], qkv.dtype
        qkv, out, gate_up, down = (weight.bfloat16() for weight in (qkv, out, gate_up, down))
        rows = h.reshape(-1, dim)
        _, y, turned1, inverse1 = _normed(rows, gain1)
        q, k, v = _part_heads(torch.mm(y, qkv.t()), batch, at)
        mixed, total = _attend(q, k, v, at.prefix, at.window)
        joined = _half(len(rows), dim)
        _call("gather_heads", mixed, joined, _shape(q, k, at.prefix, at.window))
        middle, y, turned2, inverse2 = _normed(rows, gain2, torch.mm(joined, out.t()))
        wide = torch.mm(y, gate_up.t())
        gated = _half(len(rows), down.shape[1])
        _call("swiglu_forward", wide, gated, *gated.shape)
        result = torch.empty_like(rows)
        _call("add", middle, torch.mm(gated, down.t()), result, *rows.shape)
        ctx.at, ctx.kind = at, kind
        ctx.save_for_backward(
            rows, inverse1, turned1, q, k, v, mixed, total, joined, middle, inverse2, turned2, wide, gated,
            gain1, qkv, out, gain2, gate_up, down,
        )  # fmt: skip
        return result.view(h.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh: Tensor) -> tuple[Tensor | None, ...]:
        (
            rows, inverse1, turned1, q, k, v, mixed, total, joined, middle, inverse2, turned2, wide, gated,
            gain1, qkv, out, gain2, gate_up, down,
        ) = ctx.saved_tensors  # fmt: skip
        given = dh.reshape(rows.shape)
        near, turned = torch.empty_like(joined), _turned(*rows.shape)
        _call("round_off", given, near, turned, *rows.shape)
        ddown = torch.mm(turned[:, : len(rows)], gated).to(ctx.kind)
        dwide = torch.empty_like(wide)
        _call("swiglu_backward", wide, torch.mm(near, down), dwide, *gated.shape)
        dgate_up = _weight_gradient(turned2, dwide, ctx.kind)
        dy = torch.mm(dwide, gate_up)
        dmiddle, dgain2 = _norm_gradient(dy, middle, inverse2, gain2, given, (near, turned))
        dout = torch.mm(turned[:, : len(rows)], joined).to(ctx.kind)
        dqkv = _attention_gradient(torch.mm(near, out), q, k, v, mixed, total, ctx.at)
        dqkv_weight = _weight_gradient(turned1, dqkv, ctx.kind)
        dy = torch.mm(dqkv, qkv)
        dx, dgain1 = _norm_gradient(dy, rows, inverse1, gain1, dmiddle)
        return dx.view(dh.shape), None, dgain1, dqkv_weight, dout, dgain2, dgate_up, ddown


def block(
    h: Tensor, at: Positions, norm1: Tensor, qkv: Tensor, out: Tensor, norm2: Tensor, gate_up: Tensor, down: Tensor
) -> Tensor:
    """A block of the Transformer over prefix and frames `[B, L + T, D]`, float32, and its weights."""
    return _Block.apply(h, at, norm1, qkv, out, norm2, gate_up, down)  # type: ignore[no-any-return, no-untyped-call]


class _CrossEntropy(Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, heads: Tensor, targets: Tensor, ignored: int) -> Tensor:
        rows, weight = hidden.reshape(-1, hidden.shape[-1]).bfloat16(), heads.bfloat16()
        books = targets.shape[1]
        aside = targets.transpose(1, 2).contiguous()
        logits, (totals, losses) = torch.mm(rows, weight.t()), torch.empty(2, len(rows), books)
        _call("entropy_forward", logits, aside, totals, losses, aside.numel(), len(heads) // books, ignored)
        ctx.save_for_backward(rows, weight, aside, totals)
        ctx.logits, ctx.ignored, ctx.kinds = logits, ignored, (hidden.dtype, heads.dtype)
        return losses.sum(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, targets, totals = ctx.saved_tensors
        gradient, ctx.logits = ctx.logits, None  # turned into it where they lie
        scales, books = given.float().contiguous(), len(given)
        size = len(weight) // books
        _call("entropy_backward", gradient, targets, totals, scales, books, totals.numel(), size, ctx.ignored)
        turned = _turned(*rows.shape)
        _call("turn", rows, turned, *rows.shape)
        dheads = _weight_gradient(turned, gradient, ctx.kinds[1])
        dhidden = torch.mm(gradient, weight).view(*targets.shape[:2], -1)
        return dhidden.to(ctx.kinds[0]), dheads, None, None


def cross_entropy(hidden: Tensor, heads: Tensor, targets: Tensor, ignored: int) -> Tensor:
    """Hidden states `[B, T, D]`, heads `[K · V, D]`, targets `[B, K, T]` → cross-entropy in nats, summed, `[K]`.

    Of logits only those in bfloat16 are kept, and their gradient takes their place.
    """
    return _CrossEntropy.apply(hidden, heads, targets, ignored)  # type: ignore[no-any-return, no-untyped-call]
