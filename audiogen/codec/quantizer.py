"""Residual vector quantisation with codebooks that follow the data by moving averages.

Residual VQ: Zeghidour et al. 2021 (SoundStream), §III-C; moving averages: van den Oord et al. 2017, appendix A.1.
Codebooks start from data (k-means), and an entry nobody uses takes over half of the one that leaves the most over:
without both they collapse to a few entries (Fritzke 1997, LBG-U: an entry's utility is the error that it is worth).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Bottled(NamedTuple):
    """What passes a bottleneck: `latents` `[B, T, D]` (of a quantiser with straight-through gradients), `codes` int64
    `[B, K, T]`, and the scalar `cost` for the loss: a quantiser's commitment, or a divergence."""

    latents: Tensor
    codes: Tensor
    cost: Tensor


class Reconstruction(NamedTuple):
    """What a codec gives in training: audio aligned with the input's start, as long or shorter; what passed the
    bottleneck; and of a codec with oscillators their amplitude, their deviation and the amplitude of what else is
    played at their place (`played`), and amplitude, deviation and clearness of the tones in the input (`heard`), each
    `[B, T, K]`."""

    samples: Tensor
    bottled: Bottled
    played: tuple[Tensor, ...] = ()
    heard: tuple[Tensor, ...] = ()


class ResidualVectorQuantizer(nn.Module):
    """K codebooks of V entries of dimension D, each coding what the ones before it left over."""

    codebooks: Tensor
    counts: Tensor
    sums: Tensor
    left: Tensor
    started: Tensor

    least_use = 0.2
    """share of the mean use below which an entry is given up for half of another one"""

    def __init__(self, num_codebooks: int, codebook_size: int, dim: int, decay: float = 0.99) -> None:
        super().__init__()
        self.input_dim = dim
        self.num_codebooks, self.codebook_size, self.decay = num_codebooks, codebook_size, decay
        self.register_buffer("codebooks", torch.randn(num_codebooks, codebook_size, dim))
        self.register_buffer("counts", torch.ones(num_codebooks, codebook_size))
        self.register_buffer("sums", torch.zeros(num_codebooks, codebook_size, dim))
        self.register_buffer("left", torch.zeros(num_codebooks, codebook_size))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    @staticmethod
    def _nearest(x: Tensor, codebook: Tensor) -> Tensor:
        """`[N, D]`, `[V, D]` → index of the nearest entry, `[N]`."""
        return torch.addmm((codebook * codebook).sum(1)[None], x, codebook.T, alpha=-2.0).argmin(1)

    def encode(self, latents: Tensor) -> Tensor:
        """`[B, T, D]` → codes int64 `[B, K, T]`."""
        batch, frames, dim = latents.shape
        residual = latents.reshape(-1, dim).float()
        codes = []
        for codebook in self.codebooks:
            index = self._nearest(residual, codebook)
            residual = residual - codebook[index]
            codes.append(index)
        return torch.stack(codes).view(self.num_codebooks, batch, frames).transpose(0, 1)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes int64 `[B, k, T]`, 1 ≤ k ≤ K → latents `[B, T, D]`: the sum of the first k entries.

        They are added one by one, so that the sum is the same to the last bit however frames are batched.
        """
        batch, books, frames = codes.shape
        first = torch.arange(0, books * self.codebook_size, self.codebook_size, device=codes.device)
        rows = (codes.transpose(1, 2) + first).reshape(batch * frames, books)
        summed = F.embedding_bag(rows, self.codebooks.flatten(0, 1), mode="sum")
        return summed.view(batch, frames, self.codebooks.shape[2])

    def forward(self, latents: Tensor, levels: Tensor) -> Bottled:
        """Quantise `[B, T, D]` for training; `levels` int `[B]` says how many codebooks each item may use.

        Updates the codebooks when in training mode.
        """
        batch, frames, dim = latents.shape
        flat = latents.reshape(-1, dim).float()
        residual, total = flat, torch.zeros_like(flat)
        allowed = levels.repeat_interleave(frames)
        codes = []
        commitment = flat.new_zeros(())
        for level in range(self.num_codebooks):
            index = self._nearest(residual.detach(), self.codebooks[level])
            entry = self.codebooks[level][index]
            used = (allowed > level).float()[:, None]
            commitment = commitment + ((residual - entry).square() * used).mean()
            if self.training:
                self._follow(level, residual.detach(), entry, index, used[:, 0])
            residual = residual - entry
            total = total + entry * used
            codes.append(index)
        straight = flat + (total - flat).detach()
        return Bottled(
            straight.view(batch, frames, dim),
            torch.stack(codes).view(self.num_codebooks, batch, frames).transpose(0, 1),
            commitment / self.num_codebooks,
        )

    @torch.no_grad()
    def _follow(self, level: int, x: Tensor, entry: Tensor, index: Tensor, weight: Tensor) -> None:
        size, together = self.codebook_size, torch.distributed.is_available() and torch.distributed.is_initialized()
        error = (x - entry).square().sum(1) * weight
        seen = torch.cat([x * weight[:, None], weight[:, None], error[:, None]], 1)
        told = seen.new_zeros(size, seen.shape[1]).index_add_(0, index, seen)
        if together:
            torch.distributed.all_reduce(told)
        counts, sums, left = self.counts[level], self.sums[level], self.left[level]
        for average, now in ((sums, told[:, :-2]), (counts, told[:, -2]), (left, told[:, -1])):
            average.lerp_(now, 1 - self.decay)
        least = self.least_use * counts.mean()
        worth = left.masked_fill(counts < 3 * least, 0.0)  # halves stay in use
        unused = (counts < least).nonzero()[: int((worth > 0).sum()), 0]
        if len(unused):
            split = worth.topk(len(unused)).indices
            for average in (sums, counts, left):
                average[split] /= 2
                average[unused] = average[split]
            aside = torch.randn(len(unused), x.shape[1], device=x.device)
            if together:
                torch.distributed.broadcast(aside, 0)
            sums[unused] += aside * (0.1 * (left[split] * counts[split] / x.shape[1]).sqrt()[:, None])
        self.codebooks[level] = sums / counts.clamp_min(1e-6)[:, None]

    def _count(self, index: Tensor) -> Tensor:
        """How often each entry occurs in `index`, float32 `[V]`."""
        return torch.zeros(self.codebook_size, device=index.device).index_add_(0, index, torch.ones_like(index).float())

    @torch.no_grad()
    def start_from(self, latents: Tensor, rounds: int = 8) -> None:
        """Set every codebook by k-means over `[N, D]` latents, level after level. N must be at least V."""
        residual = latents.float()
        if residual.shape[0] < self.codebook_size:
            raise ValueError(f"{residual.shape[0]} latents cannot start codebooks of {self.codebook_size} entries")
        for level in range(self.num_codebooks):
            centres = residual[torch.randperm(residual.shape[0])[: self.codebook_size]].clone()
            for _ in range(rounds):
                index = self._nearest(residual, centres)
                count = self._count(index)
                total = torch.zeros_like(centres).index_add_(0, index, residual)
                filled = count > 0
                centres[filled] = total[filled] / count[filled, None]
                empty = int((~filled).sum())
                if empty:
                    centres[~filled] = residual[torch.randperm(residual.shape[0])[:empty]]
            index = self._nearest(residual, centres)
            count = self._count(index).clamp_min(0.5)
            count *= 1.0 / count.mean()
            self.codebooks[level], self.counts[level] = centres, count
            self.sums[level] = centres * count[:, None]
            residual = residual - centres[index]
        self.started.fill_(True)


def perplexity(codes: Tensor, codebook_size: int) -> Tensor:
    """Codes `[B, K, T]` → how many entries of each codebook are in use, evenly counted: `[K]`, 1 … codebook_size."""
    counts = torch.stack([torch.bincount(row, minlength=codebook_size) for row in codes.transpose(0, 1).flatten(1)])
    share = counts / counts.sum(1, keepdim=True)
    return torch.exp(-(share * share.clamp_min(1e-12).log()).sum(1))
