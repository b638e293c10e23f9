from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from audiogen.data.manifest import Track, read_manifest, resolve, summarise, validate, write_manifest
from audiogen.files import sha256_file
from audiogen.interfaces import AudiogenError, Chord, Key


def values(**changes: Any) -> dict[str, Any]:
    return {
        "path": "lofi/one.wav", "sha256": "0" * 64, "sample_rate": 8000, "channels": 2, "samples": 80000,
        "split": "train", "licence": "CC0-1.0", "rights_holder": "audiogen", "composition": "lofi-1",
        "captions": ["a calm lo-fi beat"], "style": "lo-fi", "moods": ["calm"], "instruments": ["piano", "drums"],
        "tempo_bpm": 80.0, "key": "Dm", "beats_per_bar": 4, "beats_seconds": [0, 0.75, 1.5],
        "downbeats_seconds": [0.0], "chords": [[0, "D:min7"], [3, "N"]], "sections": [[0, "intro"], [5, "verse"]],
        "energy": [[0, 0.0], [10, 1.0]], "parts": [[0, ["piano"]], [5, ["drums", "piano"]]],
    } | changes  # fmt: skip


def track(**changes: Any) -> Track:
    return Track.model_validate(values(**changes))


def on_disk(root: Path, name: str = "lofi/one.wav", samples: int = 800, **changes: Any) -> Track:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full((samples, 2), len(name) / 100), 8000)
    unlabelled = {
        label: [] for label in ("beats_seconds", "downbeats_seconds", "chords", "sections", "energy", "parts")
    }
    return track(**({"path": name, "sha256": sha256_file(path), "samples": samples} | unlabelled | changes))


def test_written_tracks_read_back_equal(tmp_path: Path) -> None:
    tracks = [track(), track(path="b.wav", composition="b", captions=["café"], beats_seconds=[0.123456, 0.2])]
    write_manifest(tmp_path / "m.jsonl", tracks)
    assert read_manifest(tmp_path / "m.jsonl") == tracks
    assert len((tmp_path / "m.jsonl").read_text(encoding="utf-8").splitlines()) == 2
    assert tracks[1].beats_seconds == (0.1235, 0.2)


def test_a_packed_manifest_is_read_and_a_damaged_one_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.jsonl", [track()])
    packed = tmp_path / "m.jsonl.gz"
    packed.write_bytes(gzip.compress((tmp_path / "m.jsonl").read_bytes()))
    assert read_manifest(packed) == [track()]
    whole = packed.read_bytes()
    for damaged in (whole[:-20], whole[:20] + b"?" + whole[21:], b"no archive"):
        packed.write_bytes(damaged)
        with pytest.raises(AudiogenError, match="cannot read the manifest: "):
            read_manifest(packed)


def test_score_and_attributes() -> None:
    score, attributes = track().score(), track().attributes()
    assert score.seconds == attributes.seconds == 10.0
    np.testing.assert_array_equal(score.beats_seconds, [0, 0.75, 1.5])
    assert score.chords == (Chord(0.0, 2, "min7"), Chord(3.0, None))
    assert score.sections == ((0.0, "intro"), (5.0, "verse"))
    assert score.parts == ((0.0, ("piano",)), (5.0, ("drums", "piano")))
    assert attributes.key == Key(2, "minor") and attributes.style == "lo-fi" and attributes.tempo_bpm == 80
    assert attributes.energy == pytest.approx(0.5, abs=1e-3)
    assert track(energy=[], key=None).attributes().energy is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"path": "/etc/passwd"}, "path: .*relative"),
        ({"path": "a/../../b.wav"}, "path: .*relative"),
        ({"path": "a\\b.wav"}, "path: .*relative"),
        ({"path": "C:/b.wav"}, "path: .*relative"),
        ({"path": ""}, "path: .*relative"),
        ({"sha256": "xyz"}, "sha256"),
        ({"samples": 0}, "samples"),
        ({"split": "dev"}, "split"),
        ({"licence": ""}, "licence"),
        ({"key": "H# minor"}, "key: .*H# minor"),
        ({"tempo_bpm": float("nan")}, "tempo_bpm"),
        ({"beats_seconds": [1.0, 0.5]}, "beats_seconds: .*0.5 follows 1.0"),
        ({"downbeats_seconds": [-0.1]}, "downbeats_seconds"),
        ({"sections": [[0, "middle eight"]]}, "'middle eight' is no section"),
        ({"chords": [[0, "D:min13"]]}, "'D:min13' is no chord"),
        ({"chords": [[0, "H:maj"]]}, "'H' is no note name"),
        ({"chords": [[11, "N"]]}, "past the end"),
        ({"energy": [[0, 1.5]]}, "energy"),
        ({"parts": [[0, ["harp"]]]}, "parts: 'harp' at 0.0 s is not among the track's instruments"),
        ({"parts": [[2, ["piano"]], [2, []]]}, "parts: .*2.0 follows 2.0"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_broken_line_is_named_by_number(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps(values()) + "\n\n" + json.dumps(values(**changes)) + "\n")
    with pytest.raises(AudiogenError, match=rf"m\.jsonl:3: bad track: .*{words}"):
        read_manifest(path)


@pytest.mark.parametrize("line", [b"{", b'{"path": "\xff"}', b"[]", b"3"])
def test_a_line_that_is_no_object_is_named_by_number(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "m.jsonl").write_bytes(line + b"\n")
    with pytest.raises(AudiogenError, match=r"m\.jsonl:1: "):
        read_manifest(tmp_path / "m.jsonl")


def test_a_missing_or_empty_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AudiogenError, match="cannot read the manifest: No such file"):
        read_manifest(tmp_path / "m.jsonl")
    (tmp_path / "m.jsonl").write_text("\n")
    with pytest.raises(AudiogenError, match="holds no tracks"):
        read_manifest(tmp_path / "m.jsonl")
    assert validate(tmp_path / "m.jsonl", tmp_path) == [f"{tmp_path / 'm.jsonl'}: the manifest holds no tracks"]


def test_resolve_stays_inside_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    (tmp_path / "secret.wav").write_bytes(b"")
    (root / "file.wav").symlink_to(tmp_path / "secret.wav")
    (root / "folder").symlink_to(tmp_path)
    (root / "inside.wav").symlink_to(root / "a" / "one.wav")
    (tmp_path / "alias").symlink_to(root)
    assert resolve(root, track(path="a/one.wav")) == root.resolve() / "a/one.wav"
    assert resolve(root, track(path="inside.wav")) == root.resolve() / "inside.wav"
    assert resolve(tmp_path / "alias", track(path="a/one.wav")) == root.resolve() / "a/one.wav"
    for path in ("file.wav", "folder/secret.wav"):
        with pytest.raises(AudiogenError, match="leads out of the root"):
            resolve(root, track(path=path))
    for path in ("../secret.wav", str(tmp_path / "secret.wav")):
        with pytest.raises(AudiogenError, match="leads out of the root"):
            resolve(root, track().model_copy(update={"path": path}))


def test_a_sound_manifest_has_no_problems(tmp_path: Path) -> None:
    tracks = [on_disk(tmp_path), on_disk(tmp_path, "b/two.wav", composition="two", split="test")]
    write_manifest(tmp_path / "m.jsonl", tracks)
    assert validate(tmp_path / "m.jsonl", tmp_path, check_audio=True) == []


def test_validate_finds_every_problem(tmp_path: Path) -> None:
    sound = on_disk(tmp_path)
    (tmp_path / "foreign.wav").write_text("not audio")
    (tmp_path / "out.wav").symlink_to("/etc/hostname")
    tracks = [
        sound,
        sound,
        sound.model_copy(update={"path": "missing.wav", "split": "test"}),
        on_disk(tmp_path, "b.wav", composition="b", samples=900, sample_rate=48000, channels=1),
        on_disk(tmp_path, "c.wav", composition="c", sha256="1" * 64),
        track(path="foreign.wav", composition="d", sha256=sha256_file(tmp_path / "foreign.wav")),
        track(path="out.wav", composition="e", sha256="2" * 64),
    ]
    write_manifest(tmp_path / "m.jsonl", tracks)
    with open(tmp_path / "m.jsonl", "a") as file:
        file.write("{\n")
    problems = validate(tmp_path / "m.jsonl", tmp_path, check_audio=True)
    expected = [
        "m.jsonl:3: missing.wav: there is no such file",
        "m.jsonl:4: b.wav: sample_rate is 8000, the manifest says 48000",
        "m.jsonl:4: b.wav: channels is 2, the manifest says 1",
        "m.jsonl:5: c.wav: the file is not the one described",
        "m.jsonl:6: ",
        "m.jsonl:7: out.wav: leads out of the root",
        "m.jsonl:8: not valid JSON",
        "'lofi/one.wav' is listed on the lines 1, 2",
        "the composition 'lofi-1' is in several splits: test, train",
        f"the audio with sha256 '{sound.sha256}' is in several splits: test, train",
    ]
    assert len(problems) == len(expected), problems
    for problem, words in zip(problems, expected, strict=True):
        assert words in problem
    quick = validate(tmp_path / "m.jsonl", tmp_path, check_audio=False)
    assert len(quick) == 6


def test_summary_counts_and_is_json() -> None:
    tracks = [track(), track(path="b", split="test", key=None, style=None, tempo_bpm=120, composition="b")]
    summary = json.loads(json.dumps(summarise(tracks)))
    assert summary["tracks"] == summary["compositions"] == 2
    assert summary["hours"] == round(20 / 3600, 3)
    assert summary["tracks_by_split"] == {"test": 1, "train": 1}
    assert summary["tracks_by_key"] == {"D minor": 1, "unknown": 1}
    assert summary["tracks_by_instrument"] == {"drums": 2, "piano": 2}
    assert summary["hours_by_style"].keys() == {"lo-fi", "unknown"}
    assert summary["tempo_bpm"] == {"lowest": 80, "highest": 120}
