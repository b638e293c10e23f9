"""Mel spectra in decibels: what the tagger hears, where a loop got stuck, how far two recordings lie apart."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from audiogen.audio.io import resample, to_channels
from audiogen.interfaces import AudiogenError, Waveform

if TYPE_CHECKING:
    from torch import Tensor

FRAME_RATE = 50  # Hz
_RATE = 48_000
_WINDOW = 4096
_HOP = _RATE // FRAME_RATE
_BANDS = 64
_LOWEST_HZ, _HIGHEST_HZ = 40.0, 12_000.0
_FLOOR = 1e-13  # power, far below 16-bit noise
_HEARD_DB = -80.0  # a full-scale sine gives about -3 dB


def log_mel(waveform: Waveform) -> Tensor:
    """Power of the mid channel in 64 mel bands from 40 Hz to 12 kHz, in dB, `[64, T]`; 50 frames a second.

    Raises AudiogenError for audio shorter than one window (85 ms).
    """
    import torch

    samples = resample(to_channels(waveform, 1), _RATE).samples[0].float()
    if len(samples) < _WINDOW:
        raise AudiogenError(f"a mel spectrum needs at least {_WINDOW / _RATE:.3f} s of audio, got {waveform.seconds:g}")
    window = torch.hann_window(_WINDOW)
    spectrum = torch.stft(samples, _WINDOW, _HOP, window=window, center=False, return_complex=True)
    power = spectrum.abs().square() / float(window.sum()) ** 2
    return 10 * (_bands().T @ power).clamp_min(_FLOOR).log10()


def mel_distance_db(reference: Waveform, other: Waveform) -> float:
    """Mean absolute difference of two mel spectra in dB, -80 dB and below being one; the longer is cut."""
    a, b = (log_mel(waveform).clamp_min(_HEARD_DB) for waveform in (reference, other))
    frames = min(a.shape[1], b.shape[1])
    return float((a[:, :frames] - b[:, :frames]).abs().mean())


@cache
def _bands() -> Tensor:
    """Triangular bands on the mel scale, `[bins, 64]`."""
    from torchaudio.functional import melscale_fbanks

    return melscale_fbanks(_WINDOW // 2 + 1, _LOWEST_HZ, _HIGHEST_HZ, _BANDS, _RATE)
