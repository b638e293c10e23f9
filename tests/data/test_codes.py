from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny import catalogue, codec, prepared

from audiogen.audio.io import read
from audiogen.data import codes as module
from audiogen.data.codes import PreparedCodes, prepare_codes
from audiogen.data.manifest import Track
from audiogen.interfaces import AudiogenError


@pytest.fixture
def tracks(tmp_path: Path) -> list[Track]:
    made = catalogue(tmp_path)
    prepared(tmp_path, made)
    return made


def file(folder: Path, track: Track) -> Path:
    return folder / f"{track.sha256[:32]}.npy"


def test_preparing_encodes_what_is_missing_and_skips_the_rest(tracks: list[Track], tmp_path: Path) -> None:
    file(tmp_path / "codes", tracks[1]).unlink()
    kept = file(tmp_path / "codes", tracks[0])
    kept.write_bytes(kept.read_bytes() + b"mark")
    said = list(prepare_codes(tmp_path / "codec", tracks, tmp_path, tmp_path / "codes", jobs=1))
    assert said == [(2, 3), (3, 3)] and kept.read_bytes().endswith(b"mark")
    found = PreparedCodes(tmp_path / "codes", tracks, tmp_path / "codec")
    assert len(found) == 3
    for index in range(3):
        expected = codec().encode(read(tmp_path / f"{index}.wav").samples[None])[0].T.numpy()
        assert found[index].shape == (100, 4) and found[index].dtype == np.int16
        assert (found[index] != expected).mean() < 0.01  # the same, ties aside
    assert isinstance(found[0], np.memmap)
    assert list(prepare_codes(tmp_path / "codec", tracks, tmp_path, tmp_path / "codes")) == [(3, 3)]


def test_encoding_leaves_no_half_file(tracks: list[Track], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(path: Path, *_: object, **__: object) -> None:
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_codec", codec())
    target = file(tmp_path / "codes", tracks[0])
    target.unlink()
    before = sorted(path.name for path in target.parent.iterdir())
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("numpy.save", half)
        module._encode(tracks[0], str(tmp_path), str(target))
    assert sorted(path.name for path in target.parent.iterdir()) == before
    module._encode(tracks[0], str(tmp_path), str(target))
    assert np.load(target).shape == (100, 4)


def test_stale_codes_are_refused_with_the_command(tracks: list[Track], tmp_path: Path) -> None:
    codec(seed=1).save(tmp_path / "other", "float32")
    for use in (
        lambda: PreparedCodes(tmp_path / "codes", tracks, tmp_path / "other"),
        lambda: next(prepare_codes(tmp_path / "other", tracks, tmp_path, tmp_path / "codes")),
    ):
        with pytest.raises(AudiogenError, match=r"codes: these codes were made by.*recipes/prepare_codes.py"):
            use()


def test_missing_codes_are_named_with_the_command(tracks: list[Track], tmp_path: Path) -> None:
    with pytest.raises(AudiogenError, match=r"nowhere: no prepared codes.*recipes/prepare_codes.py"):
        PreparedCodes(tmp_path / "nowhere", tracks, tmp_path / "codec")
    file(tmp_path / "codes", tracks[2]).unlink()
    with pytest.raises(AudiogenError, match=r"no codes for 2.wav and 0 more.*recipes/prepare_codes.py"):
        PreparedCodes(tmp_path / "codes", tracks, tmp_path / "codec")
