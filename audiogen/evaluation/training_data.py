"""What needs the training music at hand: copies of it, cross-entropy on what was held out, and the nearest piece."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from audiogen.audio.io import read, write
from audiogen.audio.sinks import Subtype
from audiogen.codec.spectral import SpectralCodec
from audiogen.data.codes import PreparedCodes
from audiogen.data.manifest import Track, read_manifest, resolve
from audiogen.evaluation.clap import embeddings
from audiogen.evaluation.copies import TrainingMusic, find_copies, make_fingerprints
from audiogen.evaluation.likelihood import measure_model
from audiogen.evaluation.prompts import EvaluationPrompt
from audiogen.evaluation.statistics import estimate
from audiogen.evaluation.summary import distances
from audiogen.evaluation.systems import Clip, Progress
from audiogen.generation.models import LoadedModel
from audiogen.interfaces import AudiogenError
from audiogen.lm.engine import EagerEngine
from audiogen.lm.model import MusicLM

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
        """`kept`: a folder for the fingerprints of its pieces and for what is found in held-out ones.

        Raises AudiogenError for what is missing.
        """
        tracks = read_manifest(manifest)
        self.train = [track for track in tracks if track.split == "train"]
        self.others = [track for track in tracks if track.split != "train"]
        if not self.train:
            raise AudiogenError(f"{manifest}: holds no tracks of the split train; nothing can be copied from it")
        for track in tracks:
            if not resolve(root, track).is_file():
                raise AudiogenError(f"{root}: {track.path} of {manifest} is missing; give its folder with --root")
        self.root, self._jobs = root, jobs
        self._music = TrainingMusic(manifest, root, codes, codec_folder, kept)
        self._codes = None if codes is None else PreparedCodes(codes, [*self.train, *self.others], codec_folder)

    # --- copies -----------------------------------------------------------------------------------------------------

    def copying(self, clips: Sequence[Clip], folder: Path, kept: Path, progress: Progress) -> dict[str, Any]:
        """How much each clip agrees with some training piece; those that agree suspiciously are named. What is found
        is kept in the folder `kept`."""
        paths = [folder / clip.prompt.file(clip.take) for clip in clips if clip.measured is not None]
        return self._copies(paths, kept, progress)

    def held_out(self, progress: Progress) -> dict[str, Any]:
        """The same of held-out pieces: what is usual in music of this kind."""
        paths = [resolve(self.root, track) for track in self.others]
        return self._copies(paths, self._music.kept / "held-out", progress)

    def _copies(self, paths: Sequence[Path], kept: Path, progress: Progress) -> dict[str, Any]:
        make_fingerprints(self._music, [resolve(self.root, track) for track in self.train], self._jobs, progress)
        found = find_copies(self._music, paths, kept, self._jobs, progress)
        copies = [found[path] for path in paths]
        told: dict[str, Any] = {
            "fingerprint_share": estimate([copy.share for copy in copies]).to_json(),
            "suspects": [
                {"file": path.name, "piece": copy.piece, "share": round(copy.share, 4)}
                for path, copy in zip(paths, copies, strict=True)
                if copy.share >= SUSPECT_SHARE
            ],
        }
        runs = [copy.run for copy in copies if copy.run is not None]
        if runs:
            told["longest_run_frames"] = estimate(runs).to_json() | {"longest": max(runs)}
        return told

    # --- distances to the ear of CLAP -------------------------------------------------------------------------------

    def clap(
        self, weights: Path, clips: Sequence[Clip], folder: Path, kept: Path, progress: Progress
    ) -> dict[str, Any]:
        """Distances of clips to held-out music."""
        paths = [folder / clip.prompt.file(clip.take) for clip in clips if clip.measured is not None]
        rows = embeddings(weights, paths, kept, self._jobs, progress) if paths else np.zeros((0, 1))
        return distances(rows, self._clap_rows(weights, self.others, progress))

    def clap_of_held_out(self, weights: Path, progress: Progress) -> dict[str, Any]:
        """Distances between two halves of the held-out music: what no difference gives, with so few windows."""
        one, other = (self._clap_rows(weights, self.others[half::2], progress) for half in (0, 1))
        return {"weights": weights.name, "halves": distances(one, other)}

    def _clap_rows(self, weights: Path, tracks: Sequence[Track], progress: Progress) -> np.ndarray:
        paths = [resolve(self.root, track) for track in tracks]
        return embeddings(weights, paths, self._music.kept / "clap", self._jobs, progress)

    # --- the model --------------------------------------------------------------------------------------------------

    def likelihood(self, models: Sequence[tuple[str, LoadedModel]], progress: Progress) -> dict[str, Any] | None:
        """Bits a second on held-out pieces and divergences, in float32; None without codes or a model that reads
        scores and writes codes of the same codec."""
        if self._codes is None:
            return None
        ours = [
            (name, model)
            for name, model in models
            if isinstance(model.lm, MusicLM)
            and model.folder is not None
            and isinstance(model.codec, SpectralCodec)
            and model.codec.fingerprint == self._codes.fingerprint
        ]
        if not ours:
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
