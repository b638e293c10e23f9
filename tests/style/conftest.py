"""Small made-up tracks whose statistics are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from audiogen.interfaces import Attributes, Chord, Key, Score
from audiogen.style.habits import Habits, learn

Form = tuple[tuple[str, int, tuple[float, float]], ...]
FORM: Form = (
    ("intro", 4, (0.1, 0.3)), ("verse", 8, (0.4, 0.4)), ("chorus", 8, (0.8, 0.8)), ("verse", 8, (0.4, 0.4)),
    ("chorus", 8, (0.8, 0.8)), ("outro", 4, (0.3, 0.1)),
)  # fmt: skip
LOOPS = {
    "minor": {
        "verse": ((0, "min7", 4.0), (5, "min7", 4.0)), "chorus": ((8, "maj", 2.0), (10, "maj", 2.0), (0, "min", 4.0)),
    },
    "major": {"verse": ((0, "maj", 4.0), (7, "maj", 4.0)), "chorus": ((5, "maj", 4.0), (0, "maj", 4.0))},
}  # fmt: skip


def make_track(
    style: str = "lo-fi",
    tempo: float = 80.0,
    key: str = "D minor",
    metre: int = 4,
    form: Form = FORM,
    instruments: tuple[str, ...] = ("bass", "drums", "electric piano"),
    moods: tuple[str, ...] = ("calm",),
) -> tuple[Attributes, Score]:
    """Intro and outro have the verse's chords, the last bar a sixth chord on the tonic; chord lengths are beats of a
    bar of four, scaled to the metre."""
    beat, parsed = 60.0 / tempo, Key.parse(key)
    chords: list[Chord] = []
    sections, energy, bar = [], [], 0
    for label, bars, levels in form:
        start, end = bar * metre, (bar + bars) * metre
        loop = LOOPS[parsed.mode]["chorus" if label == "chorus" else "verse"]
        position, index = float(start), 0
        while position < end:
            degree, quality, length = loop[index % len(loop)]
            chords.append(Chord(round(position * beat, 4), (degree + parsed.tonic) % 12, quality))
            position, index = position + length * metre / 4, index + 1
        if label == "outro":
            chords = [chord for chord in chords if chord.start_seconds < (end - metre) * beat - 1e-3]
            home = "maj6" if parsed.mode == "major" else "min6"
            chords.append(Chord(round((end - metre) * beat, 4), parsed.tonic, home))
        sections.append((round(start * beat, 4), label))
        energy += [(start * beat, levels[0]), (end * beat - 0.01, levels[1])]
        bar += bars
    beats = np.round(np.arange(bar * metre) * beat, 4)
    score = Score(bar * metre * beat, beats, beats[::metre], tuple(chords), tuple(sections), tuple(energy))
    return Attributes(style, moods, instruments, tempo, parsed, metre, score.seconds, 0.5), score


@pytest.fixture(scope="session")
def track() -> Callable[..., tuple[Attributes, Score]]:
    return make_track


@pytest.fixture(scope="session")
def habits() -> Habits:
    """Two styles: lo-fi at 80 bpm, three of four in D minor; techno at 120–140 bpm in A minor."""
    lofi = [make_track(), make_track(), make_track(), make_track(key="F major", moods=("happy",))]
    hard = {"moods": ("aggressive",), "instruments": ("drum machine", "synth bass")}
    techno = [make_track("techno", tempo, "A minor", **hard) for tempo in (120.0, 130.0, 140.0)]
    return learn([*lofi, *techno, make_track("folk", 100.0, "G major", 3)])
