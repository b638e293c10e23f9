"""One clip to a file: the WAV, the JSON that reproduces it, the picture; and the batch of many."""

from __future__ import annotations

import csv
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from audiogen import __version__
from audiogen.audio import chroma
from audiogen.audio.sinks import RawSink, Subtype, WavSink
from audiogen.files import write_json
from audiogen.generation.generator import Generator, Request
from audiogen.interfaces import AudiogenError
from audiogen.lm.sampling import Sampling
from audiogen.storage import read_json
from audiogen.style.parse import parse
from audiogen.style.plan_file import score_from_json, score_to_json

Progress = Callable[[float, float], None]
"""(seconds done, seconds in all), called after each chunk."""

CHUNK_FRAMES = 50
_FORMAT = 1
_DRAWN_SECONDS = 600.0


@dataclass(frozen=True)
class Rendered:
    """What a clip took: its length, the time it was made in, and how many samples clipped."""

    seconds: float
    took_seconds: float
    clipped_samples: int

    @property
    def real_time_factor(self) -> float:
        return self.seconds / max(self.took_seconds, 1e-9)


def record(generator: Generator, request: Request) -> dict[str, Any]:
    """What the JSON beside a clip says; `from_record` makes the same request of it."""
    model = generator.model
    licence = {"licence": model.licence} if model.licence else {}
    where = {} if model.device.type == "cpu" else {"device": model.device.type}
    followed = {"melody": list(request.melody)} if request.melody else {}
    return {
        "format": _FORMAT,
        "generated_by": "audiogen",
        "version": __version__,
        "model": {"name": model.name, "fingerprint": model.fingerprint, "precision": model.precision} | where | licence,
        "prompt": request.prompt.text,
        "seed": request.seed,
        "sampling": request.sampling.model_dump(),
        "plan": score_to_json(request.score, request.attributes),
    } | followed


def recorded_precision(path: str | Path) -> str | None:
    """What a clip's codes were computed in, so that they come out again; None where the JSON does not say."""
    found = _told_of_model(path).get("precision")
    return found if found in ("int8", "bfloat16", "float32") else None


def recorded_device(path: str | Path) -> str:
    """Where a clip's codes were computed, "cpu" or "cuda", since the two round otherwise."""
    return "cuda" if _told_of_model(path).get("device") == "cuda" else "cpu"


def _told_of_model(path: str | Path) -> dict[str, Any]:
    told = read_json(Path(path))
    model = told.get("model") if isinstance(told, dict) else None
    return model if isinstance(model, dict) else {}


def from_record(path: str | Path, generator: Generator) -> Request:
    """The request of a clip's JSON. Raises AudiogenError when the file is no such record or of another model."""
    told = read_json(Path(path))
    if not isinstance(told, dict) or told.get("generated_by") != "audiogen" or told.get("format") != _FORMAT:
        raise AudiogenError(f"{path}: not the JSON of a clip made by this version of audiogen")
    if "continues" in told:
        raise AudiogenError(
            f"{path}: continues the recording {told['continues']['file']}; make it again with `audiogen continue` and "
            f"--seed {told['seed']}"
        )
    if told["model"]["fingerprint"] != generator.model.fingerprint:
        raise AudiogenError(
            f"{path}: made by the model {told['model']['name']} {told['model']['fingerprint']}, but "
            f"{generator.model.name} {generator.model.fingerprint} is loaded; give the same with --model"
        )
    score, attributes = score_from_json(told["plan"], str(path))
    sampling = Sampling.build(told["sampling"], str(path))
    melody = tuple(told.get("melody", ()))
    if not all(isinstance(pitch, int) and 0 <= pitch < chroma.PITCHES for pitch in melody):
        raise AudiogenError(f"{path}: melody: expected pitch classes from 0 to {chroma.PITCHES - 1}")
    return Request(parse(told["prompt"]), score, attributes, sampling, int(told["seed"]), melody)


def render(
    generator: Generator, request: Request, path: Path, subtype: Subtype, plot: bool, progress: Progress
) -> Rendered:
    """Write `path`, the JSON beside it and, if asked, the picture. Nothing appears under a final name half-written."""
    told = record(generator, request)
    with clip_sink(generator, told, path, subtype) as sink:
        took = _play(generator, request, sink, progress)
    write_beside(path, told, plot)
    return Rendered(request.score.seconds, took, sink.clipped_samples)


def clip_sink(generator: Generator, told: dict[str, Any], path: Path, subtype: Subtype) -> WavSink:
    """A sink for the clip of the record `told`, the short of which goes into the file."""
    brief = {key: told[key] for key in ("generated_by", "version", "model", "prompt", "seed")}
    return WavSink(path, generator.sample_rate, generator.channels, subtype, metadata=brief)


def write_beside(path: Path, told: dict[str, Any], plot: bool) -> None:
    """The JSON beside the finished clip `path` and, if asked, the picture."""
    write_json(path.with_suffix(".json"), told)
    if plot:
        from audiogen.audio.features import figure
        from audiogen.audio.io import read

        figure(read(path, seconds=_DRAWN_SECONDS), path.with_suffix(".png"), told["prompt"])


def pipe(generator: Generator, request: Request, stream: BinaryIO, progress: Progress) -> Rendered:
    """Write a 16-bit WAV stream to `stream`, for a player."""
    sink = RawSink(stream, generator.sample_rate, generator.channels)
    took = _play(generator, request, sink, progress)
    return Rendered(request.score.seconds, took, sink.clipped_samples)


def _play(generator: Generator, request: Request, sink: WavSink | RawSink, progress: Progress) -> float:
    began, done = time.monotonic(), 0.0
    for chunk in generator.play(request, CHUNK_FRAMES):
        sink.write(chunk)
        done += chunk.seconds
        progress(done, request.score.seconds)
    return time.monotonic() - began


# --- batches --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """One line of a prompts file."""

    number: int
    prompt: str
    seconds: float | None
    seed: int
    bpm: float | None
    key: str | None
    name: str

    def path(self, folder: Path) -> Path:
        return folder / f"{self.name}.wav"


_COLUMNS = ("prompt", "seconds", "seed", "bpm", "key", "name")


def read_jobs(path: str | Path, seconds: float | None, seed: int) -> list[Job]:
    """A text file with a prompt a line, or a CSV with a header (prompt and any of seconds, seed, bpm, key, name).

    `seconds` and `seed` fill what a row leaves open, the seed counting up by row. Raises AudiogenError naming the
    line that is wrong, before anything is rendered.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise AudiogenError(f"{path}: cannot be read as text: {error}") from None
    rows = list(_rows(path, text)) if text.strip() else []
    if not rows:
        raise AudiogenError(f"{path}: holds no prompts")
    jobs: list[Job] = []
    for number, (line, row) in enumerate(rows, 1):
        try:
            given_seconds, given_bpm = (float(row[name]) if row.get(name) else None for name in ("seconds", "bpm"))
            given_seed = int(row["seed"]) if row.get("seed") else seed + number - 1
        except ValueError as error:
            raise AudiogenError(f"{path}:{line}: {error}") from None
        name = row.get("name") or f"{number:03d}-{_slug(row['prompt'])}"
        if not re.fullmatch(r"[\w][\w .-]*", name) or any(job.name == name for job in jobs):
            raise AudiogenError(f"{path}:{line}: the name {name!r} must be a plain file name, used once")
        length = given_seconds if given_seconds is not None else seconds
        jobs.append(Job(number, row["prompt"], length, given_seed, given_bpm, row.get("key") or None, name))
    return jobs


def _rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, str]]]:
    lines = text.splitlines()
    if path.suffix.lower() != ".csv":
        yield from ((n, {"prompt": line.strip()}) for n, line in enumerate(lines, 1) if line.strip())
        return
    reader = csv.DictReader(lines)
    unknown = [name for name in reader.fieldnames or () if name not in _COLUMNS]
    if unknown or "prompt" not in (reader.fieldnames or ()):
        raise AudiogenError(
            f"{path}:1: expected columns of {', '.join(_COLUMNS)}, 'prompt' among them; got {lines[:1]}"
        )
    for row in reader:
        if None in row or any(value is None for value in row.values()):
            raise AudiogenError(f"{path}:{reader.line_num}: has another number of columns than the header")
        yield reader.line_num, {name: value.strip() for name, value in row.items()}


def is_done(job: Job, folder: Path) -> bool:
    """Whether the clip of `job` is there. Raises AudiogenError when that name holds another clip."""
    path = job.path(folder)
    if not path.exists():
        return False
    try:
        told = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        same = (told["prompt"], told["seed"]) == (" ".join(job.prompt.split()), job.seed)
    except (OSError, ValueError, KeyError, TypeError):
        same = False
    if not same:
        raise AudiogenError(f"{path}: is there already and was made from something else; choose another folder")
    return True


def _slug(text: str) -> str:
    return "-".join(re.findall(r"\w+", text.lower()))[:48] or "clip"
