from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from audiogen.audio.io import read, write
from audiogen.evaluation import copies
from audiogen.evaluation.copies import Copy, TrainingMusic, find_copies, make_fingerprints
from audiogen.interfaces import AudiogenError, Waveform
from tests import tiny


def quiet(done: float, total: float) -> None:
    pass


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> TrainingMusic:
    folder = tmp_path_factory.mktemp("music")
    tracks = tiny.catalogue(folder, seconds=12.0)
    tiny.prepared(folder, tracks)
    made = TrainingMusic(folder / "manifest.jsonl", folder, folder / "codes", folder / "codec", folder / "prints")
    make_fingerprints(made, [folder / track.path for track in tracks if track.split == "train"], 1, quiet)
    return made


@pytest.fixture
def clips(music: TrainingMusic, tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{name}.wav" for name in ("copied", "own", "third")]
    copied = read(music.root / "1.wav").samples[:, 2 * tiny.RATE : 8 * tiny.RATE]
    for path, samples in zip(paths, (copied, tiny.notes(6.0, seed=40), tiny.notes(4.0, seed=41)), strict=True):
        write(path, Waveform(samples, tiny.RATE))
    return paths


def test_a_copy_is_named_however_many_processes_look_for_it(
    music: TrainingMusic, clips: list[Path], tmp_path: Path
) -> None:
    alone = find_copies(music, clips, tmp_path / "one", 1, quiet)
    assert alone[clips[0]].piece == "1.wav" and alone[clips[0]].share > 0.14 > alone[clips[1]].share
    assert alone[clips[0]].run is not None and alone[clips[0]].run > (alone[clips[1]].run or 0)
    assert find_copies(music, clips, tmp_path / "two", 2, quiet) == alone


def test_what_was_found_is_kept_as_long_as_the_clip_and_the_music_are_the_same(
    music: TrainingMusic, clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    monkeypatch.setattr(copies, "_find", lambda music, path: looked.append(path.name) or Copy("x", 0.5, 1))
    first = find_copies(music, clips, tmp_path / "kept", 1, quiet)
    told: list[tuple[float, float]] = []
    assert find_copies(music, clips, tmp_path / "kept", 1, lambda *at: told.append(at)) == first
    assert looked == ["copied.wav", "own.wav", "third.wav"] and told == [(3, 3)]
    write(clips[1], Waveform(tiny.notes(5.0, seed=50), tiny.RATE))
    (tmp_path / "kept" / "third.json").write_text("half")
    find_copies(music, clips, tmp_path / "kept", 1, quiet)
    assert looked[3:] == ["own.wav", "third.wav"]
    fewer = tmp_path / "fewer.jsonl"
    lines = music.manifest.read_text().splitlines()
    fewer.write_text("\n".join(line for line in lines if json.loads(line)["path"] != "0.wav"))
    other = TrainingMusic(fewer, music.root, music.codes, music.codec, music.kept)
    find_copies(other, clips, tmp_path / "kept", 1, quiet)
    assert looked[5:] == ["copied.wav", "own.wav", "third.wav"]


def test_fingerprints_are_made_once_and_without_codes_there_are_no_runs(
    music: TrainingMusic, clips: list[Path], tmp_path: Path
) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in music.kept.glob("*.npy")}
    make_fingerprints(music, [music.root / "0.wav", music.root / "1.wav"], 1, quiet)
    assert len(before) == 2 and before == {path.name: path.stat().st_mtime_ns for path in music.kept.glob("*.npy")}
    bare = TrainingMusic(music.manifest, music.root, None, music.codec, music.kept)
    found = find_copies(bare, clips[:1], tmp_path / "kept", 1, quiet)[clips[0]]
    assert found.run is None and found.piece == "1.wav"


def test_a_clip_that_is_no_audio(music: TrainingMusic, tmp_path: Path) -> None:
    write(tmp_path / "silent.wav", Waveform(torch.zeros(1, 6 * tiny.RATE), tiny.RATE))
    with pytest.raises(AudiogenError, match=r"silent\.wav"):
        find_copies(music, [tmp_path / "silent.wav"], tmp_path / "kept", 1, quiet)
