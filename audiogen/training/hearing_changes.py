"""Changes to what was heard whose answer is known: faster, higher, through other loudspeakers, noisier.

They are made on levels, not on audio: a semitone up is a roll of the semitones and a warp of the mel bands.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from audiogen.audio.semitones import SEMITONES
from audiogen.style.hearing import BANDS, MEL_A_FRAME, Heard, decibels

_MOST_SEMITONES = 3
_MOST_STRETCH_OCTAVES = 0.15
_DEAF_DB = 60.0
_LOWEST_HZ = 440 * 2 ** (-45 / 12)


@dataclass(frozen=True)
class Change:
    """`tempo_ratio` above 1 is faster. `colour_db`: gain at `_octaves()` of the frequency; `noise_db`: against the
    loudest, or None."""

    semitones: int
    tempo_ratio: float
    colour_db: np.ndarray
    noise_db: float | None
    gain_db: float


UNCHANGED = Change(0, 1.0, np.zeros(37), None, 0.0)


def draw_change(random: np.random.Generator) -> Change:
    """One by chance; each part is left out in some."""
    semitones = int(random.integers(-_MOST_SEMITONES, _MOST_SEMITONES + 1)) if random.random() < 0.5 else 0
    stretch = random.uniform(-1, 1) * _MOST_STRETCH_OCTAVES if random.random() < 0.6 else 0.0
    octaves = _octaves()
    colour = random.normal(0, 0.8) * (octaves - 4)  # a tilt, dB an octave
    for _ in range(2):
        colour += random.normal(0, 3) * np.exp(-0.5 * ((octaves - random.uniform(0, 9)) / 0.8) ** 2)
    if random.random() < 0.1:  # a telephone's or a poor codec's upper end
        colour -= np.clip((octaves - random.uniform(6.5, 8.5)) / 0.3, 0, 1) * _DEAF_DB
    if random.random() < 0.1:  # small loudspeakers
        colour -= np.clip((random.uniform(1, 2.2) - octaves) / 0.5, 0, 1) * 30
    if random.random() < 0.15:
        colour *= 0
    noise = random.uniform(-75, -45) if random.random() < 0.3 else None
    return Change(semitones, 2**stretch, colour, noise, random.normal(0, 1.5))


def changed(
    heard: Heard, start: int, frames: int, loudest_db: float, change: Change, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """`frames` changed frames of what was heard from `start` on, in dB against the loudest.

    → mel float32 `[64, 4 frames]`, semitones float32 `[84, frames]`; what lies past the end is silence.
    """
    long = int(np.ceil(frames * change.tempo_ratio))
    part = heard.cut(start, long)
    parts = []
    for levels, each, move in ((part.mel, MEL_A_FRAME, _warped), (part.semitones, 1, _rolled)):
        found = decibels(_filled(levels, long * each))
        found = _stretched(found, frames * each, change.tempo_ratio)
        found = move(found, change.semitones) - np.float32(loudest_db - change.gain_db)
        octaves = _mel_octaves() if move is _warped else np.arange(SEMITONES) / 12
        found += np.interp(octaves, _octaves(), change.colour_db).astype(np.float32)[:, None]
        if change.noise_db is not None:
            hiss = change.noise_db - 18 + random.normal(0, 2.0, found.shape)
            found = 10 * np.log10(10 ** (found / 10) + 10 ** (hiss / 10))
        parts.append(found.astype(np.float32))
    return parts[0], parts[1]


def _filled(levels: np.ndarray, frames: int) -> np.ndarray:
    return np.pad(levels, ((0, 0), (0, frames - levels.shape[1])))


def _stretched(levels: np.ndarray, frames: int, ratio: float) -> np.ndarray:
    if ratio == 1:
        return levels[:, :frames]
    at = np.minimum(np.arange(frames) * ratio, levels.shape[1] - 1)
    below = at.astype(int)
    share = (at - below).astype(np.float32)
    above = np.minimum(below + 1, levels.shape[1] - 1)
    stretched: np.ndarray = levels[:, below] * (1 - share) + levels[:, above] * share
    return stretched


def _rolled(levels: np.ndarray, semitones: int) -> np.ndarray:
    if semitones == 0:
        return levels
    rows = np.clip(np.arange(SEMITONES) - semitones, 0, SEMITONES - 1)
    return levels[rows]


def _warped(levels: np.ndarray, semitones: int) -> np.ndarray:
    if semitones == 0:
        return levels
    at = np.interp(_mel_octaves() - semitones / 12, _mel_octaves(), np.arange(BANDS))
    below = np.minimum(at.astype(int), BANDS - 2)
    share = (at - below).astype(np.float32)[:, None]
    warped: np.ndarray = levels[below] * (1 - share) + levels[below + 1] * share
    return warped


@cache
def _octaves() -> np.ndarray:
    """Above C1, where the colour of a change is told."""
    return np.linspace(0, 9, 37)


@cache
def _mel_octaves() -> np.ndarray:
    """Middles of the mel bands in octaves above C1."""
    low, high = (2595 * np.log10(1 + hz / 700) for hz in (40.0, 12_000.0))
    middles = 700 * (10 ** (np.linspace(low, high, BANDS + 2)[1:-1] / 2595) - 1)
    octaves: np.ndarray = np.log2(middles / _LOWEST_HZ)
    return octaves
