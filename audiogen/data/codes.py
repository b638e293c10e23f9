"""Codes prepared once: one memory-mapped array a track, keyed by the codec that made them.

`FOLDER/index.json` holds the codec's fingerprint; `FOLDER/DIGEST.npy` is int16 `[T, K]`, named by the first 32
digits of the SHA-256 of the audio.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from audiogen.audio.io import read
from audiogen.codec.spectral import SpectralCodec
from audiogen.data.manifest import Track, resolve
from audiogen.files import atomic_path, write_json
from audiogen.interfaces import AudiogenError
from audiogen.storage import read_json

_codec: SpectralCodec | None = None


def prepare_codes(
    codec_folder: str | Path, tracks: Sequence[Track], root: str | Path, folder: str | Path, jobs: int = 0
) -> Iterator[tuple[int, int]]:
    """Encode every track into `folder`, skipping what is there; yields (done, all) after each.

    Raises AudiogenError when `folder` holds codes of another codec.
    """
    folder = Path(folder)
    codec = SpectralCodec.load(codec_folder)
    if (folder / "index.json").exists():
        _check(folder, codec.fingerprint)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "index.json", {"codec": codec.fingerprint, "num_codebooks": codec.num_codebooks})
    missing = [track for track in tracks if not _file(folder, track).exists()]
    done = len(tracks) - len(missing)
    yield done, len(tracks)
    if not missing:
        return
    workers = min(jobs or os.cpu_count() or 1, len(missing))
    with ProcessPoolExecutor(workers, get_context("spawn"), _start, (str(codec_folder),)) as pool:
        pending = [pool.submit(_encode, track, str(root), str(_file(folder, track))) for track in missing]
        try:
            for item in as_completed(pending):
                item.result()
                done += 1
                yield done, len(tracks)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _start(codec_folder: str) -> None:
    global _codec
    import torch

    torch.set_num_threads(1)
    _codec = SpectralCodec.load(codec_folder)


def _encode(track: Track, root: str, path: str) -> None:
    assert _codec is not None
    audio = read(resolve(root, track), sample_rate=_codec.sample_rate, channels=_codec.channels)
    codes = _codec.encode(audio.samples[None])[0].T.numpy().astype(np.int16)
    with atomic_path(path) as temporary:
        np.save(temporary, codes, allow_pickle=False)


class PreparedCodes:
    """Codes of a list of tracks, `[index]` → memory-mapped int16 `[T, K]`."""

    def __init__(self, folder: str | Path, tracks: Sequence[Track], codec_folder: str | Path) -> None:
        """Raises AudiogenError with the command to run when codes are missing or of another codec."""
        folder = Path(folder)
        self.fingerprint = SpectralCodec.load(codec_folder).fingerprint
        _check(folder, self.fingerprint)
        absent = [track.path for track in tracks if not _file(folder, track).exists()]
        if absent:
            raise AudiogenError(
                f"{folder}: no codes for {absent[0]} and {len(absent) - 1} more tracks; "
                "run recipes/prepare_codes.py again with this manifest"
            )
        self._arrays = [np.load(_file(folder, track), mmap_mode="r", allow_pickle=False) for track in tracks]

    def __getitem__(self, index: int) -> np.ndarray:
        return self._arrays[index]

    def __len__(self) -> int:
        return len(self._arrays)


def _file(folder: Path, track: Track) -> Path:
    return folder / f"{track.sha256[:32]}.npy"


def _check(folder: Path, fingerprint: str) -> None:
    try:
        found = read_json(folder / "index.json").get("codec")
    except AudiogenError:
        raise AudiogenError(f"{folder}: no prepared codes here; make them with recipes/prepare_codes.py") from None
    if found != fingerprint:
        raise AudiogenError(
            f"{folder}: these codes were made by the codec {found}, not by {fingerprint}; "
            f"remove the folder and make them anew with recipes/prepare_codes.py"
        )
