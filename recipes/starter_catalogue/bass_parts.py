"""Players of the bass: patterns of chord tones, walking lines, drones."""

from __future__ import annotations

from .model import Note, Passage, Player
from .rhythm import steps
from .theory import Harmony, chord_scale, nearest


def _interval(chord: Harmony, kind: str) -> int:
    """Semitones above the root for a pattern's character, taken from the chord itself."""
    above = [(tone - chord.root) % 12 for tone in chord.tones]
    if kind == "3":
        return next((i for i in above if i in (3, 4)), 7)
    if kind == "5":
        return next((i for i in above if i in (6, 7, 8)), 7)
    if kind == "7":
        return next((i for i in above if i in (9, 10, 11)), 12)
    return {"R": 0, "r": 0, "8": 12, "a": 0}[kind]


def line(*pool: str, gate: float = 0.92) -> Player:
    """Chord tones in the rhythm of a pattern: `R` root, `r` soft root, `3`, `5`, `7`, `8`; `a` leads by a step into
    the next chord's root (or stays on the fifth where the chord does not change)."""

    def play(p: Passage) -> list[Note]:
        pattern = steps(p.dice.pick(pool), p.beats_per_bar)
        notes = []
        for bar in range(p.section.bars):
            for at, length, kind in pattern[bar % len(pattern)]:
                start = p.bar_start(bar) + at
                chord = p.chord_at(start)
                root = nearest((p.low + p.high) / 2 - 4, (chord.root,), p.low, p.high)
                pitch = _approach(p, chord, start, root) if kind == "a" else root + _interval(chord, kind)
                strength = 0.6 if kind == "r" else 0.88 if at == 0 else 0.78
                notes.append(Note(start, length * gate, pitch, strength))
        return notes

    return play


def _approach(p: Passage, chord: Harmony, start: float, root: int) -> int:
    following = p.chord_at(start + p.beats_per_bar)
    if following.root == chord.root:
        return root + 7 if root + 7 <= p.high else root - 5
    goal = nearest(root, (following.root,), p.low, p.high)
    scale = chord_scale(chord.tones, p.scale)
    return nearest(goal - 1 if goal >= root else goal + 1, scale, p.low - 2, p.high)


def hold(octave_doubled: bool = False, gate: float = 0.98) -> Player:
    """The root for as long as the chord lasts."""

    def play(p: Passage) -> list[Note]:
        notes = []
        for chord in p.chords:
            root = nearest((p.low + p.high) / 2 - 4, (chord.root,), p.low, p.high)
            notes.append(Note(chord.start, chord.length * gate, root, 0.75))
            if octave_doubled:
                notes.append(Note(chord.start, chord.length * gate, root + 12, 0.55))
        return notes

    return play


def walking(p: Passage) -> list[Note]:
    """Quarter notes: root on the chord's first beat, chord and scale tones on the way, a half or whole step into the
    next root on its last beat."""
    notes: list[Note] = []
    pitch = (p.low + p.high) // 2 - 3
    for index, chord in enumerate(p.chords):
        following = p.chords[index + 1] if index + 1 < len(p.chords) else p.chords[0]
        count = max(1, round(chord.length))
        pitch = nearest(pitch, (chord.root,), p.low, p.high)
        goal = nearest(pitch + p.dice.integer(-4, 4), (following.root,), p.low, p.high)
        scale = chord_scale(chord.tones, p.scale)
        for beat in range(count):
            if beat == 0:
                current = pitch
            elif beat == count - 1:
                current = goal + p.dice.pick((-1, 1, 1, -1, -2, 2))
                if abs(current - goal) == 2:
                    current = nearest(current, scale, p.low - 2, p.high + 2)
            else:
                target = pitch + (goal - pitch) * beat / count + p.dice.pick((-3, 0, 3, 4))
                tones = chord.tones if beat % 2 == 0 or p.dice.chance(0.5) else scale
                current = nearest(target, tones, p.low, p.high)
                if notes and current == notes[-1].pitch:
                    current = nearest(current + p.dice.pick((-3, 3)), chord.tones, p.low, p.high)
            notes.append(Note(chord.start + beat, 0.93, current, 0.82 if beat % 2 else 0.76))
            if p.take.chance(0.06):
                notes.append(Note(chord.start + beat + 0.5, 0.4, current, 0.5))
        pitch = goal
    return notes
