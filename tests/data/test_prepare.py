from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tiny import CODEC, RATE, catalogue, codec, notes

from audiogen.audio.io import write
from audiogen.data import prepare as module
from audiogen.data.codes import PreparedCodes
from audiogen.data.manifest import sha256_file
from audiogen.data.prepare import prepare_codes
from audiogen.interfaces import AudiogenError, Waveform


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
