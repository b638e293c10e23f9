"""Copies of the training music in many clips, on all cores. What was found in a clip is kept, so a run that was
interrupted goes on where it was."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from audiogen.audio.io import read
from audiogen.codec.spectral import SpectralCodec
from audiogen.data.codes import PreparedCodes
from audiogen.data.manifest import read_manifest, resolve
from audiogen.evaluation.copying import CodeRuns, Fingerprints, fingerprint
from audiogen.evaluation.systems import Progress
from audiogen.files import atomic_path, sha256_file, write_json
from audiogen.interfaces import AudiogenError
from audiogen.storage import read_json
from audiogen.style.hearing import hear_file
from audiogen.workers import spread

VERSION = 1
"""of what is found: changes whenever the values would"""


@dataclass(frozen=True)
class TrainingMusic:
    """Where it lies: every process opens it for itself. `kept`: a folder for fingerprints, which are made once."""

    manifest: Path
    root: Path
    codes: Path | None
    codec: Path
    kept: Path

    def print_file(self, path: Path) -> Path:
        """Of a piece's fingerprint, named by path, size and time of change."""
        told = path.stat()
        name = hashlib.sha256(f"{path} {told.st_size} {told.st_mtime_ns}".encode()).hexdigest()[:24]
        return self.kept / f"{name}.npy"


@dataclass(frozen=True)
class Copy:
    """What agrees most with a clip: the path of the training piece, the `share` of the fingerprint (see
    `audiogen.evaluation.copying.Match`), and the frames of the longest equal `run` of codes, where codes are given."""

    piece: str
    share: float
    run: int | None


def make_fingerprints(music: TrainingMusic, paths: Sequence[Path], jobs: int, progress: Progress) -> None:
    """Keep the fingerprints of those pieces that have none yet."""
    missing = [path for path in paths if not music.print_file(path).exists()]
    if missing:
        music.kept.mkdir(parents=True, exist_ok=True)
        for number, _ in enumerate(spread(partial(_keep_fingerprint, music), missing, jobs), 1):
            progress(number, len(missing))


def find_copies(
    music: TrainingMusic, paths: Sequence[Path], kept: Path, jobs: int, progress: Progress
) -> dict[Path, Copy]:
    """The `Copy` of each file, from `jobs` processes; `kept` is a folder for what is found.

    The fingerprints of the training pieces must have been made. Raises AudiogenError for a file that is no audio.
    """
    kept.mkdir(parents=True, exist_ok=True)
    against = _hash(music)
    keys = {path: hashlib.sha256(f"{against} {sha256_file(path)}".encode()).hexdigest()[:16] for path in paths}
    found = {path: copy for path in paths if (copy := _kept(kept / f"{path.stem}.json", keys[path])) is not None}
    missing = [path for path in paths if path not in found]
    progress(len(found), len(paths))
    for path, copy in spread(partial(_find, music), missing, jobs):
        write_json(kept / f"{path.stem}.json", {"key": keys[path]} | asdict(copy))
        found[path] = copy
        progress(len(found), len(paths))
    return found


def _hash(music: TrainingMusic) -> str:
    """Of what a copy could be of, and of how it is looked for."""
    pieces = sorted(f"{track.path} {track.sha256}" for track in read_manifest(music.manifest) if track.split == "train")
    codec = "" if music.codes is None else SpectralCodec.load(music.codec).fingerprint
    return hashlib.sha256("\n".join([f"{VERSION} {codec}", *pieces]).encode()).hexdigest()


def _kept(path: Path, key: str) -> Copy | None:
    try:
        told = read_json(path)
        return Copy(told["piece"], told["share"], told["run"]) if told["key"] == key else None
    except (AudiogenError, KeyError, TypeError):
        return None


def _keep_fingerprint(music: TrainingMusic, path: Path) -> None:
    with atomic_path(music.print_file(path)) as temporary:
        np.save(temporary, np.stack(fingerprint(hear_file(path))), allow_pickle=False)


def _find(music: TrainingMusic, path: Path) -> Copy:
    return _finder(music).find(path)


@lru_cache(maxsize=1)
def _finder(music: TrainingMusic) -> _Finder:
    return _Finder(music)


class _Finder:
    """The training music of one process, in memory."""

    def __init__(self, music: TrainingMusic) -> None:
        train = [track for track in read_manifest(music.manifest) if track.split == "train"]
        files = [music.print_file(resolve(music.root, track)) for track in train]
        pairs = [np.load(file, allow_pickle=False) for file in files]
        self._pieces = [track.path for track in train]
        self._prints = Fingerprints.of([(keys, frames) for keys, frames in pairs])
        self._codec, self._runs = None, None
        if music.codes is not None:
            codes = PreparedCodes(music.codes, train, music.codec)
            self._codec = SpectralCodec.load(music.codec)
            self._runs = CodeRuns([np.asarray(codes[index]) for index in range(len(codes))])

    def find(self, path: Path) -> Copy:
        match, run = self._prints.match(fingerprint(hear_file(path))), None
        if self._codec is not None and self._runs is not None:
            sound = read(path, self._codec.sample_rate, self._codec.channels)
            run = self._runs.longest(self._codec.encode(sound.samples[None])[0].T.numpy())
        return Copy(self._pieces[match.piece] if match.piece >= 0 else "", round(match.share, 6), run)
