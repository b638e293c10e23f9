"""How a recording sounds whatever it plays: level, true peak, stereo width, bandwidth, clicks, how it ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from audiogen.audio.features import loudness_lufs
from audiogen.audio.io import resample
from audiogen.interfaces import Waveform

MONO_DB = -80.0
"""width of a recording whose two sides are the same"""
QUIETEST_LUFS = -99.0
"""loudness of silence"""

_OVERSAMPLING = 4
_BLOCK_SECONDS = 10.0
_MARGIN_SAMPLES = 64
_WINDOW = 4096
_AUDIBLE_DB = -75.0  # a third of an octave, of the whole
_CLICK = 0.05  # second difference, of full scale
_ALONE = 8.0  # times as large as what is around it
_NEAR, _FAR = 4, 64  # samples
_END_SECONDS = 0.25


@dataclass(frozen=True)
class Sound:
    """`width_db` is the power of the side over that of the mid channel; `bandwidth_hz` the upper edge of the highest
    third of an octave within 75 dB of the whole; `ending_db` the level of the last quarter of a second over that of the
    whole."""

    loudness_lufs: float
    true_peak_db: float
    width_db: float
    bandwidth_hz: float
    clicks: int
    ending_db: float


def measure_sound(waveform: Waveform) -> Sound:
    """Measure a recording of half a second or more. Silence gives the lowest of each."""
    samples, rate = waveform.samples.detach().float().cpu(), waveform.sample_rate
    left, right = samples[0], samples[-1]
    mid, side = ((left + sign * right).double().square().mean() / 4 for sign in (1, -1))
    width = 10 * float(torch.log10((side + 1e-14) / (mid + 1e-14)))
    end = samples[:, max(0, samples.shape[1] - round(_END_SECONDS * rate)) :]
    power, last = (float(part.double().square().mean()) for part in (samples, end))
    return Sound(
        max(loudness_lufs(waveform), QUIETEST_LUFS),
        20 * float(np.log10(max(_true_peak(waveform), 1e-6))),
        max(width, MONO_DB) if power > 1e-12 else MONO_DB,
        _bandwidth_hz(samples.mean(0), rate),
        sum(_clicks(channel) for channel in samples),
        10 * float(np.log10((last + 1e-12) / (power + 1e-12))),
    )


def _true_peak(waveform: Waveform) -> float:
    """Largest absolute value between the samples too (ITU-R BS.1770-4, annex 2: four-fold oversampling)."""
    rate, block = waveform.sample_rate, round(_BLOCK_SECONDS * waveform.sample_rate)
    padded = F.pad(waveform.samples.float(), (_MARGIN_SAMPLES, _MARGIN_SAMPLES))
    peak = 0.0
    for start in range(0, waveform.samples.shape[1], block):
        part = padded[:, start : start + block + 2 * _MARGIN_SAMPLES]
        louder = resample(Waveform(part, rate), _OVERSAMPLING * rate).samples
        inner = louder[:, _OVERSAMPLING * _MARGIN_SAMPLES : louder.shape[1] - _OVERSAMPLING * _MARGIN_SAMPLES]
        peak = max(peak, float(inner.abs().max()) if inner.numel() else 0.0)
    return peak


def _bandwidth_hz(mono: torch.Tensor, rate: int) -> float:
    if len(mono) < _WINDOW:
        mono = F.pad(mono, (0, _WINDOW - len(mono)))
    window = torch.hann_window(_WINDOW)
    spectrum = torch.stft(mono, _WINDOW, _WINDOW // 2, window=window, center=False, return_complex=True)
    power = spectrum.abs().square().mean(1).double()
    total = float(power.sum())
    if total < 1e-12:
        return 0.0
    edges = 50 * 2 ** (np.arange(0, 40) / 3)
    edges = edges[edges < rate / 2]
    bins = np.rint(edges * _WINDOW / rate).astype(int)
    audible = [
        high
        for first, last, high in zip(bins[:-1], bins[1:], edges[1:], strict=True)
        if float(power[first : max(last, first + 1)].sum()) > total * 10 ** (_AUDIBLE_DB / 10)
    ]
    return float(audible[-1]) if audible else float(edges[0])


def _clicks(channel: torch.Tensor) -> int:
    """Jumps that stand alone: the second difference is large and much larger than up to 64 samples to both sides."""
    jumps = channel.diff(n=2).abs()
    if len(jumps) < 2 * _FAR + 1:
        return 0
    near = F.max_pool1d(jumps[None, None], 2 * _NEAR + 1, 1, _NEAR)[0, 0]
    side = F.max_pool1d(jumps[None, None], _FAR - _NEAR, 1)[0, 0]  # of the samples from each one on
    inner = slice(_FAR, len(jumps) - _FAR)
    before = side[: len(jumps) - 2 * _FAR]
    after = side[_FAR + _NEAR + 1 :][: len(jumps) - 2 * _FAR]
    around = torch.maximum(before[: len(after)], after)
    here = jumps[inner][: len(after)]
    alone = (here > _CLICK) & (here == near[inner][: len(after)]) & (here > _ALONE * around)
    return int(alone.sum())
