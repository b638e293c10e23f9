from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from audiogen.interfaces import Attributes, AudiogenError, Chord, Score
from audiogen.style.habits import MAX_BYTES, Habits, Loop, find_loop, learn

Track = Callable[..., tuple[Attributes, Score]]


def test_learned_habits_are_the_statistics_of_the_tracks(habits: Habits) -> None:
    assert set(habits.styles) == {"lo-fi", "techno", "folk"}
    assert (habits.overall.tracks, habits.styles["lo-fi"].tracks) == (8, 4)
    lofi, techno = habits.styles["lo-fi"], habits.styles["techno"]
    assert lofi.keys == {"D minor": 3, "F major": 1}
    assert lofi.tempos_bpm == (80.0,) * 7
    assert (techno.tempos_bpm[0], techno.tempos_bpm[3], techno.tempos_bpm[-1]) == (120.0, 130.0, 140.0)
    assert lofi.beats_per_bar == {4: 4}
    assert lofi.next_section["start"] == {"intro": 4}
    assert lofi.next_section["chorus"] == {"outro": 4, "verse": 4}
    assert lofi.next_section["outro"] == {"end": 4}
    assert lofi.bars == {"chorus": {8: 8}, "intro": {4: 4}, "outro": {4: 4}, "verse": {8: 8}}
    assert lofi.typical_bars == 40
    assert lofi.energy["chorus"] == (0.8, 0.8)
    assert lofi.energy["intro"] == pytest.approx((0.1, 0.3), abs=0.01)
    assert lofi.loops["minor"]["verse"] == {"4|0:min7*4 5:min7*4": 3}
    assert lofi.loops["minor"]["chorus"] == {"4|8:maj*2 10:maj*2 0:min*4": 3}
    assert lofi.loops["major"]["chorus"] == {"4|5:maj*4 0:maj*4": 1}
    assert lofi.same_chords["chorus"] == {"verse": 0.0}
    assert lofi.same_chords["intro"] == {"chorus": 0.0, "verse": 1.0}
    assert lofi.same_chords["outro"] == {"chorus": 0.0, "intro": 1.0, "verse": 1.0}
    assert lofi.endings["minor"] == {"4|5:min7*4 0:min7*4 0:min6*4": 3}
    assert lofi.ending_seconds == 3.0
    assert lofi.moods == {"calm": 3, "happy": 1}
    assert techno.bands == {"drum machine, synth bass": 3}
    assert habits.styles["folk"].loops["major"]["verse"] == {"3|0:maj*3 7:maj*3": 1}


def test_who_plays_when_is_the_share_of_the_sections_of_a_label(track: Track) -> None:
    parts = [((0.0, ("bass",)), (12.0, ("bass", "drums")), (36.0, ("drums",)), (60.0, ("bass", "drums"))), ()]
    tracks = [track("techno", instruments=("bass", "drums", "harp")) for _ in parts]  # intro 12 s, then 24 s each
    own = learn([(a, replace(s, parts=p)) for (a, s), p in zip(tracks, parts, strict=True)]).styles["techno"]
    assert own.playing["intro"] == {"bass": 1.0, "drums": 0.0, "harp": 0.0}
    assert own.playing["verse"] == {"bass": 1.0, "drums": 1.0, "harp": 0.0}
    assert own.playing["chorus"] == {"bass": 0.5, "drums": 1.0, "harp": 0.0}


def test_moods_know_their_mode(habits: Habits) -> None:
    happy, aggressive = habits.moods["happy"], habits.moods["aggressive"]
    assert happy.minor_share < 0.5 < aggressive.minor_share
    assert happy.tempo_place == aggressive.tempo_place == 0.5


def test_moods_know_their_tempo_and_energy(track: Track) -> None:
    pairs = [("calm", 80.0, 0.3), ("calm", 90.0, 0.3), ("epic", 110.0, 0.7), ("epic", 120.0, 0.7)]
    tracks = [track("cinematic", tempo, moods=(mood,)) for mood, tempo, _ in pairs]
    tracks = [(replace(a, energy=energy), score) for (a, score), (_, _, energy) in zip(tracks, pairs, strict=True)]
    moods = learn(tracks).moods
    assert moods["calm"].tempo_place == pytest.approx((0.125 + 0.375 + 1.0) / 4)
    assert moods["epic"].energy_shift == pytest.approx(0.1) == -moods["calm"].energy_shift


def test_missing_labels_are_passed_over(track: Track) -> None:
    attributes, score = track()
    bare = learn([(Attributes(style="rock"), Score(10.0)), (attributes, replace(score, beats_seconds=np.zeros(0)))])
    assert bare.styles["rock"].tracks == 1
    assert bare.styles["lo-fi"].loops == {}
    assert bare.styles["lo-fi"].next_section["start"] == {"intro": 1}


def test_a_metre_is_read_from_the_downbeats(track: Track) -> None:
    attributes, score = track(metre=3, key="G major")
    learned = learn([(replace(attributes, beats_per_bar=None), score)])
    assert learned.styles["lo-fi"].bars["verse"] == {8: 2}


@pytest.mark.parametrize("text", ["4|0:min7*4 5:min7*4", "3|N*1.5 11:hdim7*1.5"])
def test_loops_as_text(text: str) -> None:
    assert str(Loop.parse(text)) == text


@pytest.mark.parametrize("text", ["", "4|", "4|12:min*4", "4|0:foo*4", "4|0:min*-1", "4|0:min", "0|0:min*4"])
def test_bad_loops(text: str) -> None:
    with pytest.raises(ValueError):
        Loop.parse(text)


def test_a_variation_at_the_end_leaves_the_loop_and_no_repeat_gives_sixteen_bars() -> None:
    beats = np.arange(96) * 0.5
    loop = [Chord(i * 2.0, (0, 5)[i % 2], "maj") for i in range(15)] + [Chord(30.0, 7, "7")]
    found = find_loop(Score(32.0, beats, beats[::4], tuple(loop)), 0.0, 32.0, 4, 0)
    assert str(found) == "4|0:maj*4 5:maj*4"
    wander = tuple(Chord(i * 2.0, i % 12, "maj" if i < 12 else "min") for i in range(24))
    found = find_loop(Score(48.0, beats, beats[::4], wander), 0.0, 48.0, 4, 0)
    assert found is not None
    assert [chord.degree for chord in found.chords] == [*range(12), *range(4)]


def test_habits_survive_the_file_and_stay_small(habits: Habits, track: Track, tmp_path: Path) -> None:
    habits.save(tmp_path / "habits.json")
    assert Habits.load(tmp_path / "habits.json") == habits
    dice = np.random.default_rng(0)
    many = []
    for index in range(150):
        attributes, score = track(f"style {index % 15}", 100.0, "C minor")
        roots = dice.integers(0, 12, len(score.chords))
        wild = tuple(replace(chord, root=int(root)) for chord, root in zip(score.chords, roots, strict=True))
        many.append((attributes, replace(score, chords=wild)))
    text = learn(many).text()
    assert len(text.encode()) <= MAX_BYTES
    assert all(style["loops"]["minor"]["verse"] for style in json.loads(text)["styles"].values())


def test_bad_habits(tmp_path: Path) -> None:
    with pytest.raises(AudiogenError, match="no tracks"):
        learn([])
    with pytest.raises(AudiogenError, match="no such file of habits"):
        Habits.load(tmp_path / "none.json")
    path = tmp_path / "broken.json"
    path.write_text("{")
    with pytest.raises(AudiogenError, match=r"broken.json: not valid JSON"):
        Habits.load(path)
    path.write_text('{"styles": {}, "overall": {"tracks": 1, "loops": {"minor": {"verse": {"4|x": 1}}}}}')
    with pytest.raises(AudiogenError, match=r"overall: .*'x' is no chord of a loop"):
        Habits.load(path)


def test_the_recipe_learns_from_training_tracks_only(track: Track, tmp_path: Path) -> None:
    main = runpy.run_path(str(Path(__file__).parents[2] / "recipes" / "learn_habits.py"))["main"]
    lines = []
    for index, split in enumerate(("train", "train", "validation", "test")):
        attributes, score = track(key="D minor" if split == "train" else "E minor")
        values = {"path": f"{index}.wav", "sha256": "0" * 64, "sample_rate": 100, "channels": 2, "split": split}
        values |= {"samples": round(score.seconds * 100), "licence": "CC0-1.0", "rights_holder": "us"}
        values |= {"composition": str(index), "style": attributes.style, "key": str(attributes.key)}
        lines.append(json.dumps(values))
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines) + "\n")
    assert main(tmp_path / "manifest.jsonl", tmp_path / "habits.json").overall.keys == {"D minor": 2}
    assert Habits.load(tmp_path / "habits.json").overall.tracks == 2
    (tmp_path / "manifest.jsonl").write_text(lines[-1] + "\n")
    with pytest.raises(AudiogenError, match='no track of the split "train"'):
        main(tmp_path / "manifest.jsonl", tmp_path / "habits.json")
