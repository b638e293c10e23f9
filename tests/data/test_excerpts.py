from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import catalogue, prepared

from audiogen.data.excerpts import Excerpts, Source
from audiogen.data.manifest import read_manifest, write_manifest
from audiogen.interfaces import AudiogenError
from audiogen.lm.score import NUM_LANES


def made(folder: Path, marks: dict[int, dict[str, Any]]) -> Source:
    """A catalogue in `folder`, some tracks with other labels."""
    tracks = catalogue(folder)
    prepared(folder, tracks)
    changed = [track.model_copy(update=marks.get(index, {})) for index, track in enumerate(tracks)]
    write_manifest(folder / "manifest.jsonl", changed)
    return Source(manifest=str(folder / "manifest.jsonl"), codes=str(folder / "codes"))


def excerpts(sources: list[Source], folder: Path, split: Any = "train", seed: int = 1) -> Excerpts:
    return Excerpts(sources, split, str(folder / "codec"), frames=20, books=4, pad=32, rate=25.0, seed=seed)


def test_tags_filter_and_weigh(tmp_path: Path) -> None:
    source = made(tmp_path, {0: {"tags": ("live",)}, 1: {"moods": ("dark",)}})

    def kept(**changes: Any) -> list[tuple[str, float]]:
        return [(track.path, weight) for track, weight in source.model_copy(update=changes).select()]

    assert kept() == [("0.wav", 1.0), ("1.wav", 1.0), ("2.wav", 1.0)]
    assert kept(only=("live", "dark")) == [("0.wav", 1.0), ("1.wav", 1.0)]
    assert kept(without=("live",)) == [("1.wav", 1.0), ("2.wav", 1.0)]
    assert kept(weights={"live": 2.0, "harp": 0.5}) == [("0.wav", 1.0), ("1.wav", 0.5), ("2.wav", 0.5)]
    with pytest.raises(AudiogenError, match=r"no track has the tag 'lvie'"):
        kept(without=("lvie",))
    with pytest.raises(AudiogenError, match=r"weight of the tag 'live' is -1"):
        kept(weights={"live": -1.0})
    found = excerpts([source.model_copy(update={"weights": {"live": 3.0}})], tmp_path)
    seen = Counter(found.place(position)[1] for position in range(found.size))
    assert seen[0] == 3 * seen[1] and seen.keys() == {0, 1}


def test_catalogues_are_mixed_in_the_stated_proportions(tmp_path: Path) -> None:
    one, other = made(tmp_path / "one", {}), made(tmp_path / "other", {0: {"split": "validation"}})
    sources = [one.model_copy(update={"share": 3.0}), other]
    found = excerpts(sources, tmp_path / "one")
    places = [found.place(position) for position in range(4000)]
    assert Counter(source for source, _, _ in places) == {0: 3000, 1: 1000}
    assert {item for source, item, _ in places if source == 1} == {0}
    again, differing = (excerpts(sources, tmp_path / "one", seed=seed) for seed in (1, 2))
    assert places == [again.place(position) for position in range(4000)]
    assert places != [differing.place(position) for position in range(4000)]
    position = next(position for position, (source, _, _) in enumerate(places) if source == 1)
    assert found.name(position).startswith("1.wav from ") and found[position][3].composition == "1"
    assert found.fingerprint.keys() == {"manifest 1", "manifest 2", "codec"}
    assert found.fingerprint["manifest 1"].startswith("3 tracks, ")
    held_out = excerpts(sources, tmp_path / "one", "validation")
    assert [track.composition for track in held_out.tracks] == ["2", "0", "2"]


def test_a_catalogue_without_tracks_to_validate_is_left_out_there(tmp_path: Path) -> None:
    one, other = made(tmp_path / "one", {}), made(tmp_path / "other", {2: {"split": "train"}})
    assert len(excerpts([other, one], tmp_path / "one", "validation").tracks) == 1
    with pytest.raises(AudiogenError, match=r"other/manifest.jsonl: there is nothing to train on"):
        excerpts([other], tmp_path / "one", "validation")


def test_the_codes_are_those_of_the_place(tmp_path: Path) -> None:
    source = made(tmp_path, {})
    found = excerpts([source], tmp_path)
    tracks = [track for track in read_manifest(source.manifest) if track.split == "train"]
    for position in range(8):
        _, item, start = found.place(position)
        inputs, targets, told, track = found[position]
        assert track == tracks[item] and told.shape == (20, NUM_LANES)
        codes = np.load(tmp_path / "codes" / f"{track.sha256[:32]}.npy")
        for book in range(4):
            for frame in range(20):
                late = start + frame - book
                expected = codes[late, book] if 0 <= late < len(codes) else -100
                assert targets[book, frame] == expected
        assert (inputs[:, 1:] == np.where(targets[:, :-1] == -100, 32, targets[:, :-1])).all()
