"""Pitch: scales, roman numerals, chords over time, voicings. Everything is in MIDI pitches and pitch classes."""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from audiogen.interfaces import CHORD_QUALITIES

SCALES: dict[str, tuple[int, ...]] = {
    "ionian": (0, 2, 4, 5, 7, 9, 11),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "major pentatonic": (0, 2, 4, 7, 9),
    "aeolian": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
    "minor pentatonic": (0, 3, 5, 7, 10),
    "blues": (0, 3, 5, 6, 7, 10),
}

_NUMERALS = {"i": 0, "ii": 2, "iii": 4, "iv": 5, "v": 7, "vi": 9, "vii": 11}
_UPPER = {
    "": "maj", "7": "7", "9": "9", "maj7": "maj7", "maj9": "maj9", "6": "maj6", "sus4": "sus4", "sus2": "sus2",
    "5": "5", "+": "aug",
}  # fmt: skip
_LOWER = {
    "": "min", "7": "min7", "9": "min9", "6": "min6", "5": "5", "o": "dim", "o7": "dim7", "h7": "hdim7",
}  # fmt: skip


class Harmony(NamedTuple):
    """A chord that sounds from `start` for `length` (beats)."""

    start: float
    length: float
    root: int
    quality: str

    @property
    def tones(self) -> tuple[int, ...]:
        """Pitch classes, root first."""
        return tuple((self.root + interval) % 12 for interval in CHORD_QUALITIES[self.quality])


@cache
def numeral(text: str) -> tuple[int, str]:
    """`"bVII7"` → (10, "7"): semitones of the root above the tonic, always counted on the major scale, and the quality.

    A lower-case numeral is a minor chord. Raises ValueError for anything else.
    """
    match = re.fullmatch(r"([b#]?)([iv]+|[IV]+)(.*)", text)
    if match is None or match[2].lower() not in _NUMERALS:
        raise ValueError(f"{text!r} is no roman numeral")
    qualities = _UPPER if match[2].isupper() else _LOWER
    if match[3] not in qualities:
        raise ValueError(f"{text!r}: unknown quality {match[3]!r}")
    shift = {"": 0, "b": -1, "#": 1}[match[1]]
    return (_NUMERALS[match[2].lower()] + shift) % 12, qualities[match[3]]


def progression(text: str, tonic: int) -> list[list[tuple[int, str]]]:
    """`"ii7,V7 Imaj7"` → one list of (root, quality) a bar; commas share a bar evenly."""
    bars = []
    for bar in text.split():
        chords = [numeral(name) for name in bar.split(",")]
        bars.append([((root + tonic) % 12, quality) for root, quality in chords])
    return bars


@cache
def chord_scale(tones: tuple[int, ...], scale: tuple[int, ...]) -> tuple[int, ...]:
    """The key's scale bent to the chord: its tones are in, their chromatic neighbours are out. Sorted pitch classes."""
    kept = set(scale)
    for tone in tones:
        if tone not in kept:
            kept -= {(tone + 1) % 12, (tone - 1) % 12} - set(tones)
            kept.add(tone)
    return tuple(sorted(kept))


def nearest(pitch: float, classes: tuple[int, ...], low: int = 0, high: int = 127) -> int:
    """The pitch within [low, high] nearest to `pitch` whose class is in `classes` (ties go down)."""
    options = [p for p in range(low, high + 1) if p % 12 in classes]
    return min(options, key=lambda p: (abs(p - pitch), p))


def ladder(classes: tuple[int, ...], low: int, high: int) -> list[int]:
    """All pitches of these classes within [low, high], ascending."""
    return [p for p in range(low, high + 1) if p % 12 in classes]


def _thin(tones: tuple[int, ...], size: int) -> tuple[int, ...]:
    """Leave out the fifth, then the root, of a chord of more than `size` tones: the bass has them."""
    kept = list(tones)
    if len(kept) > size and len(kept) > 3:
        fifth = next((t for t in kept if (t - tones[0]) % 12 == 7), None)
        if fifth is not None:
            kept.remove(fifth)
    if len(kept) > size and len(kept) > 3:
        kept.remove(tones[0])
    return tuple(kept)


def voicing(chord: Harmony, low: int, high: int, size: int, previous: tuple[int, ...] = ()) -> tuple[int, ...]:
    """`size` chord tones within [low, high], close together and near `previous` (voice leading), ascending."""
    tones = _thin(chord.tones, size)
    centre = low + 0.4 * (high - low)
    best: tuple[float, tuple[int, ...]] | None = None
    for bottom in range(low, high + 1):
        if bottom % 12 not in tones:
            continue
        notes = ladder(tones, bottom, high)[:size]
        if len(notes) < min(size, len(tones)):
            break
        cost = 0.5 * abs(sum(notes) / len(notes) - centre)
        if previous:
            cost += sum(min(abs(note - other) for other in previous) for note in notes)
        if best is None or cost < best[0]:
            best = (cost, tuple(notes))
    if best is None:
        raise ValueError(f"no {size} tones of {chord.tones} fit within {low}..{high}")
    return best[1]
