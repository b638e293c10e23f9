from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from audiogen.interfaces import Attributes, AudiogenError, Chord, Key, Score
from audiogen.style.habits import Habits
from audiogen.style.parse import parse
from audiogen.style.plan_file import describe, score_from_json, score_to_json
from audiogen.style.planner import plan, resolve_attributes

EDITED: dict[str, Any] = {
    "seconds": 20,
    "style": "techno",
    "tempo_bpm": 120,
    "key": "Am",
    "beats_per_bar": 4,
    "sections": [
        {"label": "verse", "bars": 4, "chords": "A:min*4 F:maj*2 G:maj*2", "energy": [0.2, 0.4]},
        {"label": "chorus", "bars": 6, "chords": "D:min7*3 N*1", "instruments": ["drums", "pad"]},
    ],
}


def same(a: Score, b: Score) -> None:
    assert a.seconds == b.seconds
    np.testing.assert_allclose(a.beats_seconds, b.beats_seconds, atol=1e-5)
    np.testing.assert_allclose(a.downbeats_seconds, b.downbeats_seconds, atol=1e-5)
    assert [chord.symbol for chord in a.chords] == [chord.symbol for chord in b.chords]
    for x, y in ((a.sections, b.sections), (a.energy, b.energy), (a.parts, b.parts)):
        assert [item[1] for item in x] == [item[1] for item in y]
        np.testing.assert_allclose([item[0] for item in x], [item[0] for item in y], atol=2e-4)
    np.testing.assert_allclose(
        [chord.start_seconds for chord in a.chords], [chord.start_seconds for chord in b.chords], atol=2e-4
    )


@pytest.mark.parametrize("seconds", [0.04, 7.3, 20.0, 61.03, 180.0])
@pytest.mark.parametrize("text", ["lo-fi, 83.7 bpm", "folk waltz in G", "techno", "lo-fi in 5/4, quiet"])
def test_a_plan_survives_the_file_and_stays_in_bars(habits: Habits, seconds: float, text: str) -> None:
    prompt = parse(text)
    for seed in range(3):
        score, attributes = plan(prompt, seconds, habits, seed), resolve_attributes(prompt, habits, seed)
        values = json.loads(json.dumps(score_to_json(score, attributes)))
        assert values["unit"] == "bars"
        read, again = score_from_json(values)
        same(read, score)
        assert again == Attributes(**{**vars(attributes), "seconds": seconds})
        assert score_to_json(read, again) == values


def test_labels_off_the_grid_survive_in_seconds() -> None:
    beats = np.array([0.1, 0.62, 1.1, 1.63, 2.1])
    chords = (Chord(0.1, 2, "min7"), Chord(1.05, None), Chord(1.6, 9, "7"))
    score = Score(2.5, beats, beats[::4], chords, ((0.0, "verse"), (1.1, "break")), ((0.0, 0.2), (2.0, 0.9)),
                  ((0.4, ("harp",)), (1.3, ())))  # fmt: skip
    attributes = Attributes(tempo_bpm=118.0, key=Key(2, "minor"), beats_per_bar=4, seconds=2.5)
    values = json.loads(json.dumps(score_to_json(score, attributes)))
    assert values["unit"] == "seconds"
    read, again = score_from_json(values)
    same(read, score)
    assert again == attributes
    same(score_from_json(score_to_json(Score(3.0), Attributes()))[0], Score(3.0))


def test_tracks_survive(track: Callable[..., tuple[Attributes, Score]]) -> None:
    attributes, score = track(tempo=87.0)
    same(score_from_json(score_to_json(score, attributes))[0], score)


def test_an_edited_plan_is_obeyed() -> None:
    score, attributes = score_from_json(EDITED)
    assert attributes.key == Key(9, "minor")
    assert len(score.beats_seconds) == 40
    assert score.sections == ((0.0, "verse"), (8.0, "chorus"))
    assert score.parts == ((8.0, ("drums", "pad")),)
    assert [(c.start_seconds, c.symbol) for c in score.chords[:4]] == [
        (0.0, "A:min"), (2.0, "F:maj"), (3.0, "G:maj"), (4.0, "A:min"),
    ]  # fmt: skip
    assert [(c.start_seconds, c.symbol) for c in score.chords[6:9]] == [(8.0, "D:min7"), (9.5, "N"), (10.0, "D:min7")]
    assert np.interp([0, 7.95, 12], *zip(*score.energy, strict=True)) == pytest.approx([0.2, 0.4, 0.5])


def change(path: str, value: Any) -> dict[str, Any]:
    values = json.loads(json.dumps(EDITED))
    *parents, last = path.split(".")
    place = values
    for name in parents:
        place = place[int(name)] if isinstance(place, list) else place[name]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return values


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("tempo_bpm", 7, "plan.json: tempo_bpm: "),
        ("tempo_bpm", None, "tempo_bpm: missing"),
        ("key", "H#", "key: 'H#' is no key"),
        ("seconds", 0, "seconds: "),
        ("seconds", 7, "sections.1: starts at 8 s, past the end at 7 s"),
        ("beats_per_bar", 4.5, "beats_per_bar: "),
        ("sections", [], "sections: at least one"),
        ("sections.0.label", "drop", "sections.0.label: 'drop' is no section: choose one of intro"),
        ("sections.1.chords", "D:foo*4", "sections.1.chords: 'D:foo' is no chord"),
        ("sections.1.chords", "D:min", "sections.1.chords: 'D:min': expected a chord and its length in beats"),
        ("sections.1.chords", "D:min*0", "sections.1.chords: 'D:min*0'"),
        ("sections.1.chords", "D:min*nan", "sections.1.chords: 'D:min*nan'"),
        ("sections.0.bars", 0, "sections.0.bars: "),
        ("sections.0.bars", None, "sections.0.bars: missing"),
        ("sections.1.start_bar", 3, "sections.1.start_bar: 3, expected at least 5"),
        ("sections.0.start_bar", 2, "sections.0.start_bar: 2, expected 1"),
        ("sections.0.energy", [0.1, 1.2], "sections.0.energy.1: "),
        ("sections.0.start_seconds", 1.0, "sections.0.start_seconds: not used in a plan in bars"),
        ("sections.1.instruments", ["kazoo"], "sections.1.instruments.0: 'kazoo' is no instrument: choose among"),
        ("parts", [[0, ["harp"]]], "parts: only for a plan in seconds"),
        ("beats_seconds", [0, 1], "beats_seconds: only for a plan in seconds"),
        ("colour", "red", "colour: "),
    ],
)
def test_bad_plans_name_the_field(path: str, value: Any, words: str) -> None:
    with pytest.raises(AudiogenError) as caught:
        score_from_json(change(path, value), "plan.json")
    assert words in str(caught.value)
    assert str(caught.value).startswith("plan.json: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([], "expected a JSON object"),
        ({"seconds": 3, "unit": "seconds", "beats_seconds": [1, 0.5]}, "beats_seconds: times must ascend"),
        ({"seconds": 3, "unit": "seconds", "chords": [[4, "N"]]}, "chords: times must ascend and lie within 3"),
        ({"seconds": 3, "unit": "seconds", "sections": [{"label": "verse"}]}, "sections.0.start_seconds: missing"),
        (
            {"seconds": 3, "unit": "seconds", "sections": [{"label": "verse", "start_seconds": 4}]},
            "start_seconds must ascend",
        ),
        ({"seconds": 3, "unit": "seconds", "sections": [{"label": "verse", "bars": 4}]}, "bars: not used"),
        ({"seconds": 3, "unit": "seconds", "parts": [[4, []]]}, "parts: times must ascend and lie within 3"),
    ],
)
def test_bad_plans_in_seconds(values: Any, words: str) -> None:
    with pytest.raises(AudiogenError, match=words):
        score_from_json(values)


def test_the_table_shows_the_plan() -> None:
    score, attributes = score_from_json(EDITED)
    lines = describe(score, attributes).splitlines()
    assert lines[0] == "techno · 120 bpm · A minor · 4 beats a bar · 20 s"
    assert lines[2].split() == ["verse", "0:00.0", "4", "0.20–0.40", "A:min*4", "F:maj*2", "G:maj*2"]
    assert lines[3].split()[:3] == ["chorus", "0:08.0", "6"]
    assert describe(Score(3.0), Attributes()).startswith("3 s")
    parts = ((0.0, ("kick", "synth bass")), (2.0, ("kick", "synth bass")), (8.0, ()))
    lines = describe(dataclasses.replace(score, parts=parts), attributes).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["verse", "kick,", "chorus", "nobody"]
    assert lines[3].strip() == "kick, synth bass"
