from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from audiogen.interfaces import STYLES, Attributes, AudiogenError, Key, Prompt, Score
from audiogen.style.habits import Habits, find_loop, learn
from audiogen.style.parse import parse
from audiogen.style.planner import plan, resolve_attributes


def check(score: Score, seconds: float, tempo: float, metre: int) -> None:
    """What holds for every plan."""
    beat = 60.0 / tempo
    assert score.seconds == seconds
    assert score.beats_seconds == pytest.approx(np.arange(len(score.beats_seconds)) * beat)
    assert score.beats_seconds[-1] < seconds <= score.beats_seconds[-1] + beat + 1e-6
    assert np.array_equal(score.downbeats_seconds, score.beats_seconds[::metre])
    for times in (
        [chord.start_seconds for chord in score.chords],
        [start for start, _ in score.sections],
        [start for start, _ in score.energy],
    ):
        assert times[0] == 0.0
        assert all(a < b for a, b in pairwise(times))
        assert times[-1] < seconds
    bars = np.array([start for start, _ in score.sections]) / beat / metre
    assert bars == pytest.approx(np.round(bars), abs=1e-3)
    assert all(0 <= level <= 1 for _, level in score.energy)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("seconds", [5.0, 30.0, 123.456])
def test_plans_in_every_style_fit_and_obey(style: str, seconds: float) -> None:
    habits = Habits.load()
    prompt = parse(f"{style}, 97 bpm, Eb minor")
    attributes = resolve_attributes(prompt, habits, seed=3)
    assert (attributes.style, attributes.tempo_bpm, attributes.key) == (style, 97, Key(3, "minor"))
    assert attributes.instruments
    score = plan(prompt, seconds, habits, seed=3)
    check(score, seconds, 97, attributes.beats_per_bar or 0)
    if seconds >= 20:
        assert score.sections[-1][1] == "outro"
        assert score.chords[-1].root == 3


@pytest.mark.parametrize("seconds", [0.04, 1.0, 19.99, 20.0, 31.7, 180.0, 3600.0])
@pytest.mark.parametrize("metre", [2, 3, 4, 5, 7])
def test_any_length_and_metre(habits: Habits, seconds: float, metre: int) -> None:
    prompt = Prompt("", Attributes(style="folk", tempo_bpm=61.3, beats_per_bar=metre))
    check(plan(prompt, seconds, habits, seed=0), seconds, 61.3, metre)


def test_ten_hours_are_planned_in_no_time(habits: Habits) -> None:
    begun = time.perf_counter()
    score = plan(Prompt("", Attributes(style="techno", tempo_bpm=140)), 36000.0, habits, seed=1)
    assert time.perf_counter() - begun < 2
    check(score, 36000.0, 140, 4)
    assert 1000 < len(score.sections) < 5000


def test_short_clips_are_the_middle_and_whole_ones_have_a_form(habits: Habits) -> None:
    prompt = Prompt("", Attributes(style="lo-fi"))
    assert {plan(prompt, 12.0, habits, seed).sections[0][1] for seed in range(20)} == {"verse", "chorus"}
    score = plan(prompt, 120.0, habits, seed=1)  # 40 bars of 4 at 80 bpm: as the tracks are
    assert [label for _, label in score.sections] == ["intro", "verse", "chorus", "verse", "chorus", "outro"]
    assert [start for start, _ in score.sections] == [0.0, 12.0, 36.0, 60.0, 84.0, 108.0]


def test_one_label_has_one_loop_in_the_key(habits: Habits) -> None:
    score = plan(Prompt("", Attributes(style="lo-fi", key=Key(2, "minor"))), 120.0, habits, seed=1)
    loops = {str(find_loop(score, 12.0 + 48 * i, 36.0 + 48 * i, 4, 2)) for i in (0, 1)}
    assert loops == {"4|0:min7*4 5:min7*4"}
    assert str(find_loop(score, 36.0, 60.0, 4, 2)) == "4|8:maj*2 10:maj*2 0:min*4"
    assert [(c.start_seconds, c.symbol) for c in score.chords[-4:]] == [
        (108.0, "D:min7"), (111.0, "G:min7"), (114.0, "D:min7"), (117.0, "D:min6"),
    ]  # fmt: skip


def test_energy_is_that_of_the_sections_moved_to_what_is_asked(habits: Habits) -> None:
    def mean(energy: float | None) -> float:
        score = plan(Prompt("", Attributes(style="lo-fi", energy=energy)), 120.0, habits, seed=1)
        return float(np.mean([level for _, level in score.energy]))

    assert mean(0.2) < mean(None) < mean(0.9)
    score = plan(Prompt("", Attributes(style="lo-fi")), 120.0, habits, seed=1)
    assert np.interp([40.0, 50.0], *zip(*score.energy, strict=True)) == pytest.approx([0.8, 0.8])


def test_a_seed_is_a_plan(habits: Habits) -> None:
    prompt = parse("something calm")
    first, again = (plan(prompt, 90.0, habits, seed=5) for _ in range(2))
    assert (first.chords, first.sections, first.energy) == (again.chords, again.sections, again.energy)
    others = [plan(prompt, 90.0, habits, seed) for seed in range(12)]
    assert len({(score.chords, score.sections) for score in others}) >= 3
    with pytest.raises(AudiogenError, match="seed -1: expected 0 or more"):
        plan(prompt, 90.0, habits, seed=-1)


def test_fixing_one_thing_leaves_the_others(habits: Habits) -> None:
    free = resolve_attributes(parse("techno"), habits, seed=8)
    fixed = resolve_attributes(parse("techno, F# major"), habits, seed=8)
    assert (fixed.tempo_bpm, fixed.instruments) == (free.tempo_bpm, free.instruments)
    slow, quick = (plan(parse(f"techno {bpm} bpm, A minor"), 120.0, habits, seed=8) for bpm in (120, 121))
    assert [chord.symbol for chord in slow.chords[:8]] == [chord.symbol for chord in quick.chords[:8]]


def test_habits_fill_what_is_left_open(habits: Habits) -> None:
    drawn = [resolve_attributes(parse("lo-fi"), habits, seed) for seed in range(200)]
    keys = Counter(str(attributes.key) for attributes in drawn)
    assert keys["D minor"] / 200 == pytest.approx(0.75, abs=0.1)
    assert keys["F major"] + keys["D minor"] == 200
    assert {attributes.instruments for attributes in drawn} == {("bass", "drums", "electric piano")}
    tempos = [resolve_attributes(parse("techno"), habits, seed).tempo_bpm or 0 for seed in range(100)]
    assert min(tempos) >= 120
    assert max(tempos) <= 140
    assert np.median(tempos) == pytest.approx(130, abs=3)
    happy = [resolve_attributes(parse("happy lo-fi"), habits, seed) for seed in range(100)]
    assert sum(attributes.key == Key(5, "major") for attributes in happy) > 30


def test_the_style_follows_from_what_was_said(habits: Habits) -> None:
    def share(text: str, style: str) -> float:
        return sum(resolve_attributes(parse(text), habits, seed).style == style for seed in range(40)) / 40

    assert share("aggressive, with a drum machine", "techno") > 0.9
    assert share("electric piano", "lo-fi") > 0.7
    assert share("130 bpm", "techno") == 1
    assert share("a waltz", "folk") > 0.9
    assert 0.2 < share("whatever", "lo-fi") < 0.8


def test_asked_instruments_come_first_and_excluded_ones_stay_out(habits: Habits) -> None:
    attributes = resolve_attributes(parse("lo-fi with a harp and bass, no drums"), habits, seed=0)
    assert attributes.instruments == ("harp", "bass", "electric piano")


def test_the_band_plays_as_the_style_is_wont_to(track: Callable[..., tuple[Attributes, Score]]) -> None:
    band = ("bass", "bells", "drums", "pad")
    attributes, score = track("techno", 120.0, "A minor", instruments=band)
    changes = {"intro": ("pad",), "chorus": band, "outro": ("pad",)}
    parts = tuple((start, changes.get(label, ("bass", "drums", "pad"))) for start, label in score.sections)
    habits = learn([(attributes, replace(score, parts=parts))])

    def playing(text: str) -> dict[str, tuple[str, ...]]:
        planned = plan(parse(text), 120.0, habits, seed=2)
        found = {label: [n for at, n in planned.parts if at <= start][-1] for start, label in planned.sections}
        assert planned.parts[0][0] == 0.0
        assert all(a != b for (_, a), (_, b) in pairwise(planned.parts))
        return found

    expected = {"intro": ("pad",), "verse": ("bass", "drums", "pad"), "chorus": band, "outro": ("pad",)}
    assert playing("techno") == expected
    assert playing("techno, no drums") == {
        label: tuple(name for name in names if name != "drums") for label, names in expected.items()
    }
    with_harp = playing("techno with a harp")  # nobody knows when a harp plays: always
    assert all("harp" in names for names in with_harp.values())


def test_unknown_styles_use_all_habits(habits: Habits) -> None:
    attributes = resolve_attributes(Prompt("", Attributes(style="polka")), habits, seed=0)
    assert attributes.style == "polka"
    assert attributes.tempo_bpm and attributes.key
    empty = Habits.model_validate({"styles": {}, "overall": {"tracks": 0}})
    check(plan(Prompt(""), 40.0, empty, seed=0), 40.0, 100, 4)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf"), 36001.0])
def test_bad_lengths(habits: Habits, seconds: float) -> None:
    with pytest.raises(AudiogenError, match="above 0 and at most 36000 seconds"):
        plan(Prompt("jazz"), seconds, habits, seed=0)
