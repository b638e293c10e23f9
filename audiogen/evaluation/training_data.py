"""What needs the training music at hand: copies of it, cross-entropy on what was held out, and the nearest piece."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from audiogen.audio.io import read, write
from audiogen.audio.sinks import Subtype
from audiogen.codec.spectral import SpectralCodec
from audiogen.data.codes import PreparedCodes
from audiogen.data.manifest import Track, read_manifest, resolve
from audiogen.evaluation.copying import CodeRuns, Fingerprints, fingerprint
from audiogen.evaluation.likelihood import measure_model
from audiogen.evaluation.prompts import EvaluationPrompt
from audiogen.evaluation.statistics import estimate
from audiogen.evaluation.systems import Clip, Progress, start_worker
from audiogen.files import atomic_path
from audiogen.generation.models import LoadedModel
from audiogen.interfaces import AudiogenError
from audiogen.lm.engine import EagerEngine
from audiogen.lm.model import MusicLM
from audiogen.style.hearing import hear_file

SUSPECT_SHARE = 0.14
"""of a clip's fingerprint agreeing with one piece at one offset (`audiogen.evaluation.copying.Match`): from here on
to be listened to"""
_HELD_OUT_FRAMES = 750
_LIKELIHOOD_PIECES = 10
_BITS: Subtype = "PCM_16"


class TrainingData:
    """A manifest with its audio and, for runs of codes and cross-entropy, its prepared codes."""

    def __init__(
        self, manifest: Path, root: Path, codes: Path | None, codec_folder: Path, kept: Path, jobs: int
    ) -> None:
        """`kept`: a folder for fingerprints, made once. Raises AudiogenError for what is missing."""
        tracks = read_manifest(manifest)
        self.train = [track for track in tracks if track.split == "train"]
        self.others = [track for track in tracks if track.split != "train"]
        if not self.train:
            raise AudiogenError(f"{manifest}: holds no tracks of the split train; nothing can be copied from it")
        for track in tracks:
            if not resolve(root, track).is_file():
                raise AudiogenError(f"{root}: {track.path} of {manifest} is missing; give its folder with --root")
        self.root, self._kept, self._jobs = root, kept, jobs
        self._codec_folder = codec_folder
        self._codes = None if codes is None else PreparedCodes(codes, [*self.train, *self.others], codec_folder)
        self._prints: Fingerprints | None = None
        self._runs: CodeRuns | None = None

    # --- copies -----------------------------------------------------------------------------------------------------

    def copying(self, clips: Sequence[Clip], folder: Path, progress: Progress) -> dict[str, Any]:
        """How much each clip agrees with some training piece; those that agree suspiciously are named."""
        paths = [folder / clip.prompt.file(clip.take) for clip in clips if clip.measured is not None]
        return self._copies(paths, [path.name for path in paths], progress)

    def held_out(self, progress: Progress) -> dict[str, Any]:
        """The same of held-out pieces: what is usual in music of this kind."""
        return self._copies(
            [resolve(self.root, track) for track in self.others], [t.path for t in self.others], progress
        )

    def _copies(self, paths: Sequence[Path], names: Sequence[str], progress: Progress) -> dict[str, Any]:
        prints, runs = self._index(progress)
        codec = SpectralCodec.load(self._codec_folder) if runs is not None else None
        shares, lengths, suspects = [], [], []
        for number, (path, name) in enumerate(zip(paths, names, strict=True), 1):
            match = prints.match(self._fingerprint(path))
            shares.append(match.share)
            if match.share >= SUSPECT_SHARE:
                suspects.append({"file": name, "piece": self.train[match.piece].path, "share": round(match.share, 4)})
            if codec is not None and runs is not None:
                sound = read(path, codec.sample_rate, codec.channels)
                lengths.append(runs.longest(codec.encode(sound.samples[None])[0].T.numpy()))
            progress(number, len(paths))
        found: dict[str, Any] = {"fingerprint_share": estimate(shares).to_json(), "suspects": suspects}
        if lengths:
            found["longest_run_frames"] = estimate(lengths).to_json() | {"longest": max(lengths)}
        return found

    def _index(self, progress: Progress) -> tuple[Fingerprints, CodeRuns | None]:
        if self._prints is None:
            paths = [resolve(self.root, track) for track in self.train]
            missing = [path for path in paths if not self._file(path).exists()]
            if missing:
                self._kept.mkdir(parents=True, exist_ok=True)
                workers = min(self._jobs or len(os.sched_getaffinity(0)), len(missing))
                targets = [self._file(path) for path in missing]
                with ProcessPoolExecutor(workers, get_context("spawn"), start_worker) as pool:
                    for number, _ in enumerate(pool.map(_fingerprint_to, missing, targets), 1):
                        progress(number, len(missing))
            self._prints = Fingerprints.of([self._fingerprint(path) for path in paths])
        if self._codes is not None and self._runs is None:
            self._runs = CodeRuns([np.asarray(self._codes[index]) for index in range(len(self.train))])
        return self._prints, self._runs

    def _fingerprint(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        kept = self._file(path)
        if not kept.exists():
            return fingerprint(hear_file(path))
        pairs = np.load(kept, allow_pickle=False)
        return pairs[0], pairs[1]

    def _file(self, path: Path) -> Path:
        """Of a training piece's fingerprint, named by path, size and time of change."""
        told = path.stat()
        name = hashlib.sha256(f"{path} {told.st_size} {told.st_mtime_ns}".encode()).hexdigest()[:24]
        return self._kept / f"{name}.npy"

    # --- the model --------------------------------------------------------------------------------------------------

    def likelihood(self, models: Sequence[tuple[str, LoadedModel]], progress: Progress) -> dict[str, Any] | None:
        """Bits a second on held-out pieces and divergences, in float32; None without codes or a model that reads
        scores."""
        ours = [(name, model) for name, model in models if isinstance(model.lm, MusicLM) and model.folder is not None]
        if self._codes is None or not ours:
            return None
        loaded = [(name, MusicLM.load(model.folder / "lm")) for name, model in ours if model.folder is not None]
        same = loaded[0][1].config
        engines = [
            (name, EagerEngine(lm.float()), lm)
            for name, lm in loaded
            if (lm.config.num_codebooks, lm.config.codebook_size) == (same.num_codebooks, same.codebook_size)
        ]
        chosen = self.others[:: max(1, len(self.others) // _LIKELIHOOD_PIECES)][:_LIKELIHOOD_PIECES]
        places = [len(self.train) + self.others.index(track) for track in chosen]
        progress(0, 1)
        found = measure_model(engines, chosen, [np.asarray(self._codes[place]) for place in places], _HELD_OUT_FRAMES)
        progress(1, 1)
        return found

    # --- a baseline -------------------------------------------------------------------------------------------------

    def retrieve(self, prompts: Sequence[EvaluationPrompt], takes: int, folder: Path, progress: Progress) -> None:
        """Clips that are the training pieces whose labels fit best, from a place that depends on the take."""
        folder.mkdir(parents=True, exist_ok=True)
        wanted = [(prompt, take) for prompt in prompts for take in range(1, takes + 1)]
        for number, (prompt, take) in enumerate(wanted, 1):
            path = folder / prompt.file(take)
            if not path.exists():
                ranked = sorted(range(len(self.train)), key=lambda i, p=prompt: -_fit(p, self.train[i]))  # type: ignore[misc]
                track = self.train[ranked[take - 1]]
                start = max(0.0, (track.seconds - prompt.seconds) / 2)
                write(path, read(resolve(self.root, track), start_seconds=start, seconds=prompt.seconds), _BITS)
            progress(number, len(wanted))


def _fit(prompt: EvaluationPrompt, track: Track) -> float:
    """How well the labels of a track fit what is asked; tempo and length by degrees."""
    asked = prompt.asked
    found = 4.0 * (track.style == asked.style) + 2.0 * (asked.key is not None and track.key == asked.key)
    if asked.tempo_bpm is not None and track.tempo_bpm is not None:
        found += 3.0 * float(np.exp(-((np.log(track.tempo_bpm / asked.tempo_bpm) / 0.04) ** 2)))
    found += sum(name in track.instruments for name in asked.instruments) / max(1, len(asked.instruments))
    found += sum(name in track.moods for name in asked.moods) / max(1, len(asked.moods))
    found -= sum(name in track.instruments for name in asked.absent)
    found += 1.0 * (asked.beats_per_bar is not None and track.beats_per_bar == asked.beats_per_bar)
    return found + min(1.0, track.seconds / prompt.seconds)


def _fingerprint_to(path: Path, target: Path) -> None:
    keys, frames = fingerprint(hear_file(path))
    with atomic_path(target) as temporary:
        np.save(temporary, np.stack([keys, frames]), allow_pickle=False)
