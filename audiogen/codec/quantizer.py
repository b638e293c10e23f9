"""Residual vector quantisation with codebooks that follow the data by moving averages.

Residual VQ: Zeghidour et al. 2021 (SoundStream), §III-C; moving averages: van den Oord et al. 2017, appendix A.1.
Codebooks start from data (k-means) and entries nobody uses are drawn anew from the residuals at hand: without both
they collapse to a few entries.
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
    bottleneck; and of a codec with oscillators their amplitude and deviation (`played`), and amplitude, deviation and
    clearness of the tones in the input (`heard`), each `[B, T, K]`."""

    samples: Tensor
    bottled: Bottled
    played: tuple[Tensor, ...] = ()
    heard: tuple[Tensor, ...] = ()


class ResidualVectorQuantizer(nn.Module):
    """K codebooks of V entries of dimension D, each coding what the ones before it left over."""

    codebooks: Tensor
    counts: Tensor
    sums: Tensor
    started: Tensor

    least_use = 0.35
    """share of the mean use below which an entry is drawn anew from the data, most often where the data are densest"""

    def __init__(self, num_codebooks: int, codebook_size: int, dim: int, decay: float = 0.98) -> None:
        super().__init__()
        self.input_dim = dim
        self.num_codebooks, self.codebook_size, self.decay = num_codebooks, codebook_size, decay
        self.register_buffer("codebooks", torch.randn(num_codebooks, codebook_size, dim))
        self.register_buffer("counts", torch.ones(num_codebooks, codebook_size))
        self.register_buffer("sums", torch.zeros(num_codebooks, codebook_size, dim))
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
                self._follow(level, residual.detach(), index, used[:, 0])
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
    def _follow(self, level: int, x: Tensor, index: Tensor, weight: Tensor) -> None:
        size = self.codebook_size
        count = torch.zeros(size, device=x.device).index_add_(0, index, weight)
        total = torch.zeros(size, x.shape[1], device=x.device).index_add_(0, index, x * weight[:, None])
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(count)
            torch.distributed.all_reduce(total)
        self.counts[level].lerp_(count, 1 - self.decay)
        self.sums[level].lerp_(total, 1 - self.decay)
        counts, sums = self.counts[level], self.sums[level]
        floor = self.least_use * counts.mean()
        dead = counts < floor
        if dead.any():
            draw = torch.randint(0, x.shape[0], (int(dead.sum()),), device=x.device)
            fresh = x[draw]
            if torch.distributed.is_available() and torch.distributed.is_initialized():
                torch.distributed.broadcast(fresh, 0)
            counts[dead] = counts.mean()
            sums[dead] = fresh * counts.mean()
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
