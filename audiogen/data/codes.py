"""Codes prepared once, in shards that are mapped into memory, keyed by the codec that made them.

A folder, or an object store's, holds `index.json` with the codec's fingerprint and shards: `shard-NAME.npy`, int16
`[T, K]`, tracks one after another, and `shard-NAME.json`, written last, with its SHA-256 and `[digest, frames]` of each
track, digest being the first 32 digits of the SHA-256 of its audio. A file `DIGEST.npy` is a track by itself. Of tracks
whose manifest has no beats, `beats-NAME.json` holds those that were heard, `{digest: [beats, downbeats]}` in seconds:
two empty lists where there is no steady beat.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from audiogen.codec.spectral import SpectralCodec
from audiogen.data.manifest import Track
from audiogen.data.store import Store
from audiogen.interfaces import AudiogenError


class Place(NamedTuple):
    """Where a track's codes lie."""

    file: str
    sha256: str | None
    start: int
    frames: int | None
    """None: all of the file"""


def digest(track: Track) -> str:
    """What a track's codes are named by."""
    return track.sha256[:32]


def find_codes(store: Store) -> dict[str, Place]:
    """Every track whose codes are in `store`, by its digest. Raises AudiogenError naming a list that is damaged."""
    found = {name.removesuffix(".npy"): Place(name, None, 0, None) for name in store.names(".npy") if len(name) == 36}
    for name in store.names(".json"):
        if not name.startswith("shard-"):
            continue
        try:
            told = json.loads(store.read(name))
            start = 0
            for track, frames in told["tracks"]:
                found[track] = Place(name.removesuffix(".json") + ".npy", told["sha256"], start, frames)
                start += frames
        except (ValueError, KeyError, TypeError) as error:
            raise AudiogenError(
                f"{store.location}/{name}: not the list of a shard ({error}); prepare it again"
            ) from None
    return found


def wants_beats(track: Track) -> bool:
    """Whether the manifest leaves beats and bars to be heard."""
    return not track.beats_seconds and not track.downbeats_seconds


def find_heard_beats(store: Store) -> dict[str, tuple[tuple[float, ...], tuple[float, ...]]]:
    """Beats and downbeats in seconds of every track that was listened to, by its digest.

    Raises AudiogenError naming a file that is damaged.
    """
    found = {}
    for name in store.names(".json"):
        if name.startswith("beats-"):
            try:
                for track, (beats, downbeats) in json.loads(store.read(name)).items():
                    found[track] = tuple(map(float, beats)), tuple(map(float, downbeats))
            except (ValueError, TypeError, AttributeError) as error:
                raise AudiogenError(
                    f"{store.location}/{name}: not the beats of tracks ({error}); remove it and prepare them again"
                ) from None
    return found


def check_codec(store: Store, fingerprint: str) -> None:
    """Raises AudiogenError with the command to run when `store` has no codes or those of another codec."""
    try:
        found = json.loads(store.read("index.json"))["codec"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        raise AudiogenError(
            f"{store.location}: no prepared codes here; make them with recipes/prepare_codes.py"
        ) from None
    if found != fingerprint:
        raise AudiogenError(
            f"{store.location}: these codes were made by the codec {found}, not by {fingerprint}; "
            f"remove the folder and make them anew with recipes/prepare_codes.py"
        )


class PreparedCodes:
    """Codes of a list of tracks, `[index]` → memory-mapped int16 `[T, K]`.

    A shard is fetched when it is first needed, and its hash checked then.
    """

    def __init__(self, location: str | Path, tracks: Sequence[Track], codec_folder: str | Path) -> None:
        """Raises AudiogenError with the command to run when codes are missing or of another codec."""
        self._store = Store(location)
        self.fingerprint = SpectralCodec.load(codec_folder).fingerprint
        check_codec(self._store, self.fingerprint)
        there = find_codes(self._store)
        absent = [track.path for track in tracks if digest(track) not in there]
        if absent:
            raise AudiogenError(
                f"{location}: no codes for {absent[0]} and {len(absent) - 1} more tracks; "
                "run recipes/prepare_codes.py again with this manifest"
            )
        self._places = [there[digest(track)] for track in tracks]
        self._open: dict[str, np.ndarray] = {}

    def __getitem__(self, index: int) -> np.ndarray:
        """Raises AudiogenError naming a shard whose hash is wrong."""
        place = self._places[index]
        array = self._open.get(place.file)
        if array is None:
            path = self._store.local(place.file, place.sha256)
            array = self._open[place.file] = np.load(path, mmap_mode="r", allow_pickle=False)
        return array if place.frames is None else array[place.start : place.start + place.frames]

    def __len__(self) -> int:
        return len(self._places)

    def frames(self, index: int) -> int:
        """Frames of a track, without opening its shard."""
        found = self._places[index].frames
        return len(self[index]) if found is None else found
