"""Power in each semitone from C1 to B7, in decibels: what harmony and pitched instruments are heard in.

Low notes need long windows and high ones change quickly, so each range has its own, as in a constant-Q transform
(Brown 1991) made of three short-time Fourier transforms.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from audiogen.audio.io import resample, to_channels
from audiogen.interfaces import AudiogenError, Waveform

if TYPE_CHECKING:
    from torch import Tensor

SEMITONES = 84
FRAME_RATE = 12.5  # Hz
_RATE = 12_000
_HOP = 960
_LOWEST_HZ = 440 * 2 ** (-45 / 12)  # C1
_WINDOWS = ((8192, 0, 31), (4096, 31, 55), (2048, 55, 84))  # samples; the semitones for which each is used
_FLOOR = 1e-13  # power


def semitone_levels(waveform: Waveform) -> Tensor:
    """Power of the mid channel in dB, `[84, T]`, 12.5 frames a second, T = S / hop rounded down; frame t is centred on
    its hop. A full-scale sine gives about -3 dB. Raises AudiogenError for audio shorter than 0.5 s.
    """
    import torch
    from torch.nn import functional as F

    samples = resample(to_channels(waveform, 1), _RATE).samples[0].float()
    if len(samples) <= _WINDOWS[0][0] // 2:
        raise AudiogenError(f"semitones need at least 0.5 s of audio, got {waveform.seconds:g} s")
    frames = len(samples) // _HOP
    parts = []
    for size, first, last in _WINDOWS:
        margin = (size - _HOP) // 2
        padded = F.pad(samples[None, None], (margin, size), mode="reflect" if len(samples) > size else "constant")[0, 0]
        window = torch.hann_window(size)
        spectrum = torch.stft(padded, size, _HOP, window=window, center=False, return_complex=True)[:, :frames]
        power = spectrum.real.square() + spectrum.imag.square()
        parts.append(_filters(size, first, last) @ power / float(window.sum()) ** 2)
    return 10 * torch.cat(parts).clamp_min(_FLOOR).log10()


@cache
def _filters(size: int, first: int, last: int) -> Tensor:
    """Triangles two semitones wide, `[last - first, bins]`."""
    import torch

    hz = torch.arange(size // 2 + 1) * (_RATE / size)
    pitch = 12 * torch.log2(hz.clamp_min(1.0) / _LOWEST_HZ)
    return (1 - (pitch[None] - torch.arange(first, last)[:, None]).abs()).clamp_min(0)
