from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from audiogen.audio.io import write
from audiogen.data.manifest import Track, read_manifest
from audiogen.data.similar import Index, best, update_index
from audiogen.interfaces import INSTRUMENTS, MOODS, STYLES, AudiogenError, Waveform
from audiogen.style.ears import tempo_classes
from audiogen.style.parse import parse
from audiogen.style.tagger import Tagger
from tests import tiny


def silent_progress(done: float, total: float) -> None:
    assert 0 <= done <= total


@pytest.fixture(scope="module")
def tagger() -> Tagger:
    return Tagger(tiny.ears(), {})


@pytest.fixture
def music(tmp_path: Path) -> tuple[Path, list[Track]]:
    return tmp_path, tiny.catalogue(tmp_path)


def invented(count: int, dim: int = 8, seed: int = 0) -> Index:
    """An index of tracks that nobody has heard."""
    random = np.random.default_rng(seed)
    even = {"style": 10, "moods": 16, "instruments": 29, "key": 24, "tempo": 58, "metre": 2, "energy": 1}
    rows = {name: np.full((count, width), 0.1, np.float16) for name, width in even.items()}
    rows["embedding"] = random.normal(size=(count, dim)).astype(np.float16)
    return Index("t", tuple(f"{number:064x}" for number in range(count)), rows)


def test_the_nearest_are_the_nearest() -> None:
    index = invented(500)
    vectors = index.rows["embedding"].astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    query = vectors[7] * 3
    found = index.nearest(query, 5, [7])
    by_hand = [row for row in np.argsort(-(vectors @ vectors[7])) if row != 7][:5]
    assert [row for row, _ in found] == by_hand
    assert found[0][1] == pytest.approx(float(vectors[by_hand[0]] @ vectors[7]), abs=1e-5)
    assert index.nearest(query, 5)[0] == (7, pytest.approx(1, abs=1e-5))
    assert len(index.nearest(query, 9999, [7, 7])) == 499


def test_a_walk_goes_to_the_nearest_unplayed_and_ends() -> None:
    """On a quarter of a circle: up from the start, then nothing is left but what was passed over."""
    index = invented(4, 2)
    angles = np.radians([0, 10, 25, 70])
    index.rows["embedding"][:] = np.stack([np.cos(angles), np.sin(angles)], 1)
    start = index.rows["embedding"][1]
    assert [row for row, _ in index.walk(start, 9, [1])] == [0, 2, 3]
    assert [row for row, _ in index.walk(np.array([0.0, 1.0]), 2)] == [3, 2]
    assert index.walk(start, 3, [1])[2][1] == pytest.approx(np.cos(np.radians(45)), abs=1e-3)


def test_words_find_what_was_heard() -> None:
    index = invented(6)
    rows = index.rows
    rows["style"][2, STYLES.index("folk")] = 0.9
    rows["moods"][2, MOODS.index("calm")] = 0.9
    rows["instruments"][:, INSTRUMENTS.index("drums")] = 0.9
    rows["instruments"][4, INSTRUMENTS.index("drums")] = 0.0
    rows["tempo"][5, int(np.abs(tempo_classes().numpy() - 120).argmin())] = 0.9
    rows["key"][3, 2 + 12] = 0.9
    rows["metre"][1, 0] = 0.9

    def first(text: str) -> int:
        return best(index.fit(parse(text)), 1)[0][0]

    assert first("calm folk") == 2 and first("no drums") == 4
    assert first("121 bpm") == 5 and first("D minor") == 3 and first("a waltz in 3/4") == 1
    assert index.fit(parse("calm folk"))[2] == pytest.approx(0.9, abs=1e-3)
    with pytest.raises(AudiogenError, match="nothing that can be heard"):
        index.fit(parse("quux"))


def test_equals_keep_their_order() -> None:
    assert best(np.array([0.1, 0.5, 0.5, 0.2]), 3) == [(1, 0.5), (2, 0.5), (3, 0.2)]
    assert best(np.ones(3), 0) == []


def test_only_what_is_missing_is_heard(
    music: tuple[Path, list[Track]], tagger: Tagger, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, tracks = music
    path = root / "index.safetensors"
    some = update_index(path, tracks[:2], root, tagger, silent_progress)
    assert some.added == 2 and not some.problems and not some.other_tagger
    heard: list[str] = []
    file = Tagger.file
    monkeypatch.setattr(Tagger, "file", lambda self, path: heard.append(Path(path).name) or file(self, path))
    whole = update_index(path, tracks[::-1], root, tagger, silent_progress)
    assert heard == ["2.wav"] and whole.added == 1
    assert whole.index.digests == tuple(track.sha256 for track in tracks[::-1])
    again = update_index(path, tracks, root, tagger, silent_progress)
    assert again.added == 0 and len(heard) == 1
    alone = tagger.file(root / tracks[0].path)
    np.testing.assert_allclose(again.index.rows["embedding"][0], alone.embedding, atol=2e-3, rtol=2e-3)
    assert len(Index.load(path).digests) == 3  # a smaller manifest takes nothing away
    assert update_index(path, tracks[:1], root, tagger, silent_progress).index.digests == (tracks[0].sha256,)


def test_another_tagger_makes_it_anew(music: tuple[Path, list[Track]], tagger: Tagger) -> None:
    root, tracks = music
    update_index(root / "i.safetensors", tracks, root, tagger, silent_progress)
    other = Tagger(tiny.ears(seed=1), {})
    updated = update_index(root / "i.safetensors", tracks[:1], root, other, silent_progress)
    assert updated.other_tagger and updated.added == 1
    held = Index.load(root / "i.safetensors")
    assert held.tagger == other.fingerprint and len(held.digests) == 1


def test_tracks_that_cannot_be_heard_are_left_out(music: tuple[Path, list[Track]], tagger: Tagger) -> None:
    root, tracks = music
    write(root / "1.wav", Waveform(torch.zeros(2, 80_000), tiny.RATE))
    (root / "2.wav").unlink()
    updated = update_index(root / "i.safetensors", tracks, root, tagger, silent_progress)
    assert updated.index.digests == (tracks[0].sha256,) and len(updated.problems) == 2
    assert "1.wav: holds no sound" in updated.problems[0] and "2.wav: there is no such file" in updated.problems[1]
    with pytest.raises(AudiogenError, match=r"none of the 1 tracks.*2\.wav"):
        update_index(root / "j.safetensors", tracks[2:], root, tagger, silent_progress)
    assert not (root / "j.safetensors").exists()


def test_an_interruption_keeps_what_was_heard(music: tuple[Path, list[Track]], tagger: Tagger) -> None:
    root, tracks = music

    def stop(done: float, total: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        update_index(root / "i.safetensors", tracks, root, tagger, stop)
    assert Index.load(root / "i.safetensors").digests == (tracks[0].sha256,)
    assert not list(root.glob(".*part*"))


@pytest.mark.parametrize("damage", ["cut", "text", "foreign", "rows", "nan", "no tensor"])
def test_a_damaged_index_is_refused_before_work_starts(
    music: tuple[Path, list[Track]], tagger: Tagger, damage: str
) -> None:
    root, tracks = music
    path = root / "i.safetensors"
    update_index(path, tracks[:1], root, tagger, silent_progress)
    tensors, told = load_file(path), {"kind": "similar 1", "tagger": tagger.fingerprint}
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-10])
    elif damage == "text":
        path.write_text("hello")
    elif damage == "foreign":
        save_file(tensors, path, {"kind": "codec"})
    else:
        if damage == "rows":
            tensors["style"] = np.concatenate([tensors["style"]] * 2)
        elif damage == "nan":
            tensors["key"][0, 0] = np.nan
        else:
            del tensors["key"]
        save_file(tensors, path, told)
    with pytest.raises(AudiogenError, match=r"i\.safetensors: "):
        update_index(path, read_manifest(root / "manifest.jsonl"), root, tagger, silent_progress)
