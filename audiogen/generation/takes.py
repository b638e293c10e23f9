"""Several takes of one request: the same score played with other seeds, each scored, all kept or the best.

A score ranks the takes of one request and is no absolute truth. Tempo, key and style are what the tagger hears
(`audiogen.style.tagger`), and it errs on recordings too: `docs/tagging.md` tells how often. What the words ask beyond
them is not heard at all.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from audiogen.audio.defects import Defects, Part, find_defects
from audiogen.audio.features import loudness_lufs
from audiogen.audio.io import read, read_header
from audiogen.audio.measured import Measured, key_closeness, tempo_met
from audiogen.audio.sinks import Subtype
from audiogen.generation.batch import AT_ONCE
from audiogen.generation.generator import Generator, Request
from audiogen.generation.render import CHUNK_FRAMES, Progress, clip_sink, record, write_beside
from audiogen.generation.scheduler import Scheduler
from audiogen.interfaces import Attributes, AudiogenError, Waveform
from audiogen.style.tagger import shipped_tagger

MOST_TAKES = 64
LEAST_SECONDS = 1.0
JUDGED_SECONDS = 180.0
"""of the beginning of a clip: what tempo, key, style and loudness are heard in. Defects are looked for everywhere"""

WEIGHTS = {"tempo": 0.4, "style": 0.4, "key": 0.2}
"""in the overall score; the key weighs less because its estimator errs most"""
SANE_LUFS = (-28.0, -10.0)
"""twelve seconds from anywhere in the starter catalogue lie between -27.7 and -12.4"""
_FINE_AND_BAD = {
    "loudness": (0.0, 12.0),  # dB outside of what is sane
    "silence": (0.5, 3.0),  # seconds
    "stuck": (0.0, 4.0),  # seconds
    "clipping": (1e-4, 1e-2),  # share of samples
}
_WORST = 0.1


@dataclass(frozen=True)
class TakeScore:
    """What is heard in a take. `asked` is what the model was told; of that, what is None scores nothing."""

    asked: Attributes
    measured: Measured
    style: dict[str, float]
    """how likely each style is, the likeliest first"""
    loudness_lufs: float
    """-inf for silence"""
    defects: Defects

    @property
    def obeyed(self) -> dict[str, float]:
        """Marks 0…1 for what was asked: tempo met within 4 %, octaves allowed, or not; the closeness of the key;
        the tagger's probability of the style."""
        marks = {}
        if self.asked.tempo_bpm is not None:
            marks["tempo"] = float(tempo_met(self.asked.tempo_bpm, self.measured.tempo_bpm))
        if self.asked.key is not None:
            marks["key"] = key_closeness(self.asked.key, self.measured.key)
        if self.asked.style in self.style:
            marks["style"] = self.style[self.asked.style]
        return marks

    @property
    def sound(self) -> dict[str, float]:
        """Marks for what must not be, 1 for a clip without that defect, down to 0.1."""
        lowest, highest = SANE_LUFS
        values = {
            "loudness": max(lowest - self.loudness_lufs, self.loudness_lufs - highest, 0.0),
            "silence": self.defects.silence_seconds,
            "stuck": self.defects.stuck_seconds,
            "clipping": self.defects.clipped_share,
        }
        return {
            name: float(np.interp(values[name], fine_and_bad, (1.0, _WORST)))
            for name, fine_and_bad in _FINE_AND_BAD.items()
        }

    @property
    def overall(self) -> float:
        """0…1: the mean of the marks for what was asked, by `WEIGHTS`, times each of the marks for defects."""
        marks = self.obeyed
        weights = [WEIGHTS[name] for name in marks]
        obeyed = float(np.average(list(marks.values()), weights=weights)) if marks else 1.0
        return obeyed * math.prod(self.sound.values())

    def to_json(self) -> dict[str, Any]:
        """What the JSON of a clip says under `scores`: asked and heard, the marks, the defects."""
        heard_style = next(iter(self.style))
        return {
            "overall": round(self.overall, 4),
            "obeyed": {name: round(mark, 4) for name, mark in self.obeyed.items()},
            "sound": {name: round(mark, 4) for name, mark in self.sound.items()},
            "tempo_bpm": {"asked": self.asked.tempo_bpm, "heard": _rounded(self.measured.tempo_bpm, 2)},
            "key": {"asked": _text(self.asked.key), "heard": _text(self.measured.key)},
            "style": {"asked": self.asked.style, "heard": heard_style, "sure": round(self.style[heard_style], 4)},
            "loudness_lufs": _rounded(self.loudness_lufs if math.isfinite(self.loudness_lufs) else None, 2),
            **{name: round(value, 6) for name, value in asdict(self.defects).items()},
        }


def score_take(waveform: Waveform, request: Request) -> TakeScore:
    """Listen to a take of `request`. Raises AudiogenError for less than a second of audio."""
    return _score(partial(_cut, waveform), waveform.seconds, request)


def score_file(path: str | Path, request: Request) -> TakeScore:
    """`score_take` of a WAV file of any length, read in parts, so that memory stays bounded."""
    header = read_header(path)
    return _score(partial(_read, path), header.samples / header.sample_rate, request)


def _score(part: Part, seconds: float, request: Request) -> TakeScore:
    _check_seconds(seconds)
    judged = part(0, JUDGED_SECONDS)
    loudness, tags = loudness_lufs(judged), shipped_tagger().excerpt(judged)
    heard = Measured(None, None) if loudness == -math.inf else Measured(tags.tempo_bpm, tags.key_name)
    return TakeScore(request.attributes, heard, tags.styles, loudness, find_defects(part, seconds))


def _check_seconds(seconds: float) -> None:
    if seconds < LEAST_SECONDS:
        raise AudiogenError(f"{seconds:g} seconds: a take is scored from {LEAST_SECONDS:g} s on; make it longer")


def _cut(waveform: Waveform, start: float, seconds: float) -> Waveform:
    rate = waveform.sample_rate
    return Waveform(waveform.samples[:, round(start * rate) : round((start + seconds) * rate)], rate)


def _read(path: str | Path, start: float, seconds: float) -> Waveform:
    return read(path, start_seconds=start, seconds=seconds)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


# --- rendering ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Take:
    """One of several clips of a request. `path` is None when it was not kept."""

    request: Request
    scored: TakeScore
    clipped_samples: int
    path: Path | None


@dataclass(frozen=True)
class Takes:
    """All takes in order of their seeds, and the time that playing and scoring them took."""

    takes: tuple[Take, ...]
    played_seconds: float
    scored_seconds: float

    @property
    def real_time_factor(self) -> float:
        """Seconds of all takes together a second of playing."""
        return sum(take.request.score.seconds for take in self.takes) / max(self.played_seconds, 1e-9)


def keep(scores: Sequence[TakeScore], best: bool) -> list[int]:
    """Which takes to keep: all, or the one of the highest overall score, the first of equals."""
    if not best:
        return list(range(len(scores)))
    return [max(range(len(scores)), key=lambda index: scores[index].overall)]


def take_paths(path: Path, count: int, best: bool) -> list[Path]:
    """Where each take goes: `cue.wav` for the best or the only one, else `cue-1.wav`, `cue-2.wav` …, with zeros in
    front where there are ten and more."""
    if best or count == 1:
        return [path] * count
    width = len(str(count))
    return [path.with_name(f"{path.stem}-{number:0{width}d}{path.suffix}") for number in range(1, count + 1)]


def check_takes(path: Path, count: int, best: bool, plot: bool) -> None:
    """Raises AudiogenError for a number of takes that is not from 1 to 64, and for files that are there already."""
    if not 1 <= count <= MOST_TAKES:
        raise AudiogenError(f"--takes {count}: expected a number from 1 to {MOST_TAKES}")
    if path.suffix.lower() != ".wav":
        raise AudiogenError(f"{path}: clips are WAV files; give a name that ends in .wav")
    if not path.parent.is_dir():
        raise AudiogenError(f"{path}: the folder {path.parent} does not exist; create it first")
    for take in take_paths(path, count, best):
        for file in (take, take.with_suffix(".json"), *([take.with_suffix(".png")] if plot else [])):
            if file.exists():
                raise AudiogenError(f"{file}: is there already; remove it or choose another name")


def render_takes(
    generator: Generator, request: Request, path: Path, count: int, best: bool, subtype: Subtype, plot: bool,
    progress: Progress,
) -> Takes:  # fmt: skip
    """Play `count` takes of `request`, with its seed and those after it, score each, and keep all or the best.

    All play the same score. Each kept one has a JSON beside it, as any clip, its scores under `scores`. To `progress`
    each second counts twice, once played and once scored. Until all are scored nothing appears under a final name; an
    error or Ctrl-C leaves nothing. Raises AudiogenError as `check_takes`, and for clips under a second, before work
    starts.
    """
    check_takes(path, count, best, plot)
    _check_seconds(request.score.seconds)
    shipped_tagger()  # whether it is whole is known before work starts
    requests = [replace(request, seed=request.seed + index) for index in range(count)]
    told = [record(generator, each) for each in requests]
    with _folder_beside(path) as folder:
        drafts = [folder / f"{index}.wav" for index in range(count)]
        began, done, total = time.monotonic(), 0.0, 2 * count * request.score.seconds
        with ExitStack() as stack:
            sinks = [
                stack.enter_context(clip_sink(generator, one, draft, subtype))
                for one, draft in zip(told, drafts, strict=True)
            ]
            for index, chunk in play_together(generator, requests, CHUNK_FRAMES):
                sinks[index].write(chunk)
                done += chunk.seconds
                progress(done, total)
        played = time.monotonic()
        scores = []
        for draft, each in zip(drafts, requests, strict=True):
            scores.append(score_file(draft, each))
            done += request.score.seconds
            progress(done, total)
        scored = time.monotonic()
        paths: list[Path | None] = [None] * count
        for index in keep(scores, best):
            paths[index] = take_paths(path, count, best)[index]
            write_beside(drafts[index], told[index] | {"scores": scores[index].to_json()}, plot)
        for draft, final in zip(drafts, paths, strict=True):
            if final is not None:
                _move(draft, final, plot)
    clipped = [sink.clipped_samples for sink in sinks]
    takes = tuple(Take(*each) for each in zip(requests, scores, clipped, paths, strict=True))
    return Takes(takes, played - began, scored - played)


def play_together(
    generator: Generator, requests: Sequence[Request], chunk_frames: int
) -> Iterator[tuple[int, Waveform]]:
    """Audio of several requests: (which of them, its next chunk `[C, S]`), until all are finished."""
    yield from Scheduler(generator, running=min(len(requests), AT_ONCE), frames=chunk_frames).play(requests)


@contextmanager
def _folder_beside(path: Path) -> Iterator[Path]:
    """A hidden folder for what is not finished, on the same disk; it goes with all that is left in it."""
    try:
        folder = TemporaryDirectory(dir=path.parent, prefix=f".{path.stem[:40]}-", suffix=".part")
    except OSError as error:
        raise AudiogenError(f"{path}: cannot write into {path.parent}: {error.strerror}") from None
    with folder as name:
        yield Path(name)


def _move(draft: Path, final: Path, plot: bool) -> None:
    """The clip comes last: when it is there, so is what belongs to it."""
    for suffix in (*([".png"] if plot else []), ".json", ".wav"):
        os.replace(draft.with_suffix(suffix), final.with_suffix(suffix))
