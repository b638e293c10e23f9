from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from audiogen.evaluation.clips import asked_of, ending_mark, faults, length_mark, marks, plan_marks
from audiogen.evaluation.prompts import Asked
from audiogen.evaluation.reference import excerpt
from audiogen.interfaces import INSTRUMENTS, MOODS, STYLES, Attributes, Chord, Key, Score


def measured(**changes: Any) -> dict[str, Any]:
    tags = {
        "style": {"jazz": 0.9} | {name: 0.01 for name in STYLES if name != "jazz"},
        "moods": {"calm": 0.4} | {name: 0.1 for name in MOODS if name not in ("calm", "sad")} | {"sad": 0.01},
        "instruments": dict.fromkeys(INSTRUMENTS, 0.1) | {"piano": 0.9, "drums": 0.7},
        "tempo_bpm": {"heard": 60.4, "sure": 0.9},
        "key": {"heard": "A minor", "sure": 0.8},
        "beats_per_bar": {"heard": 3, "sure": 0.9},
        "energy": [[0.0, 0.2], [5.0, 0.4], [10.0, 0.6]],
    }
    whole = {"seconds": 30.0, "sample_rate": 48_000, "channels": 2, "tags": tags, "sound": {"ending_db": -20.0}}
    return whole | {"form": {"boundaries_seconds": [10.0, 21.0]}} | changes


def test_marks_for_what_is_asked_and_for_nothing_else() -> None:
    assert marks(Asked(), measured()) == {}
    asked = Asked(
        style="jazz", moods=("calm", "sad"), instruments=("piano", "flute"), absent=("drums", "organ"), tempo_bpm=120.0,
        key="C major", beats_per_bar=4, energy=0.5,
    )  # fmt: skip
    found = marks(asked, measured())
    assert found == {
        "tempo": 0.0, "tempo_octave": 1.0, "key": 0.0, "key_closeness": 0.3, "metre": 0.0, "style": 1.0, "moods": 0.5,
        "instruments": 0.5, "absent": 0.5, "energy": pytest.approx(0.9),
    }  # fmt: skip


def test_length_and_ending() -> None:
    assert length_mark(30.0, measured()) == 1.0 and length_mark(30.001, measured()) == 0.0
    assert ending_mark(measured()) == 1.0
    assert ending_mark(measured(sound={"ending_db": -3.0})) == 0.0
    assert ending_mark(measured(seconds=12.0)) is None


def test_faults_are_told_in_words() -> None:
    good = {"silence_seconds": 0.6, "stuck_seconds": 0.0, "clipped_share": 0.005}
    form = {"boundaries_seconds": [], "repeated_share": 0.3}
    whole = measured(defects=good, sound={"clicks": 0}, form=form)
    assert faults(30.0, whole) == []
    assert faults(31.0, whole) == ["lasts 30.000 s instead of 31"]
    for change, word in (
        ({"defects": good | {"silence_seconds": 1.5}}, "silent for 1.50 s"),
        ({"defects": good | {"stuck_seconds": 3.0}}, "stuck in a loop for 3.0 s"),
        ({"defects": good | {"clipped_share": 0.05}}, "5.0 % of its samples are clipped"),
        ({"sound": {"clicks": 4}}, "8 clicks a minute"),
        ({"form": form | {"repeated_share": 0.8}}, "repeats itself to the letter"),
    ):
        assert faults(30.0, whole | change) == [word]


def test_marks_by_the_plan() -> None:
    score = Score(30.0, sections=((0.0, "verse"), (9.0, "chorus"), (22.0, "outro")), energy=((0.0, 0.1), (10.0, 0.9)))
    found = plan_marks(score, measured())
    assert found["sections"] == 1.0 and found["energy_curve"] == pytest.approx(1.0)
    assert plan_marks(Score(30.0), measured()) == {}


def test_labels_as_wishes() -> None:
    told = asked_of(Attributes(style="folk", key=Key.parse("D minor"), tempo_bpm=99.5, instruments=("flute",)))
    assert told == Asked(style="folk", key="D minor", tempo_bpm=99.5, instruments=("flute",))


def test_an_excerpt_of_a_score_begins_with_what_holds() -> None:
    score = Score(
        40.0, np.arange(0, 40, 0.5), np.arange(0, 40, 2.0), (Chord(0, 0), Chord(8, 5), Chord(16, 7)),
        ((0.0, "intro"), (12.0, "verse"), (30.0, "outro")), ((0.0, 0.0), (40.0, 1.0)),
    )  # fmt: skip
    part = excerpt(score, 10.0, 10.0)
    assert part.seconds == 10 and part.beats_seconds[0] == 0 and len(part.beats_seconds) == 20
    assert [(chord.start_seconds, chord.root) for chord in part.chords] == [(0, 5), (6, 7)]
    assert part.sections == ((0.0, "intro"), (2.0, "verse"))
    assert part.energy == ((0.0, pytest.approx(0.25)), (10.0, pytest.approx(0.5)))
