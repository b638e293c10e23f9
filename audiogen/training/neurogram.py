"""Likeness of what two ears would be told: the similarity that ViSQOL is built on, as a loss.

It reaches far below the other losses' floors, where a faint haze lies in what should be silent.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiogen.training.power_spectrum import PowerSpectrum

FLOOR = 45.0
"""how far below full scale, and below a frame's loudest band, is silence: tenfold logarithms of amplitude"""
LUMINANCE, STRUCTURE = 1e-4, 0.02
"""what keeps the two quotients finite; the second is larger than NSIM's 4.5e-4: a quarter of a decibel is not heard"""


class NeurogramLikeness(nn.Module):
    """NSIM (Hines and Harte 2012) of gammatone bands, as ViSQOL v3 has it in audio mode (Chinen et al. 2020).

    Bands are weighed on power spectra of a Hann window of 85 ms (ViSQOL: 80) with a hop of a quarter of it, instead of
    being filtered.
    """

    bands: Tensor
    around: Tensor

    def __init__(self, sample_rate: int, count: int = 32) -> None:
        super().__init__()
        size = 2 ** round(math.log2(4096 / 48_000 * sample_rate))
        hz = torch.linspace(0, sample_rate / 2, size // 2 + 1, dtype=torch.float64)[:, None]
        lowest, highest = (_erb_rate(torch.tensor(edge, dtype=torch.float64)) for edge in (50.0, 0.434 * sample_rate))
        rates = torch.linspace(float(lowest), float(highest), count, dtype=torch.float64)
        centres = (10 ** (rates / 21.4) - 1) / 0.00437
        width = 1.019 * 24.7 * (0.00437 * centres + 1)
        response = (1 + ((hz - centres) / width).square()) ** -4  # a gammatone of the fourth order, power
        window = torch.hann_window(size)
        mean_square = 2 / (size * float(window.square().sum()))
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("bands", (response * mean_square).float(), persistent=False)
        bell = torch.exp(-2 * torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64).square())  # a deviation of 1/2
        bell = bell / bell.sum()
        self.register_buffer("around", (bell[:, None] * bell)[None, None], persistent=False)

    def forward(self, mine: Tensor, theirs: Tensor) -> Tensor:
        """1 - NSIM of `[N, S]` float32, a mean over bands and frames."""
        levels = [
            5
            * (PowerSpectrum.apply(samples, self.window, len(self.bands)) @ self.bands + 10 ** (-FLOOR / 5))
            .log10()
            .double()
            for samples in (theirs.detach(), mine)
        ]
        floor = torch.maximum(*(level.detach().amax(2, keepdim=True) for level in levels)) - FLOOR
        a, b = (torch.maximum(level, floor)[:, None] + FLOOR for level in levels)  # [N, 1, frames, bands]
        mean_a, mean_b, aa, bb, ab = (self._near(x) for x in (a, b, a * a, b * b, a * b))
        luminance = (2 * mean_a * mean_b + LUMINANCE) / (mean_a.square() + mean_b.square() + LUMINANCE)
        both = (aa - mean_a.square()).clamp_min(0) * (bb - mean_b.square()).clamp_min(0)
        structure = (ab - mean_a * mean_b + STRUCTURE) / ((both + 1e-12).sqrt() + STRUCTURE)
        return (1 - luminance * structure).mean().float()

    def _near(self, levels: Tensor) -> Tensor:
        return F.conv2d(F.pad(levels, (1, 1, 1, 1), mode="replicate"), self.around)


def _erb_rate(hz: Tensor) -> Tensor:
    """Glasberg and Moore 1990."""
    return 21.4 * (1 + 0.00437 * hz).log10()
