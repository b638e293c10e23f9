"""A decoder-only Transformer whose prefix stays apart: RMSNorm, SwiGLU, partial RoPE, grouped queries, sliding window.

The prefix attends to itself only, so its keys and values do not depend on the frames and can be swapped mid-stream.
Half of each head is rotated (Su et al. 2021); prefix keys are zero there, so no frame is near to or far from the
prefix, however long the stream. Grouped-query attention: Ainslie et al. 2023; SwiGLU: Shazeer 2020.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiogen.config import Config
from audiogen.lm import fused

_STRETCH = 128
"""rows of attention computed together on the CPU"""


class TransformerConfig(Config):
    """Sizes of the Transformer."""

    dim: int = 384
    depth: int = 8
    heads: int = 6
    kv_heads: int = 2
    hidden: int = 1024
    window_frames: int = 512
    rope_base: float = 10_000.0

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads

    def model_post_init(self, context: object, /) -> None:
        if self.dim % self.heads or self.heads % self.kv_heads or self.head_dim % 4:
            raise ValueError(
                f"dim {self.dim} must be heads {self.heads} times a multiple of 4, and heads a multiple of kv_heads "
                f"{self.kv_heads}"
            )


@dataclass
class KVState:
    """Keys and values `[B, kv_heads, L + window, head_dim]` a layer: the prefix first, then a ring of frames."""

    keys: list[Tensor]
    values: list[Tensor]
    prefix_length: int
    position: int = 0


class Attention(nn.Module):
    """Grouped queries; the weights alone, the positions are the Transformer's."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        size = config.head_dim
        self.qkv = nn.Linear(config.dim, (config.heads + 2 * config.kv_heads) * size, bias=False)
        self.out = nn.Linear(config.dim, config.dim, bias=False)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`[B, T, D]` → queries `[B, H, T, hd]`, keys and values `[B, KV, T, hd]`, not rotated."""
        config = self.config
        parts = self.qkv(x).unflatten(2, (-1, config.head_dim)).transpose(1, 2)
        return parts.split((config.heads, config.kv_heads, config.kv_heads), 1)  # type: ignore[return-value]


class Block(nn.Module):
    """Attention and feed-forward, each normalised before."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.norm1, self.attention = nn.RMSNorm(config.dim, eps=1e-6), Attention(config)
        self.norm2 = nn.RMSNorm(config.dim, eps=1e-6)
        self.gate_up = nn.Linear(config.dim, 2 * config.hidden, bias=False)
        self.down = nn.Linear(config.hidden, config.dim, bias=False)

    def forward(self, h: Tensor, length: int, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        """A prefix of `length` and frames, `[B, L + T, D]`, the frames' angles, and who may look where."""
        config, attention = self.attention.config, self.attention
        if fused.serves(h, config.dim, config.hidden):
            at = fused.Positions(length, config.window_frames, config.heads, config.kv_heads, cos, sin)
            return fused.block(
                h.float(), at, self.norm1.weight, attention.qkv.weight, attention.out.weight, self.norm2.weight,
                self.gate_up.weight, self.down.weight,
            )  # fmt: skip
        q, k, v = self.attention.project(self.norm1(h))
        q = torch.cat([q[:, :, :length], _rotate(q[:, :, length:], cos, sin)], 2)
        k = torch.cat([_blank(k[:, :, :length]), _rotate(k[:, :, length:], cos, sin)], 2)
        return self.feed_forward(h + self.attention.out(_masked(q, k.to(q.dtype), v.to(q.dtype), mask)))

    def feed_forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(self.norm2(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


class Transformer(nn.Module):
    """Hidden states of frames under a prefix; `step` repeated equals `forward`."""

    frequencies: Tensor

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.RMSNorm(config.dim, eps=1e-6)
        pairs = config.head_dim // 4
        frequencies = config.rope_base ** -(torch.arange(pairs, dtype=torch.float64) / pairs)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def _apply(self, fn: object, recurse: bool = True) -> Transformer:
        frequencies = self.frequencies  # angles stay in float64 whatever the weights become
        super()._apply(fn, recurse)  # type: ignore[arg-type]
        self.frequencies = frequencies.to(self.norm.weight.device)
        return self

    def _turns(self, start: int, count: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """cos and sin of the angles of positions, `[count, head_dim / 4]`; float64 until the last moment."""
        positions = torch.arange(start, start + count, dtype=torch.float64, device=self.frequencies.device)
        angles = positions[:, None] * self.frequencies
        return angles.cos().to(dtype), angles.sin().to(dtype)

    def forward(self, x: Tensor, prefix: Tensor) -> Tensor:
        """Frames `[B, T, D]` from position 0, prefix `[B, L, D]` → hidden states `[B, T, D]`."""
        length, frames = prefix.shape[1], x.shape[1]
        cos, sin = self._turns(0, frames, torch.float32)
        mask = self._mask(length, frames, x.device)
        h = torch.cat([prefix, x], 1)
        for block in self.blocks:
            h = block(h, length, cos, sin, mask)
        frames_only = h[:, length:]
        return fused.norm(frames_only, self.norm) if fused.serves(h, self.config.dim) else self.norm(frames_only)

    def _mask(self, length: int, frames: int, device: torch.device) -> Tensor:
        """True where a query (row) may look: prefix to prefix, frames to the prefix and back over the window."""
        position = torch.arange(-length, frames, device=device)
        query, key = position[:, None], position[None]
        near = (key <= query) & (key > query - self.config.window_frames)
        return (key < 0) | ((query >= 0) & near)

    def init_state(self, prefix: Tensor) -> KVState:
        """Prefix `[B, L, D]` → state before the first frame."""
        config, (batch, length, _) = self.config, prefix.shape
        shape = (batch, config.kv_heads, length + config.window_frames, config.head_dim)
        state = KVState(
            [prefix.new_zeros(shape) for _ in self.blocks], [prefix.new_zeros(shape) for _ in self.blocks], length
        )
        self.set_prefix(prefix, state)
        return state

    def set_prefix(self, prefix: Tensor, state: KVState) -> None:
        """Put the keys and values of another prefix of the same length in place; the frames stay."""
        h, length = prefix, state.prefix_length
        for block, keys, values in zip(self.blocks, state.keys, state.values, strict=True):
            q, k, v = block.attention.project(block.norm1(h))  # type: ignore[operator, union-attr]
            keys[:, :, :length], values[:, :, :length] = _blank(k), v
            mixed = _grouped(q, keys[:, :, :length], values[:, :, :length])
            h = h + block.attention.out(mixed)  # type: ignore[union-attr, operator]
            h = block.feed_forward(h)  # type: ignore[operator]

    def step(self, x: Tensor, state: KVState) -> Tensor:
        """One frame `[B, 1, D]` → hidden state `[B, 1, D]`; the state advances by one."""
        window, length = self.config.window_frames, state.prefix_length
        slot = length + state.position % window
        filled = length + min(state.position + 1, window)
        cos, sin = self._turns(state.position, 1, x.dtype)
        h = x
        for block, keys, values in zip(self.blocks, state.keys, state.values, strict=True):
            q, k, v = block.attention.project(block.norm1(h))  # type: ignore[operator, union-attr]
            keys[:, :, slot : slot + 1], values[:, :, slot : slot + 1] = _rotate(k, cos, sin), v
            mixed = _grouped(_rotate(q, cos, sin), keys[:, :, :filled], values[:, :, :filled])
            h = h + block.attention.out(mixed)  # type: ignore[union-attr, operator]
            h = block.feed_forward(h)  # type: ignore[operator]
        state.position += 1
        return self.norm(h)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the second half of each head: `[..., T, hd]`, cos and sin `[T, hd / 4]`."""
    plain, turned = x.chunk(2, -1)
    a, b = turned.chunk(2, -1)
    return torch.cat([plain, (a * cos - b * sin).to(x.dtype), (a * sin + b * cos).to(x.dtype)], -1)


def _blank(keys: Tensor) -> Tensor:
    """Prefix keys: zero where frames are rotated."""
    half = keys.shape[-1] // 2
    return torch.cat([keys[..., :half], torch.zeros_like(keys[..., half:])], -1)


def _masked(q: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Attention under a mask `[T, N]`, `[B, H, T, hd]` over `[B, KV, N, hd]` → `[B, T, H · hd]`.

    Spelled out on the CPU: forward and backward take half the time of PyTorch's fused kernel in bf16 (25 against 53 ms
    for 4 × 6 × 524 × 64). Rows go a stretch at a time, over the keys that any of them may look at: what lies ahead or
    behind the window is not computed (2,048 frames under a window of 512 take 0.4 of the time). It needs the memory of
    these scores, which a GPU's kernels avoid.
    """
    batch, heads, frames, size = q.shape
    groups = keys.shape[1]
    if q.is_cuda:
        keys, values = (part.repeat_interleave(heads // groups, 1) for part in (keys, values))
        return F.scaled_dot_product_attention(q, keys, values, attn_mask=mask).transpose(1, 2).flatten(2)
    bias = torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, float("-inf"))
    parts = []
    for first in range(0, frames, _STRETCH):
        last = min(first + _STRETCH, frames)
        seen = _columns(mask[first:last])
        own_keys, own_values = (_cut(part, seen, 2) for part in (keys, values))
        own_bias = _cut(bias[first:last], seen, 1)
        folded = (q[:, :, first:last] * size**-0.5).reshape(batch, groups, -1, size)
        scores = (folded @ own_keys.transpose(2, 3)).view(batch, groups, -1, *own_bias.shape)
        shares = torch.softmax(scores + own_bias, -1, dtype=torch.float32).to(values.dtype)
        mixed = shares.view(batch, groups, -1, own_bias.shape[1]) @ own_values
        parts.append(mixed.view(batch, heads, last - first, size))
    return torch.cat(parts, 2).transpose(1, 2).flatten(2)


def _columns(mask: Tensor) -> list[tuple[int, int]]:
    """Of a stretch of rows `[T, N]`: the keys that any of them looks at, as (first, last + 1) of each run of them."""
    edges = torch.diff(F.pad(mask.any(0).int(), (1, 1))).nonzero()[:, 0].tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


def _cut(tensor: Tensor, runs: list[tuple[int, int]], dim: int) -> Tensor:
    if len(runs) == 1:
        return tensor.narrow(dim, runs[0][0], runs[0][1] - runs[0][0])
    return torch.cat([tensor.narrow(dim, first, last - first) for first, last in runs], dim)


def _grouped(q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attention without a mask, `[B, H, T, hd]` over `[B, KV, N, hd]` → `[B, T, H · hd]`.

    The group is folded into the query length: with `enable_gqa` PyTorch leaves its fast path, ten times slower in bf16.
    """
    batch, heads, frames, size = q.shape
    folded = q.reshape(batch, keys.shape[1], -1, size)
    mixed = F.scaled_dot_product_attention(folded, keys, values)
    return mixed.reshape(batch, heads, frames, size).transpose(1, 2).flatten(2)
