from __future__ import annotations

import numpy as np
import pytest

from audiogen.interfaces import INSTRUMENTS, SECTIONS, Chord, Score
from audiogen.lm.score import GROUPS, NUM_LANES, lanes

FULL = Score(
    seconds=4.0,
    beats_seconds=np.array([0.0, 1.0, 2.0]),
    downbeats_seconds=np.array([1.0, 3.0]),
    chords=(Chord(0.5, 2, "min7"), Chord(2.0, None), Chord(3.0, 11)),
    sections=((0.0, "intro"), (2.0, "verse")),
    energy=((0.0, 0.0), (4.0, 1.0)),
    parts=((0.0, ("harp",)), (2.0, ("drums", "a kazoo")), (3.0, ())),
)


def at(name: str, score: Score, seconds: float) -> np.ndarray:
    """The lanes of group `name` in the half-second frame with its middle at `seconds`."""
    return lanes(score, round(seconds * 2 - 0.5), 1, 2.0)[0, GROUPS[name]]


def test_groups_cover_every_lane_once() -> None:
    covered = [lane for group in GROUPS.values() for lane in range(group.start, group.stop)]
    assert covered == list(range(NUM_LANES))


@pytest.mark.parametrize(
    ("name", "seconds", "phase"),
    [
        ("beat", 0.25, 0.25), ("beat", 1.75, 0.75), ("beat", 3.25, 0.25), ("beat", 9.75, 0.75),  # runs on after the end
        ("bar", 1.25, 0.125), ("bar", 0.25, 0.625), ("bar", 2.75, 0.875), ("bar", 5.25, 0.125),
    ],
)  # fmt: skip
def test_phases(name: str, seconds: float, phase: float) -> None:
    expected = [np.sin(2 * np.pi * phase), np.cos(2 * np.pi * phase), 1]
    np.testing.assert_allclose(at(name, FULL, seconds), expected, atol=1e-6)


def test_the_tempo_between_uneven_beats_is_theirs() -> None:
    uneven = Score(4.0, beats_seconds=np.array([0.0, 0.5, 1.5]))
    np.testing.assert_allclose(at("beat", uneven, 0.75)[:2], [1, 0], atol=1e-6)  # a quarter of the slower beat
    np.testing.assert_allclose(at("beat", uneven, 2.25)[:2], [-1, 0], atol=1e-6)  # at the last tempo


def test_chords() -> None:
    assert not at("chord", FULL, 0.25).any()  # nothing is known yet
    minor_seventh = np.zeros(25)
    minor_seventh[[2, 5, 9, 0, 12 + 2, 24]] = 1
    np.testing.assert_array_equal(at("chord", FULL, 0.75), minor_seventh)
    np.testing.assert_array_equal(np.flatnonzero(at("chord", FULL, 2.25)), [24])  # a rest is known
    np.testing.assert_array_equal(np.flatnonzero(at("chord", FULL, 99.25)), [3, 6, 11, 23, 24])  # B D# F#


def test_sections_tell_what_and_how_long() -> None:
    for seconds, label, left in ((0.25, "intro", 1.75), (2.25, "verse", 1.75), (3.75, "verse", 0.25)):
        group = at("section", FULL, seconds)
        assert SECTIONS[int(group[:8].argmax())] == label and group[:8].sum() == 1
        np.testing.assert_allclose(group[8:], [left / 8, 1], atol=1e-6)
    assert at("section", Score(60.0, sections=((0.0, "solo"),)), 0.25)[8] == 1
    assert at("section", FULL, 7.25)[8] == 0


def test_energy_is_linear_between_points_and_holds_outside() -> None:
    np.testing.assert_allclose(at("energy", FULL, 1.25), [1.25 / 4, 1], atol=1e-6)
    np.testing.assert_allclose(at("energy", FULL, 9.25), [1, 1], atol=1e-6)


def test_parts_tell_who_plays() -> None:
    for seconds, names in ((0.25, ["harp"]), (1.75, ["harp"]), (2.25, ["drums"]), (3.25, []), (9.25, [])):
        group = at("parts", FULL, seconds)
        assert [name for name, there in zip(INSTRUMENTS, group[:-1], strict=True) if there] == names
        assert group[-1] == 1  # nobody plays is something else than not known


def test_time_counts_up_and_remaining_reaches_zero_and_stays() -> None:
    np.testing.assert_allclose(
        at("time", FULL, 0.25), [0.025, np.log1p(0.25) / 6, 0.375, np.log1p(3.75) / 6, 1], atol=1e-6
    )
    time = lanes(FULL, 0, 12, 2.0)[:, GROUPS["time"]]
    assert (np.diff(time[:, 1]) > 0).all() and (np.diff(time[:8, 3]) < 0).all()
    assert (time[:8, 2] > 0).all() and not time[8:, 2:4].any()
    hour = lanes(Score(3600.0), 0, 90_000, 25.0)[:, GROUPS["time"]]
    assert hour.max() < 1.5 and hour[-1, 2] == pytest.approx(0.002)


def test_what_is_not_known_is_zero() -> None:
    bare = lanes(Score(4.0), 0, 12, 2.0)
    for name, group in GROUPS.items():
        assert bare[:, group].any() == (name == "time")
    one_beat = Score(4.0, beats_seconds=np.array([1.0]), downbeats_seconds=np.array([1.0]))
    assert not lanes(one_beat, 0, 12, 2.0)[:, :6].any()  # one beat has no tempo


def test_cut_anywhere() -> None:
    whole = lanes(FULL, 0, 300, 25.0)
    assert whole.shape == (300, NUM_LANES) and whole.dtype == np.float32
    for start, frames in ((0, 1), (37, 5), (99, 120), (299, 1)):
        np.testing.assert_array_equal(lanes(FULL, start, frames, 25.0), whole[start : start + frames])
