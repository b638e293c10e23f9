"""The delay pattern: codebook k runs k frames late, so each sees its coarser ones (Copet et al. 2023, fig. 1)."""

from __future__ import annotations

import torch
from torch import Tensor


def apply_delay(codes: Tensor, pad: int) -> Tensor:
    """`[B, K, T]` → delayed `[B, K, T + K - 1]`, holes filled with `pad`."""
    batch, books, frames = codes.shape
    delayed = codes.new_full((batch, books, frames + books - 1), pad)
    for book in range(books):
        delayed[:, book, book : book + frames] = codes[:, book]
    return delayed


def undo_delay(delayed: Tensor) -> Tensor:
    """Delayed `[B, K, T + K - 1]` → codes `[B, K, T]`. Raises ValueError when there is no whole frame."""
    books = delayed.shape[1]
    frames = delayed.shape[2] - books + 1
    if frames < 1:
        raise ValueError(f"{delayed.shape[2]} delayed positions hold no whole frame of {books} codebooks")
    return torch.stack([delayed[:, book, book : book + frames] for book in range(books)], 1)
