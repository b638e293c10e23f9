"""What training does to an excerpt so that the codec copes with any recording: pitch, level, balance, bandwidth.

An excerpt becomes a pair: what the encoder hears and what the decoder shall play. They differ where the bandwidth was
cut and the codes shall be those of the original, which is how the codec restores when asked to (`audiogen upsample`).
Others are cut and shall stay so: what is dull stays dull.
"""

from __future__ import annotations

import numpy as np
import scipy.fft

from audiogen.config import Config
from audiogen.data.sounds import sound

SEMITONES = 2.0
"""excerpts are transposed by up to this, so they are read longer by `LONGER`"""
LONGER = 2 ** (SEMITONES / 12)


class Augmentation(Config):
    """Shares of the excerpts, each drawn on its own."""

    changed: float = 0.5
    """transposed, and given another level, balance and colour"""
    cut: float = 0.2
    """heard through 4 to 8 kHz, as in a recording of 8 to 16 kHz; half of them are to be played in full"""
    other_sounds: float = 0.15
    """replaced by a sound that is no music (`audiogen.data.sounds`), or mixed with it"""


def augmented(
    audio: np.ndarray, samples: int, sample_rate: int, random: np.random.Generator, settings: Augmentation
) -> np.ndarray:
    """`[2, ceil(samples · LONGER)]` → what is heard and what shall be played, float32 `[2, 2, samples]`."""
    changed, cut, other = random.random(3) < (settings.changed, settings.cut, settings.other_sounds)
    if other:
        made = sound(random, samples, sample_rate)
        audio = made + (audio[:, :samples] * random.uniform(0, 0.3) if random.random() < 0.3 else 0)
    elif changed:
        length = samples * 2 ** (random.uniform(-SEMITONES, SEMITONES) / 12)
        audio = audio[:, : scipy.fft.prev_fast_len(int(length))]
    else:
        audio = audio[:, :samples]
    if changed:
        audio = _mixed(audio, random)
    audio = audio.astype(np.float32)
    if not (changed or cut):
        return np.stack([audio, audio])
    size = samples // 2 + 1
    spectrum = np.zeros((2, size), np.complex64)
    found = scipy.fft.rfft(audio)[:, :size]
    spectrum[:, : found.shape[1]] = found * (samples / audio.shape[1])
    hz = np.arange(size) * (sample_rate / samples)
    if changed and random.random() < 0.5:
        spectrum *= _colour(hz, random).astype(np.float32)
    played = scipy.fft.irfft(spectrum, samples)
    heard = played
    if cut:
        edge = random.uniform(0.075, 0.165) * sample_rate
        passed = np.clip((edge - hz) / (0.03 * edge) + 1, 0, 1).astype(np.float32)
        heard = scipy.fft.irfft(spectrum * passed, samples)
        if random.random() < 0.5:
            played = heard
    pair = np.stack([heard, played])
    return (pair / max(1.0, float(np.abs(pair).max()))).astype(np.float32)


def _mixed(audio: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Level, sides, balance, width, polarity."""
    audio = audio * 10 ** (random.uniform(-24.0, 6.0) / 20)
    audio = audio[:: random.choice([1, -1])]
    if random.random() < 0.3:
        audio = audio * 10 ** (random.uniform(-9.0, 0.0, (2, 1)) / 20)
    width = random.random()
    if width < 0.1:
        audio = np.broadcast_to(audio.mean(0), audio.shape)
    elif width < 0.13:
        audio = audio * [[1.0], [-1.0]]
    return audio


def _colour(hz: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A smooth equaliser of ±9 dB over octaves."""
    octaves = np.log2(hz.clip(30.0) / 30.0)
    knots = random.uniform(-9.0, 9.0, 6)
    return 10 ** (np.interp(octaves, np.linspace(0, octaves[-1], len(knots)), knots) / 20)
