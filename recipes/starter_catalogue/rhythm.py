"""Step patterns, swing and drums.

A pattern is text: one character a step, bars separated by `|`, the bar divided evenly by its number of steps (16 in
4/4 are sixteenths, 12 in 4/4 triplet eighths). `.` rests, `-` holds the note before, anything else strikes.
"""

from __future__ import annotations

from functools import cache

from .model import Note, Passage, Player

STRENGTH = {"X": 1.0, "x": 0.8, "o": 0.55, "g": 0.36}

DRUMS = {
    "kick": 36, "deep kick": 35, "snare": 38, "rim": 37, "clap": 39, "electric snare": 40, "hat": 42, "pedal": 44,
    "open": 46, "crash": 49, "ride": 51, "bell": 53, "splash": 55, "tom1": 50, "tom2": 47, "tom3": 45, "tom4": 43,
    "tambourine": 54, "cowbell": 56, "bongo high": 60, "bongo low": 61, "conga mute": 62, "conga high": 63,
    "conga low": 64, "shaker": 70, "cabasa": 69, "claves": 75, "block": 76, "triangle": 81, "big drum": 35,
    "china": 52,
}  # fmt: skip


@cache
def steps(pattern: str, beats_per_bar: int) -> tuple[tuple[tuple[float, float, str], ...], ...]:
    """For each bar of the pattern its strikes (start, length, character), in beats from the bar line."""
    bars = []
    for text in pattern.replace(" ", "").split("|"):
        step = beats_per_bar / len(text)
        strikes: list[tuple[float, float, str]] = []
        for i, character in enumerate(text):
            if character == "-" and strikes:
                start, _, kind = strikes[-1]
                strikes[-1] = (start, (i + 1) * step - start, kind)
            elif character not in ".-":
                strikes.append((i * step, step, character))
        bars.append(tuple(strikes))
    return tuple(bars)


def swing(beat: float, ratio: float, unit: float) -> float:
    """Move `beat` so that the middle of every two `unit`s falls at `ratio` of them (0.5 straight, 2/3 triplets)."""
    span = 2 * unit
    whole = beat // span
    share = beat / span - whole
    share = share * 2 * ratio if share < 0.5 else ratio + (share - 0.5) * 2 * (1 - ratio)
    return (whole + share) * span


Groove = dict[str, str]


def kit(*levels: tuple[Groove, ...], fills: tuple[Groove, ...] = (), roll: str = "", crash: str = "crash") -> Player:
    """A drummer. `levels` from soft to loud, each a pool of grooves of which a piece uses one; the energy of the bar
    chooses the level. The last bar of a section ends with a fill; a `build` rolls on the drum `roll` instead."""

    def play(p: Passage) -> list[Note]:
        grooves = [p.band.pick(pool) for pool in levels]
        notes: list[Note] = []
        for bar in range(p.section.bars):
            energy = p.energy(bar)
            groove = grooves[min(int(energy * len(grooves)), len(grooves) - 1)]
            last = bar == p.section.bars - 1 and p.following is not None
            fill = p.take.pick(fills) if fills and last else {}
            fill_from = _fill_start(fill, p.beats_per_bar)
            start = p.bar_start(bar)
            for drum, pattern in groove.items():
                bars = steps(pattern, p.beats_per_bar)
                for at, length, kind in bars[bar % len(bars)]:
                    if at < fill_from and not (kind == "g" and p.take.chance(0.25)):
                        notes.append(Note(start + at, length, DRUMS[drum], STRENGTH[kind]))
            for drum, pattern in fill.items():
                for at, length, kind in steps(pattern, p.beats_per_bar)[0]:
                    notes.append(Note(start + at, length, DRUMS[drum], STRENGTH[kind]))
        if roll and p.section.label == "build":
            notes += _roll(p, roll)
        if crash and p.section.energy[0] >= 0.55 and p.section.start > 0:
            notes.append(Note(p.start, 1.0, DRUMS[crash], 0.85))
        return notes

    return play


def _fill_start(fill: Groove, beats_per_bar: int) -> float:
    starts = [strikes[0][0][0] for pattern in fill.values() if (strikes := steps(pattern, beats_per_bar))[0]]
    return min(starts, default=float(beats_per_bar))


def _roll(p: Passage, drum: str) -> list[Note]:
    """Strikes that get denser and louder: quarters, eighths, sixteenths."""
    notes = []
    total = p.end - p.start
    at = 0.0
    while at < total - 0.01:
        share = at / total
        step = 1.0 if share < 0.5 else 0.5 if share < 0.75 else 0.25
        notes.append(Note(p.start + at, step, DRUMS[drum], 0.35 + 0.55 * share))
        at += step
    return notes
