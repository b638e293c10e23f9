"""The melody of a recording as MusicGen hears it: the loudest pitch class of each frame (Copet et al. 2023, sec. 2.3).

The filters follow librosa's (McFee et al. 2015, after Ellis 2007); the numbers are those of transformers'
`MusicgenMelodyFeatureExtractor`, against which they are tested.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from audiogen.audio.io import resample, to_channels
from audiogen.interfaces import AudiogenError, Waveform

SAMPLE_RATE = 32_000
HOP_LENGTH = 4096
PITCHES = 12
_WINDOW = 16_384
_CENTRE_OCTAVE, _WIDTH_OCTAVES = 5.0, 2.0
_SILENCE = 1e-4  # -80 dB of full scale
_BLOCK_FRAMES = 64


def melody(waveform: Waveform, source: str) -> Tensor:
    """Pitch class 0…11 (C = 0) of each frame of `HOP_LENGTH` samples at `SAMPLE_RATE`, int64 `[N]`, N ≥ 5.

    `source` names the recording in the error. Raises AudiogenError for silence, which has no melody.
    """
    mono = to_channels(waveform, 1)
    if not mono.samples.numel() or float(mono.samples.abs().max()) < _SILENCE:
        raise AudiogenError(
            f"{source}: holds no sound above -80 dB, so there is no melody in it; give another recording"
        )
    samples = resample(mono, SAMPLE_RATE).samples[0]
    short = max(0, _WINDOW - len(samples))
    samples = torch.nn.functional.pad(samples, (short // 2, short - short // 2))
    half = _WINDOW // 2
    padded = torch.nn.functional.pad(samples[None, None], (half, half), mode="reflect")[0, 0]
    frames = padded.unfold(0, _WINDOW, HOP_LENGTH)
    filters, window = torch.from_numpy(_filters()).float(), torch.hann_window(_WINDOW)
    found = []
    for block in frames.split(_BLOCK_FRAMES):  # so that an hour needs no more memory than a few seconds
        power = torch.fft.rfft(block * window).abs().square()
        found.append((power @ filters.T).argmax(1))
    return torch.cat(found)


def _filters() -> np.ndarray:
    """How much each bin of the spectrum says of each pitch class, `[12, bins]`."""
    frequencies = np.arange(1, _WINDOW) * SAMPLE_RATE / _WINDOW
    pitches = PITCHES * np.log2(frequencies / (440 / 16))  # classes above A0
    pitches = np.concatenate([[pitches[0] - 1.5 * PITCHES], pitches])  # 0 Hz: an octave and a half below the first bin
    widths = np.append(np.maximum(np.diff(pitches), 1.0), 1.0)
    distances = pitches - np.arange(PITCHES)[:, None]
    half = PITCHES // 2
    distances = np.remainder(distances + half + 10 * PITCHES, PITCHES) - half
    filters = np.exp(-0.5 * (2 * distances / widths) ** 2)
    filters /= np.sqrt((filters**2).sum(0, keepdims=True))
    filters *= np.exp(-0.5 * ((pitches / PITCHES - _CENTRE_OCTAVE) / _WIDTH_OCTAVES) ** 2)
    return np.roll(filters, -3, 0)[:, : _WINDOW // 2 + 1]  # from C on
