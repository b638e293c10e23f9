"""Keys and values of many streams in one block of memory, as a captured graph needs them: no shape, no address changes.

A slot is two rows, with the prompt and without. A row is its prefix, which ends at place `before`, then a ring of
positions, then places that nobody reads; rows that pause write to the last of those. What a row may see is a mask made
of its own numbers, so each row is somewhere else in its stream and nothing waits for the host.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_PIECE = 128


@dataclass(frozen=True)
class Sizes:
    """What a model's memory of a stream takes."""

    depth: int
    kv_heads: int
    head_dim: int
    ring: int
    """positions that are kept"""
    prefix: int
    """tokens that stand before every stream's positions"""
    text_heads: int = 0
    """0 for a model that does not attend to a text apart"""


@dataclass(eq=False)
class Slot:
    """What a stream owns of a pool."""

    index: int
    rows: int
    """1 without guidance: the second row is there and is not used"""
    told: int
    """tokens of its prefix"""
    said: int
    """tokens of its text"""
    position: int = 0


class Pool:
    """Memory of `slots` streams; what the two rows of slot s remember lies at 2s and 2s + 1.

    `kv` is `[2, 2 · slots, kv_heads, places, head_dim]` a layer: keys, values. `text`, where there is one, is
    `[2, 2 · slots, heads, said, head_dim]`, from the left.
    """

    def __init__(
        self, sizes: Sizes, slots: int, before: int, said: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        """Room for prefixes of `before` tokens and texts of `said`. All is zero: what is not there is finite, too."""
        self.sizes, self.slots, self.before, self.said = sizes, slots, before, said
        self.places = -(-(before + sizes.ring + 1) // _PIECE) * _PIECE
        rows, layers = 2 * slots, range(sizes.depth)
        shape = (2, rows, sizes.kv_heads, self.places, sizes.head_dim)
        self.kv = [torch.zeros(shape, dtype=dtype, device=device) for _ in layers]
        heard = (2, rows, sizes.text_heads, said, sizes.head_dim)
        self.text = [torch.zeros(heard, dtype=dtype, device=device) for _ in layers if sizes.text_heads]

    def copy_from(self, smaller: Pool) -> None:
        """Take over what all of its streams remember."""
        rows, shift, kept = 2 * smaller.slots, self.before - smaller.before, smaller.before + self.sizes.ring
        for mine, theirs in zip(self.kv, smaller.kv, strict=True):
            mine[:, :rows, :, shift : shift + kept] = theirs[:, :, :, :kept]
        for mine, theirs in zip(self.text, smaller.text, strict=True):
            mine[:, :rows, :, : smaller.said] = theirs

    def memory(self, slot: Slot) -> tuple[list[Tensor], list[Tensor]]:
        """Keys and values of one stream a layer, `[rows, kv_heads, told + ring, head_dim]`, in place: its prefix and
        its ring."""
        rows, start, stop = _rows(slot), self.before - slot.told, self.before + self.sizes.ring
        return [kv[0, rows, :, start:stop] for kv in self.kv], [kv[1, rows, :, start:stop] for kv in self.kv]

    def heard(self, slot: Slot) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of one stream's text a layer, `[rows, heads, said, head_dim]`, in place."""
        rows = _rows(slot)
        return [(text[0, rows, :, : slot.said], text[1, rows, :, : slot.said]) for text in self.text]


class Rows:
    """The rows of the first slots of a pool, at one position each: where they write and what they see."""

    def __init__(self, pool: Pool, frame: Tensor, told: Tensor, said: Tensor, active: Tensor) -> None:
        """Of each slot, int64 `[slots]`: positions so far, tokens of its prefix and of its text, whether it moves."""
        frame, told, said, active = (x[:, None].expand(-1, 2).flatten() for x in (frame, told, said, active))
        self._pool, self._count = pool, len(frame)
        self.frame, self.position = frame, told + frame
        device, dtype, ring = frame.device, pool.kv[0].dtype, pool.sizes.ring
        self._row = torch.arange(self._count, device=device)
        self._place = torch.where(active > 0, pool.before + frame % ring, pool.places - 1)
        place, filled = torch.arange(pool.places, device=device), (frame + 1).clamp(max=ring)
        seen = (place >= pool.before - told[:, None]) & (place < pool.before + filled[:, None])
        self._seen = _bias(seen, dtype)
        self._heard = _bias(torch.arange(pool.said, device=device) < said[:, None], dtype)

    def attend(self, layer: int, q: Tensor, kv: Tensor) -> Tensor:
        """Write keys and values `[R, 2 · kv_heads, hd]`, then let the queries `[R, H, hd]` look → `[R, H · hd]`.

        The values are summed in pieces: else a single multiprocessor would read all that a head of one row has.
        """
        memory = self._pool.kv[layer][:, : self._count]
        memory[:, self._row, :, self._place] = kv.unflatten(1, (2, -1))
        keys, values = memory
        grouped = q.unflatten(1, (keys.shape[1], -1))
        shares = _shares(grouped, keys, self._seen)
        pieces = shares.unflatten(3, (-1, _PIECE)).transpose(2, 3)
        return (pieces @ values.unflatten(2, (-1, _PIECE))).sum(2).flatten(1)

    def read_text(self, layer: int, q: Tensor) -> Tensor:
        """Queries `[R, H, hd]` over the text → `[R, H · hd]`."""
        keys, values = self._pool.text[layer][:, : self._count]
        return (_shares(q[:, :, None], keys, self._heard) @ values).flatten(1)


def _rows(slot: Slot) -> slice:
    return slice(2 * slot.index, 2 * slot.index + slot.rows)


def _shares(q: Tensor, keys: Tensor, bias: Tensor) -> Tensor:
    """`[R, KV, G, hd]` over `[R, KV, N, hd]` → `[R, KV, G, N]`.

    Spelled out: of PyTorch's fused kernels those that take a mask give each row and head one multiprocessor.
    """
    scores = q @ keys.transpose(2, 3)
    return torch.softmax(torch.add(bias, scores, alpha=q.shape[-1] ** -0.5), -1)


def _bias(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """`[R, N]` → what to add to scores, `[R, 1, 1, N]`."""
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, float("-inf"))[:, None, None]
