"""One position of many rows at once, each row at a position of its own: the arithmetic of `MusicLM` and `MusicGen` in
the fixed shapes that a captured graph needs. Weights are the modules' own.

What a layer adds is summed by the product that makes it (`addmm_`): one kernel fewer, one rounding fewer.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from audiogen.lm.model import MusicLM
from audiogen.lm.musicgen import MusicGen, MusicGenState, sinusoids
from audiogen.lm.pool import Pool, Rows, Sizes, Slot
from audiogen.lm.score import NUM_LANES
from audiogen.lm.transformer import KVState


class Batched(Protocol):
    """What a `GraphedEngine` asks of an architecture."""

    sizes: Sizes
    num_lanes: int

    def lengths(self, prefix: Tensor) -> tuple[int, int]:
        """Prefix `[R, L, D]` → tokens of it that stand before the positions, and that are a text apart."""
        ...

    def write_prefix(self, prefix: Tensor, pool: Pool, slot: Slot) -> None:
        """Put the keys and values of a prefix `[R, L, D]` into a slot."""
        ...

    def state(self, pool: Pool, slot: Slot) -> Any:
        """What a slot remembers as the module's own state, in place."""
        ...

    def step(self, codes: Tensor, lanes: Tensor, rows: Rows) -> Tensor:
        """Codes `[R, K]`, lanes `[R, N]` → logits `[R, K · V]`; keys and values are written."""
        ...


class BatchedMusicLM:
    """A `MusicLM` with a Transformer."""

    def __init__(self, model: MusicLM) -> None:
        config = model.config.transformer
        self.model, self.num_lanes = model, NUM_LANES
        prefix = model.prefix.length
        self.sizes = Sizes(config.depth, config.kv_heads, config.head_dim, config.window_frames, prefix)
        device, quarter = model.heads.weight.device, config.head_dim // 4
        order = torch.arange(config.head_dim, device=device)
        self._swapped = torch.cat([order[: 2 * quarter], order[3 * quarter :], order[2 * quarter : 3 * quarter]])
        turned = torch.arange(config.heads + 2 * config.kv_heads, device=device) < config.heads + config.kv_heads
        self._turned = turned[:, None]

    def lengths(self, prefix: Tensor) -> tuple[int, int]:
        return prefix.shape[1], 0

    def write_prefix(self, prefix: Tensor, pool: Pool, slot: Slot) -> None:
        self.model.set_prefix(prefix, self.state(pool, slot))

    def state(self, pool: Pool, slot: Slot) -> KVState:
        return KVState(*pool.memory(slot), slot.told, slot.position)

    def step(self, codes: Tensor, lanes: Tensor, rows: Rows) -> Tensor:
        model, trunk = self.model, self.model.transformer
        blocks: Any = trunk.blocks
        size, heads = self.sizes.head_dim, trunk.config.heads
        h = model._embed(codes[:, :, None], lanes[:, None])[:, 0]
        cos, sin = self._turns(rows.frame, h.dtype)
        for layer, block in enumerate(blocks):
            parts = block.attention.qkv(block.norm1(h)).unflatten(1, (-1, size))
            parts = torch.addcmul(parts * cos, parts.index_select(2, self._swapped), sin)
            mixed = rows.attend(layer, parts[:, :heads], parts[:, heads:])
            h.addmm_(mixed, block.attention.out.weight.T)
            gate, up = block.gate_up(block.norm2(h)).chunk(2, -1)
            h.addmm_(F.silu(gate) * up, block.down.weight.T)
        return model.heads(trunk.norm(h))  # type: ignore[no-any-return]

    def _turns(self, frame: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """What a head of queries, keys and values and its swapped copy are multiplied with, each `[R, heads, hd]`: the
        first half stays, the second turns, of queries and keys only; float64 until the last moment."""
        angles = frame.double()[:, None] * self.model.transformer.frequencies
        cos, sin = angles.cos(), angles.sin()
        still = torch.ones_like(cos)
        by = torch.cat([still, still, cos, cos], 1)[:, None]
        across = torch.cat([0 * still, 0 * still, -sin, sin], 1)[:, None]
        return torch.where(self._turned, by, 1.0).to(dtype), torch.where(self._turned, across, 0.0).to(dtype)


class BatchedMusicGen:
    """A `MusicGen`; a stream has one window of positions, after its melody where there is one."""

    num_lanes = 0

    def __init__(self, model: MusicGen) -> None:
        config = model.config
        self.model = model
        self._melody = config.melody_frames > 0
        ring = config.window_frames + max(config.delays) + 1
        text_heads = 0 if self._melody else config.heads
        size = config.dim // config.heads
        self.sizes = Sizes(config.depth, config.heads, size, ring, config.melody_frames, text_heads)
        books = torch.arange(config.num_codebooks, device=model.heads.weight.device)
        self._offsets = books * (config.codebook_size + 1)

    def lengths(self, prefix: Tensor) -> tuple[int, int]:
        return (prefix.shape[1], 0) if self._melody else (0, prefix.shape[1])

    def write_prefix(self, prefix: Tensor, pool: Pool, slot: Slot) -> None:
        mine, made = self.state(pool, slot), self.model._state(prefix, 0)
        for there, here in zip([*mine.keys, *mine.values], [*made.keys, *made.values], strict=True):
            there[:, :, : slot.told] = here
        for pair, said in zip(mine.text, made.text, strict=True):
            pair[0][:], pair[1][:] = said

    def state(self, pool: Pool, slot: Slot) -> MusicGenState:
        return MusicGenState(*pool.memory(slot), pool.heard(slot), slot.told + slot.position)

    def step(self, codes: Tensor, lanes: Tensor, rows: Rows) -> Tensor:
        model, heads, size = self.model, self.sizes.kv_heads, self.sizes.head_dim
        blocks: Any = model.blocks
        h = model.codes(codes + self._offsets).sum(1)
        h += sinusoids(rows.position, h.shape[1]).to(h.dtype)
        for layer, block in enumerate(blocks):
            parts = block.qkv(block.norm1(h)).unflatten(1, (-1, size))
            h.addmm_(rows.attend(layer, parts[:, :heads], parts[:, heads:]), block.out.weight.T)
            if self.sizes.text_heads:
                q = block.text_q(block.norm2(h)).unflatten(1, (-1, size))
                h.addmm_(rows.read_text(layer, q), block.text_out.weight.T)
            h.addmm_(F.gelu(block.up(block.norm3(h))), block.down.weight.T)
        return model.heads(model.norm(h))  # type: ignore[no-any-return]
