from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny import catalogue, codec, prepared

from audiogen.audio.io import read
from audiogen.data.codes import PreparedCodes
from audiogen.data.manifest import Track
from audiogen.data.prepare import prepare_codes
from audiogen.interfaces import AudiogenError

FOLDERS = pytest.mark.parametrize("place", ["codes", "memory://test-codes"])


@pytest.fixture
def tracks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Track]:
    import fsspec

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("audiogen.data.prepare._on_processes", in_turn)
    memory = fsspec.filesystem("memory")
    if memory.exists("/test-codes"):
        memory.rm("/test-codes", recursive=True)
    codec().save(tmp_path / "codec", "float32")
    return catalogue(tmp_path)


def in_turn(todo, jobs):  # type: ignore[no-untyped-def]
    from audiogen.data.prepare import encode_shard

    return map(encode_shard, todo)


def located(place: str, folder: Path) -> str:
    return place if "://" in place else str(folder / place)


def prepare(place: str, tracks: list[Track], folder: Path, seconds: float = 8.0) -> list[tuple[int, int]]:
    where = located(place, folder)
    return list(prepare_codes(folder / "codec", tracks, folder, where, shard_seconds=seconds))


def check(found: PreparedCodes, tracks: list[Track], folder: Path) -> None:
    assert len(found) == len(tracks)
    for index, track in enumerate(tracks):
        expected = codec().encode(read(folder / track.path).samples[None])[0].T.numpy()
        assert found.frames(index) == len(found[index]) == 100
        assert found[index].shape == (100, 4) and found[index].dtype == np.int16
        assert (found[index] != expected).mean() < 0.01  # the same, ties aside


@FOLDERS
def test_shards_are_made_of_what_is_missing(place: str, tracks: list[Track], tmp_path: Path) -> None:
    assert prepare(place, tracks[:1], tmp_path) == [(0, 1), (1, 1)]
    assert prepare(place, tracks, tmp_path) == [(1, 3), (3, 3)]  # two tracks in one shard
    assert prepare(place, tracks, tmp_path) == [(3, 3)]
    found = PreparedCodes(located(place, tmp_path), tracks, tmp_path / "codec")
    check(found, tracks, tmp_path)
    base = found[2]
    while isinstance(base, np.ndarray) and not isinstance(base.base, np.ndarray | None):
        base = base.base  # type: ignore[assignment]
    assert isinstance(found[2], np.memmap)


def test_a_file_a_track_is_read_as_before(tmp_path: Path) -> None:
    tracks = catalogue(tmp_path)
    prepared(tmp_path, tracks)
    check(PreparedCodes(tmp_path / "codes", tracks, tmp_path / "codec"), tracks, tmp_path)
    assert list(prepare_codes(tmp_path / "codec", tracks, tmp_path, tmp_path / "codes")) == [(3, 3)]


@FOLDERS
def test_a_shard_with_a_wrong_hash_is_named_and_refused(place: str, tracks: list[Track], tmp_path: Path) -> None:
    import fsspec

    prepare(place, tracks, tmp_path)
    file_system, root = fsspec.core.url_to_fs(located(place, tmp_path))
    (name,) = [name for name in file_system.glob(f"{root}/shard-*.npy") if file_system.info(name)["size"] > 1500]
    data = file_system.cat(name)
    file_system.pipe(name, data[:-1] + bytes([data[-1] ^ 1]))
    found = PreparedCodes(located(place, tmp_path), tracks, tmp_path / "codec")
    with pytest.raises(AudiogenError, match=r"shard-[0-9a-f]{16}\.npy: its hash is not the one noted"):
        found[0]


def test_a_copy_here_that_was_harmed_is_fetched_again(tracks: list[Track], tmp_path: Path) -> None:
    prepare("memory://test-codes", tracks, tmp_path)
    check(PreparedCodes("memory://test-codes", tracks, tmp_path / "codec"), tracks, tmp_path)
    (copy, *_) = (tmp_path / "cache").rglob("shard-*.npy")
    copy.write_bytes(b"harm")
    check(PreparedCodes("memory://test-codes", tracks, tmp_path / "codec"), tracks, tmp_path)


def test_a_shard_without_its_list_is_made_again(tracks: list[Track], tmp_path: Path) -> None:
    """As when it was killed between the two."""
    prepare("codes", tracks, tmp_path, seconds=100.0)
    (told,) = (tmp_path / "codes").glob("shard-*.json")
    told.unlink()
    assert prepare("codes", tracks, tmp_path, seconds=100.0) == [(0, 3), (3, 3)]
    assert sorted(path.suffix for path in (tmp_path / "codes").glob("shard-*")) == [".json", ".npy"]
    told.write_text(json.dumps({"tracks": 5}))
    with pytest.raises(AudiogenError, match=r"shard-.*json: not the list of a shard"):
        PreparedCodes(tmp_path / "codes", tracks, tmp_path / "codec")


@FOLDERS
def test_stale_and_missing_codes_are_named_with_the_command(place: str, tracks: list[Track], tmp_path: Path) -> None:
    where = located(place, tmp_path)
    with pytest.raises(AudiogenError, match=r"codes: no prepared codes here.*recipes/prepare_codes.py"):
        PreparedCodes(where, tracks, tmp_path / "codec")
    prepare(place, tracks[:2], tmp_path)
    with pytest.raises(AudiogenError, match=r"no codes for 2.wav and 0 more.*recipes/prepare_codes.py"):
        PreparedCodes(where, tracks, tmp_path / "codec")
    codec(seed=1).save(tmp_path / "other", "float32")
    for use in (
        lambda: PreparedCodes(where, tracks[:2], tmp_path / "other"),
        lambda: next(prepare_codes(tmp_path / "other", tracks, tmp_path, where)),
    ):
        with pytest.raises(AudiogenError, match=r"codes: these codes were made by.*recipes/prepare_codes.py"):
            use()
    with pytest.raises(AudiogenError, match=r"nosuch://a/b: cannot be opened"):
        PreparedCodes("nosuch://a/b", tracks, tmp_path / "codec")
