from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny import CODEC, RATE, catalogue, codec, notes, prepared

from audiogen.audio.io import write
from audiogen.data import prepare as module
from audiogen.data.codes import PreparedCodes
from audiogen.data.excerpts import Excerpts, Source
from audiogen.data.manifest import Track, sha256_file, write_manifest
from audiogen.data.prepare import prepare_codes
from audiogen.interfaces import AudiogenError, Waveform
from audiogen.lm.score import GROUPS, lanes


def test_processes_make_shards(tmp_path: Path) -> None:
    tracks = catalogue(tmp_path)
    codec().save(tmp_path / "codec", "float32")
    said = list(prepare_codes(tmp_path / "codec", tracks, tmp_path, tmp_path / "codes", jobs=1, shard_seconds=8.0))
    assert said == [(0, 3), (2, 3), (3, 3)] or said == [(0, 3), (1, 3), (3, 3)]
    assert len(PreparedCodes(tmp_path / "codes", tracks, tmp_path / "codec")[2]) == 100


def test_a_long_track_is_encoded_block_by_block_as_in_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audio = Waveform(notes(5.3), RATE)
    write(tmp_path / "long.wav", audio)
    track = catalogue(tmp_path / "more")[0].model_copy(
        update={"path": "long.wav", "sha256": sha256_file(tmp_path / "long.wav"), "samples": audio.samples.shape[1]}
    )
    asked: list[float] = []
    real = module.read

    def noted(*arguments: Any) -> Waveform:
        asked.append(arguments[4])
        return real(*arguments)

    monkeypatch.setattr(module, "read", noted)
    monkeypatch.setattr(module, "_BLOCK_SECONDS", 1.01)
    found = module._encode(codec(), track, str(tmp_path))
    assert asked == [1.01] * 6 and found.shape == (-(-audio.samples.shape[1] // CODEC.hop_length), 4)
    monkeypatch.setattr(module, "_BLOCK_SECONDS", 30.0)
    assert (found != module._encode(codec(), track, str(tmp_path))).mean() < 0.01  # ties within rounding


def test_a_track_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracks = catalogue(tmp_path)
    codec().save(tmp_path / "codec", "float32")
    (tmp_path / "1.wav").write_bytes(b"RIFF")
    monkeypatch.setattr(module, "_on_processes", lambda todo, jobs: map(module.encode_shard, todo))
    with pytest.raises(AudiogenError, match=r"1\.wav"):
        list(prepare_codes(tmp_path / "codec", tracks, tmp_path, tmp_path / "codes", shard_seconds=4.0))
    assert list(prepare_codes(tmp_path / "codec", tracks[:1], tmp_path, tmp_path / "codes")) == [(1, 1)]  # is kept


class StandIn:
    """The part of Ray that is used: tasks that run when they are waited for, never more than asked at once."""

    def __init__(self) -> None:
        self.most = self.started = 0
        self.options: dict[str, Any] = {}

    def is_initialized(self) -> bool:
        return self.started > 0

    def init(self) -> None:
        self.started += 1

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}

    def remote(self, **options: Any) -> Any:
        self.options = options
        return lambda function: SimpleNamespace(remote=lambda *given: (function, given))

    def wait(self, running: list[Any]) -> tuple[list[Any], list[Any]]:
        self.most = max(self.most, len(running))
        return running[-1:], running[:-1]

    def get(self, item: Any) -> Any:
        function, given = item
        return function(*given)


def test_ray_tasks_run_the_same_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the boundary; with Ray itself below, where it is installed."""
    tracks = catalogue(tmp_path)
    codec().save(tmp_path / "codec", "float32")
    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, "ray", stand_in)  # type: ignore[arg-type]
    for place, jobs in (("codes", 0), ("more", 2)):
        said = list(
            prepare_codes(tmp_path / "codec", tracks, tmp_path, tmp_path / place, jobs, "ray", shard_seconds=4.0)
        )
        assert said == [(0, 3), (1, 3), (2, 3), (3, 3)]
        assert len(PreparedCodes(tmp_path / place, tracks, tmp_path / "codec")) == 3
        assert stand_in.most == (3 if jobs == 0 else 2) or jobs == 2
    assert stand_in.started == 1 and stand_in.options == {"num_cpus": 1, "num_gpus": 0}


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracks = catalogue(tmp_path)
    codec().save(tmp_path / "codec", "float32")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(AudiogenError, match=r"audiogen\[ray\]"):
        list(prepare_codes(tmp_path / "codec", tracks, tmp_path, tmp_path / "codes", workers="ray"))


def test_with_ray_itself(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    tracks = catalogue(tmp_path)
    codec().save(tmp_path / "codec", "float32")
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        said = list(prepare_codes(tmp_path / "codec", tracks, tmp_path, tmp_path / "codes", workers="ray"))
    finally:
        ray.shutdown()
    assert said == [(0, 3), (3, 3)]
    found = PreparedCodes(tmp_path / "codes", tracks, tmp_path / "codec")
    assert all(np.asarray(found[index]).shape == (100, 4) for index in range(3))


def with_a_beat(folder: Path) -> tuple[list[Track], np.ndarray]:
    """The tiny catalogue with clicks at 100 a minute over held notes first, then silence; neither tells beats."""
    tracks, seconds = catalogue(folder), 12.0
    truth = np.arange(0.2, seconds - 0.5, 0.6)
    audio, time = np.zeros(round(seconds * RATE)), np.arange(RATE // 10) / RATE
    for beat, begin in enumerate(truth):
        tone = np.sin(2 * np.pi * (110 if beat % 4 == 0 else 880) * time) * np.exp(-30 * time)
        audio[round(begin * RATE) :][: len(time)] += tone
        if beat % 4 == 0:  # a note held for the bar
            bar = np.arange(min(round(2.4 * RATE), len(audio) - round(begin * RATE))) / RATE
            audio[round(begin * RATE) :][: len(bar)] += 0.1 * np.sin(2 * np.pi * (220, 262, 330)[beat // 4 % 3] * bar)
    for index, sound in enumerate((audio, 0 * audio)):
        path = folder / f"{index}.wav"
        write(path, Waveform(torch.from_numpy(sound.astype(np.float32)).expand(2, -1), RATE))
        tracks[index] = tracks[index].model_copy(
            update={
                "sha256": sha256_file(path), "samples": len(sound), "tempo_bpm": None, "beats_per_bar": None,
                "beats_seconds": (), "downbeats_seconds": (),
            }
        )  # fmt: skip
    write_manifest(folder / "manifest.jsonl", tracks)
    return tracks, truth


def test_beats_the_manifest_lacks_are_heard_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracks, truth = with_a_beat(tmp_path)
    prepared(tmp_path, tracks)  # codes alone, as an earlier version left them
    source = Source(manifest=str(tmp_path / "manifest.jsonl"), codes=str(tmp_path / "codes"))

    def excerpts() -> Excerpts:
        return Excerpts([source], "train", str(tmp_path / "codec"), frames=250, books=4, pad=32, rate=25.0, seed=1)

    before = excerpts()
    monkeypatch.setattr(module, "_on_processes", lambda todo, jobs: map(module.encode_shard, todo))
    codes = sorted((tmp_path / "codes").glob("*.npy"))
    asked: list[str] = []
    real = module._hear
    monkeypatch.setattr(module, "_hear", lambda track, root: (asked.append(track.path), real(track, root))[1])
    said = [list(prepare_codes(tmp_path / "codec", tracks, tmp_path, tmp_path / "codes")) for _ in range(2)]
    assert said == [[(1, 3), (3, 3)], [(3, 3)]]
    assert asked == ["0.wav", "1.wav"] and sorted((tmp_path / "codes").glob("*.npy")) == codes

    after = excerpts()
    found, bars = (np.array(times) for times in (after.tracks[0].beats_seconds, after.tracks[0].downbeats_seconds))
    assert (np.abs(found[:, None] - truth).min(0) < 0.07).mean() > 0.9 and abs(len(found) - len(truth)) <= 2
    assert (np.abs(bars[:, None] - truth[::4]).min(0) < 0.07).mean() > 0.7
    assert not before.tracks[0].beats_seconds and not after.tracks[1].beats_seconds
    for position in range(4):
        _, item, start = after.place(position)
        told, untold = after[position][2], before[position][2]
        for name in ("beat", "bar"):
            assert not untold[:, GROUPS[name]].any()
            assert told[:, GROUPS[name]].any() == (item == 0)
        assert (told[:, GROUPS["bar"].stop :] == untold[:, GROUPS["bar"].stop :]).all()
        if item == 0:
            right = lanes(tracks[0].model_copy(update={"beats_seconds": tuple(truth)}).score(), start, 250, 25.0)
            turned = (told * right)[:, GROUPS["beat"]][:, :2].sum(1)  # the cosine of how far phases are apart
            assert np.median(turned[told[:, GROUPS["beat"]][:, 2] > 0]) > np.cos(2 * np.pi * 0.07 / 0.6)
    assert before.fingerprint.keys() == {"manifest", "codec"} and "beats of manifest" in after.fingerprint


def test_beats_come_with_the_codes_and_what_is_damaged_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracks, _ = with_a_beat(tmp_path)
    codec().save(tmp_path / "codec", "float32")
    monkeypatch.setattr(module, "_on_processes", lambda todo, jobs: map(module.encode_shard, todo))
    assert list(prepare_codes(tmp_path / "codec", tracks, tmp_path, tmp_path / "codes")) == [(0, 3), (3, 3)]
    assert len(PreparedCodes(tmp_path / "codes", tracks, tmp_path / "codec")) == 3
    (path,) = (tmp_path / "codes").glob("beats-*.json")
    told = json.loads(path.read_text())
    assert told.keys() == {track.sha256[:32] for track in tracks[:2]}  # the third one's manifest tells
    assert told[tracks[1].sha256[:32]] == [[], []]
    path.write_text('{"a": [1]}')
    with pytest.raises(AudiogenError, match=r"beats-\w{16}\.json: not the beats of tracks .* prepare them again"):
        list(prepare_codes(tmp_path / "codec", tracks, tmp_path, tmp_path / "codes"))
