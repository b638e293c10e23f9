"""The values that composing passes around, and the dice. Times are beats, energies and velocities 0..1."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np

from audiogen.interfaces import Mode

from .theory import Harmony

T = TypeVar("T")


class Note(NamedTuple):
    """One note of one part."""

    start: float
    length: float
    pitch: int
    velocity: float


class Dice:
    """Choices from one numpy Generator; only integers and plain uniforms are drawn, alike on every machine."""

    def __init__(self, *seeds: int) -> None:
        self._generator = np.random.default_rng(seeds)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        return low + (high - low) * float(self._generator.random())

    def integer(self, low: int, high: int) -> int:
        """`low` ≤ result ≤ `high`."""
        return int(self._generator.integers(low, high + 1))

    def chance(self, probability: float) -> bool:
        return self.uniform() < probability

    def pick(self, options: Sequence[T]) -> T:
        return options[self.integer(0, len(options) - 1)]


@dataclass(frozen=True)
class Section:
    """`bars` bars from bar `start`; the energy goes in a line from `energy[0]` to `energy[1]`."""

    label: str
    start: int
    bars: int
    energy: tuple[float, float]

    def energy_at(self, bar: float) -> float:
        """Energy at `bar` bars into the section."""
        share = bar / max(self.bars, 1)
        return self.energy[0] + (self.energy[1] - self.energy[0]) * share


@dataclass(frozen=True)
class Patch:
    """A sound of the General MIDI set: its label, program (a kit on the drum channel), useful range, and level."""

    instrument: str
    program: int
    low: int = 48
    high: int = 84
    volume: int = 90


@dataclass(frozen=True)
class Layer:
    """One player of a band: which sounds it may choose, what it plays, and when.

    It plays where the energy of the four-bar phrase is within `energy`, in the sections `only` (empty: all) and not
    in `rests`; a piece has it with probability `chance`. Layers of one `slot` share the patch that its first drew.
    """

    role: str  # "drums", "bass", "chords" or "lead": decides the last bar
    patches: tuple[str, ...]
    play: tuple[Callable[[Passage], list[Note]], ...]
    energy: tuple[float, float] = (0.0, 1.0)
    only: tuple[str, ...] = ()
    rests: tuple[str, ...] = ()
    chance: float = 1.0
    slot: str = ""
    pan: float = 0.0
    reverb: int = 40
    chorus: int = 0
    volume: float = 1.0
    octave: int = 0
    pump: bool = False  # the level dips on every beat, as if the kick pushed it down


@dataclass(frozen=True)
class Style:
    """A way of making music, as data. Several variants may share one name; `weight` is their share."""

    name: str
    tempos: tuple[float, float]
    progressions: Mapping[str, Mapping[str, tuple[str, ...]]]  # mode → section label or "" → pool
    forms: tuple[str, ...]
    layers: tuple[Layer, ...]
    moods: Mapping[str, tuple[str, ...]]
    scales: Mapping[str, tuple[str, ...]]
    cadences: Mapping[str, tuple[str, ...]]  # the bars before the last one
    finals: Mapping[str, str]  # the chord of the last bar
    beats_per_bar: int = 4
    major: float = 0.5
    swing: tuple[float, float] = (0.5, 0.5)
    swing_unit: float = 0.5
    loose_seconds: float = 0.006
    bars_per_chord: int = 1
    weight: float = 1.0
    words: tuple[str, ...] = ()


@dataclass
class Passage:
    """What one player is given for one section. `dice` is the same in every section of one label (so figures come
    back), `take` differs each time, `band` is common to all players of the piece (so they can share a theme)."""

    section: Section
    following: Section | None
    chords: list[Harmony]
    scale: tuple[int, ...]
    beats_per_bar: int
    tempo: float
    patch: Patch
    layer: Layer
    dice: Dice
    take: Dice
    band: Dice
    lift: int = 0  # semitones by which the moods move melodies
    density: float = 0.5
    shortness: float = 1.0  # scales the length of melody notes
    starts: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.starts = [chord.start for chord in self.chords]

    @property
    def start(self) -> float:
        return float(self.section.start * self.beats_per_bar)

    @property
    def end(self) -> float:
        return float((self.section.start + self.section.bars) * self.beats_per_bar)

    @property
    def low(self) -> int:
        return self.patch.low + 12 * self.layer.octave

    @property
    def high(self) -> int:
        return self.patch.high + 12 * self.layer.octave

    def bar_start(self, bar: int) -> float:
        """Beat at which bar `bar` of the section begins."""
        return self.start + bar * self.beats_per_bar

    def chord_at(self, beat: float) -> Harmony:
        return self.chords[max(0, bisect_right(self.starts, beat + 1e-6) - 1)]

    def energy(self, bar: int) -> float:
        return self.section.energy_at(bar)


Player = Callable[[Passage], list[Note]]


@dataclass
class Part:
    """One MIDI channel's worth of music."""

    patch: Patch
    role: str
    notes: list[Note]
    pan: int
    reverb: int
    chorus: int
    volume: int
    pump: tuple[tuple[float, float], ...] = ()

    @property
    def drums(self) -> bool:
        return self.role == "drums"


@dataclass
class Piece:
    """A finished composition with its labels. `beat_seconds` is what MIDI can say exactly."""

    id: str
    style: str
    moods: tuple[str, ...]
    tempo_bpm: float
    beat_seconds: float
    tonic: int
    mode: Mode
    beats_per_bar: int
    bars: int
    chords: list[Harmony]
    sections: list[Section]
    parts: list[Part]
    captions: tuple[str, ...]
    words: tuple[str, ...]
    split: str
    ring_seconds: float

    @property
    def instruments(self) -> tuple[str, ...]:
        return tuple(sorted({part.patch.instrument for part in self.parts}))

    def playing(self, phrase_bars: int) -> list[tuple[float, tuple[str, ...]]]:
        """Which instruments play from a beat until the next one named: those with notes that begin in the phrase, a
        sixteenth early or later."""
        found: list[tuple[float, tuple[str, ...]]] = []
        for section in self.sections:
            for first in range(section.start, section.start + section.bars, phrase_bars):
                start = float(first * self.beats_per_bar)
                last = min(first + phrase_bars, section.start + section.bars)
                end = float(last * self.beats_per_bar)
                playing = {
                    part.patch.instrument
                    for part in self.parts
                    if any(start - 0.25 <= note.start < end - 0.25 for note in part.notes)
                }
                if not found or tuple(sorted(playing)) != found[-1][1]:
                    found.append((start, tuple(sorted(playing))))
        return found

    @property
    def seconds(self) -> float:
        """Length of the audio: the last bar's end and the ring-out."""
        return self.bars * self.beats_per_bar * self.beat_seconds + self.ring_seconds
