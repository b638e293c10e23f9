"""Players of chords: pads, stabs, strums, arpeggios, left hands of the piano, ostinatos."""

from __future__ import annotations

from .model import Note, Passage, Player
from .rhythm import STRENGTH, steps
from .theory import Harmony, ladder, nearest, voicing


def _voicings(p: Passage, size: int) -> list[tuple[Harmony, tuple[int, ...]]]:
    """Each chord of the section with its voicing, led smoothly from the one before."""
    result: list[tuple[Harmony, tuple[int, ...]]] = []
    previous: tuple[int, ...] = ()
    for chord in p.chords:
        previous = voicing(chord, p.low, p.high, size, previous)
        result.append((chord, previous))
    return result


def pad(size: int = 4, strength: float = 0.6) -> Player:
    """Held chords; tones common to two neighbours are struck again only where the chord changes."""

    def play(p: Passage) -> list[Note]:
        return [
            Note(chord.start, chord.length * 0.98, pitch, strength)
            for chord, pitches in _voicings(p, size)
            for pitch in pitches
        ]

    return play


def rolled(size: int = 4, strength: float = 0.6, spread: float = 0.12) -> Player:
    """Held chords broken upward, as a harp or a soft piano does."""

    def play(p: Passage) -> list[Note]:
        notes = []
        for chord, pitches in _voicings(p, size):
            for i, pitch in enumerate(pitches):
                delay = i * spread
                notes.append(Note(chord.start + delay, max(chord.length - delay, 0.25), pitch, strength + 0.03 * i))
        return notes

    return play


def stabs(*pool: str, size: int = 4, gate: float = 0.95) -> Player:
    """Chords in the rhythm of a pattern from the pool (one a section label); each is held as the pattern says."""

    def play(p: Passage) -> list[Note]:
        pattern = steps(p.dice.pick(pool), p.beats_per_bar)
        chords = _voicings(p, size)
        notes = []
        for bar in range(p.section.bars):
            for at, length, kind in pattern[bar % len(pattern)]:
                start = p.bar_start(bar) + at
                pitches = next(v for c, v in reversed(chords) if c.start <= start + 1e-6)
                notes += [Note(start, length * gate, pitch, STRENGTH[kind]) for pitch in pitches]
        return notes

    return play


def strum(*pool: str, power: bool = False) -> Player:
    """A guitarist: `D` strikes down from the low string, `U` up over the high ones, `M` a short muffled stroke."""

    def play(p: Passage) -> list[Note]:
        pattern = steps(p.dice.pick(pool), p.beats_per_bar)
        delay = 0.012 * p.tempo / 60
        notes = []
        for bar in range(p.section.bars):
            for at, length, kind in pattern[bar % len(pattern)]:
                start = p.bar_start(bar) + at
                chord = p.chord_at(start)
                bottom = nearest(p.low + 5, (chord.root,), p.low, p.high)
                if power:
                    pitches = [bottom, bottom + 7, bottom + 12]
                else:
                    pitches = [bottom, *ladder(chord.tones, bottom + 4, min(bottom + 29, p.high))][:6]
                strength = {"D": 0.85, "d": 0.68, "U": 0.6, "u": 0.5, "M": 0.5}[kind]
                if kind in "Uu":
                    pitches = pitches[:1:-1] or pitches
                held = min(length, 0.2) if kind == "M" else length
                notes += [Note(start + i * delay, held, pitch, strength - 0.015 * i) for i, pitch in enumerate(pitches)]
        return notes

    return play


def arpeggio(*shapes: str, step: float = 0.5, size: int = 4, gate: float = 1.1, ring: bool = False) -> Player:
    """Chord tones one by one. A shape is digits, indices into the voicing (`.` rests); `ring` holds to the chord's
    end. Which shape is the section label's choice."""

    def play(p: Passage) -> list[Note]:
        shape = p.dice.pick(shapes)
        notes = []
        for chord, pitches in _voicings(p, size):
            count = round(chord.length / step)
            for i in range(count):
                character = shape[i % len(shape)]
                if character == ".":
                    continue
                index = int(character)
                pitch = pitches[index % len(pitches)] + 12 * (index // len(pitches))
                start = chord.start + i * step
                length = chord.start + chord.length - start if ring else step * gate
                on_beat = abs((start - p.start) % p.beats_per_bar) < 1e-6
                strength = 0.78 if on_beat else 0.66 if start % 1 < 1e-6 else 0.58
                notes.append(Note(start, length, min(pitch, 108), strength))
        return notes

    return play


def left_hand(*shapes: str, step: float = 0.5, ring: bool = True, strength: float = 0.58) -> Player:
    """The pianist's left hand: tokens over a root in the bass register. `R` root, `5`, `8`, `3` (the tenth), `7` (the
    seventh above the octave, else the tenth), `T` a triad around middle C, `.` rest; steps of `step` beats."""

    def play(p: Passage) -> list[Note]:
        shape = p.dice.pick(shapes)
        notes = []
        for chord in p.chords:
            root = nearest(43, (chord.root,), 36, 48)
            tones = chord.tones
            third = root + 12 + (tones[1] - chord.root) % 12
            fifth = root + next(((t - chord.root) % 12 for t in tones[1:] if (t - chord.root) % 12 in (6, 7, 8)), 7)
            sevenths = [root + 12 + (t - chord.root) % 12 for t in tones if (t - chord.root) % 12 in (9, 10, 11)]
            lookup = {"R": [root], "5": [fifth], "8": [root + 12], "3": [third], "7": sevenths[:1] or [third]}
            lookup["T"] = list(voicing(chord, 52, 67, 3))
            for i in range(round(chord.length / step)):
                character = shape[i % len(shape)]
                start = chord.start + i * step
                length = chord.start + chord.length - start if ring else step * 0.95
                if character == "R" and i == 0:
                    length = max(length, step)
                level = strength + (0.1 if character == "R" else -0.04)
                notes += [Note(start, length, pitch, level) for pitch in lookup.get(character, [])]
        return notes

    return play


def ostinato(*pool: str, gate: float = 0.6) -> Player:
    """Repeated short notes over the chord, as spiccato strings or a sequencer: digits are indices into the chord's
    tones from the bottom of the register, `R` the root below, upper-case rhythm by position."""

    def play(p: Passage) -> list[Note]:
        pattern = steps(p.dice.pick(pool), p.beats_per_bar)
        notes = []
        for bar in range(p.section.bars):
            for at, length, kind in pattern[bar % len(pattern)]:
                start = p.bar_start(bar) + at
                chord = p.chord_at(start)
                root = nearest(p.low + 6, (chord.root,), p.low, p.high)
                tones = ladder(chord.tones, root, min(root + 28, 108))
                pitch = root if kind == "R" else tones[min(int(kind), len(tones) - 1)]
                strength = 0.85 if at == 0 else 0.72 if at % 1 < 1e-6 else 0.6
                notes.append(Note(start, length * gate, pitch, strength))
        return notes

    return play
