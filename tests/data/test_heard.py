from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from audiogen.audio.io import read
from audiogen.data.heard import excerpt_start, load_heard, prepare_heard
from audiogen.data.manifest import Track
from audiogen.interfaces import AudiogenError
from audiogen.style.hearing import hear
from tests import tiny


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Track]]:
    root = tmp_path_factory.mktemp("heard")
    tracks = tiny.catalogue(root, seconds=5.0)
    tiny.prepared(root, tracks)
    return root, tracks


def prepare(root: Path, tracks: list[Track], seconds: float = 3.2) -> list[Track]:
    return list(prepare_heard(tracks, root, root / "codes", root / "codec", 3, seconds, root / "heard"))


def test_what_was_heard_is_what_is_loaded(music: tuple[Path, list[Track]]) -> None:
    root, tracks = music
    assert prepare(root, tracks) == tracks
    own, coded = load_heard(root / "heard", tracks[0])
    now = hear(read(root / tracks[0].path))
    assert np.array_equal(own.mel, now.mel) and np.array_equal(own.semitones, now.semitones)
    assert coded.frames == 40 and coded.mel.std() > 1
    before = {path: path.stat().st_mtime_ns for path in (root / "heard").iterdir()}
    prepare(root, tracks)
    assert before == {path: path.stat().st_mtime_ns for path in (root / "heard").iterdir()}


def test_an_excerpt_lies_inside_on_the_grid(music: tuple[Path, list[Track]]) -> None:
    _, tracks = music
    starts = [excerpt_start(track, 3.2) for track in tracks]
    assert all(0 <= start <= 1.8 and start * 12.5 == int(start * 12.5) for start in starts)
    assert excerpt_start(tracks[0], 99.0) == 0


def test_another_way_of_hearing_and_damage_are_refused(music: tuple[Path, list[Track]]) -> None:
    root, tracks = music
    prepare(root, tracks)
    with pytest.raises(AudiogenError, match="filled otherwise"):
        prepare(root, tracks, seconds=3.6)
    path = root / "heard" / f"{tracks[1].sha256[:32]}.safetensors"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(AudiogenError, match=r"damaged.*remove the file"):
        load_heard(root / "heard", tracks[1])
    path.unlink()
    with pytest.raises(AudiogenError, match="missing"):
        load_heard(root / "heard", tracks[1])
