"""The systems of a table: a model that renders the prompts, or a folder of clips that another one rendered.

Clips are files `ID-TAKE.wav`. What was measured in each lies under `measured/`, keyed by the file's hash, so a run that
was interrupted goes on where it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from audiogen.evaluation.prompts import EvaluationPrompt
from audiogen.files import DiskFullError, atomic_path, sha256_file, write_json
from audiogen.interfaces import Attributes, AudiogenError, Prompt, Score
from audiogen.storage import read_json
from audiogen.workers import spread

if TYPE_CHECKING:
    from audiogen.generation.generator import Generator, Request

Way = Literal["told", "without score", "unconditional"]
"""how a model is asked: with all there is, without its score, with nothing at all"""

VERSION = 1
"""of what is measured: changes whenever the values would"""
_AT_ONCE = 16

Progress = Callable[[float, float], None]


class Clip(NamedTuple):
    """One clip of a prompt: `measured` and `vectors` as of `measure_clip`, or the `problem` that there is instead."""

    prompt: EvaluationPrompt
    take: int
    measured: dict[str, Any] | None
    vectors: np.ndarray | None
    problem: str | None


@dataclass(frozen=True)
class System:
    """What stands in one column: a folder of clips, so many of each prompt."""

    name: str
    folder: Path
    takes: int


def render_system(
    generator: Generator, prompts: Sequence[EvaluationPrompt], takes: int, folder: Path, way: Way, progress: Progress
) -> dict[str, str]:
    """Render what is missing in `folder` → the problem of each file that could not be made.

    Files are whole or absent. A prompt that the model refuses, or fails on, is a problem of its own and no other's; a
    full disk is nobody's mark, and ends it with DiskFullError.
    """
    from audiogen.generation.batch import render_batch

    _same_model(generator, folder, way)
    problems: dict[str, str] = {}
    wanted = [(prompt, take) for take in range(1, takes + 1) for prompt in prompts]
    total = sum(prompt.seconds for prompt, _ in wanted)
    missing: list[tuple[Request, Path]] = []
    for prompt, take in wanted:
        path = folder / prompt.file(take)
        if path.exists():
            continue
        try:
            missing.append((_request(generator, prompt, take, way), path))
        except AudiogenError as error:
            problems[path.name] = str(error)
    missing.sort(key=lambda clip: clip[0].score.seconds)
    done = total - sum(request.score.seconds for request, _ in missing)
    progress(done, total)
    for first in range(0, len(missing), _AT_ONCE):
        group = missing[first : first + _AT_ONCE]

        def show(seconds: float, _: float, before: float = done) -> None:
            progress(before + seconds, total)

        try:
            render_batch(generator, group, "PCM_16", False, show, lambda index, rendered: None)
        except DiskFullError:
            raise
        except Exception:  # a model may fail in any way, and the other prompts are still to be asked
            for request, path in group:
                if not path.exists():
                    try:
                        render_batch(generator, [(request, path)], "PCM_16", False, show, lambda i, r: None)
                    except DiskFullError:
                        raise
                    except Exception as error:
                        known = isinstance(error, AudiogenError)
                        problems[path.name] = str(error) if known else f"the model failed: {error!r}"
        done += sum(request.score.seconds for request, _ in group)
    return problems


def _same_model(generator: Generator, folder: Path, way: Way) -> None:
    model = generator.model
    told = {"fingerprint": model.fingerprint, "precision": model.precision, "asked": way}
    path = folder / "model.json"
    if path.exists():
        if read_json(path) != told:
            raise AudiogenError(f"{folder}: holds clips of another model or precision; give another folder with -o")
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, told)


def _request(generator: Generator, prompt: EvaluationPrompt, take: int, way: Way) -> Request:
    asked = generator.request(prompt.prompt, prompt.seconds, prompt.seed(take))
    if way == "told":
        return asked
    blank = replace(asked, score=Score(prompt.seconds))
    if way == "without score":
        return blank
    sampling = blank.sampling.model_copy(update={"guidance": 1.0})
    return replace(blank, prompt=Prompt(""), attributes=Attributes(seconds=prompt.seconds), sampling=sampling)


def measure_system(
    system: System, prompts: Sequence[EvaluationPrompt], problems: dict[str, str], kept: Path, jobs: int,
    progress: Progress,
) -> list[Clip]:  # fmt: skip
    """Measure every clip of `system` on `jobs` processes; what is measured already is read.

    A missing, silent, corrupt or too short file is a clip with a problem.
    """
    from audiogen.style.tagger import shipped_tagger

    kept.mkdir(parents=True, exist_ok=True)
    tagger = shipped_tagger().fingerprint
    wanted = [(prompt, take) for prompt in prompts for take in range(1, system.takes + 1)]
    found: dict[str, Clip] = {}
    jobs_left: list[tuple[EvaluationPrompt, int, str]] = []
    for prompt, take in wanted:
        name = prompt.file(take)
        path = system.folder / name
        if name in problems or not path.is_file():
            found[name] = Clip(prompt, take, None, None, problems.get(name, "is missing"))
            continue
        key = hashlib.sha256(f"{VERSION} {tagger} {sha256_file(path)}".encode()).hexdigest()[:16]
        clip = _kept(prompt, take, kept / name, key)
        if clip is None:
            jobs_left.append((prompt, take, key))
        else:
            found[name] = clip
    total = sum(prompt.seconds for prompt, _ in wanted)
    done = total - sum(prompt.seconds for prompt, _, _ in jobs_left)
    progress(done, total)
    left = {system.folder / prompt.file(take): (prompt, take, key) for prompt, take, key in jobs_left}
    for path, result in spread(_measure, list(left), jobs):
        prompt, take, key = left[path]
        name = prompt.file(take)
        if isinstance(result, str):
            found[name] = Clip(prompt, take, None, None, result)
        else:
            _keep(kept / name, key, *result)
            found[name] = Clip(prompt, take, *result, None)
        done += prompt.seconds
        progress(done, total)
    return [found[prompt.file(take)] for prompt, take in wanted]


def not_asked_for(system: System, prompts: Sequence[EvaluationPrompt]) -> list[str]:
    """WAV files in the folder that belong to no prompt."""
    names = {prompt.file(take) for prompt in prompts for take in range(1, system.takes + 1)}
    return sorted(path.name for path in system.folder.glob("*.wav") if path.name not in names)


Result = tuple[dict[str, Any], np.ndarray] | str


def _measure(path: Path) -> Result:
    from audiogen.evaluation.clips import measure_clip
    from audiogen.style.tagger import shipped_tagger

    try:
        return measure_clip(path, shipped_tagger())
    except AudiogenError as error:
        return str(error).removeprefix(f"{path}: ")


def _keep(path: Path, key: str, measured: dict[str, Any], vectors: np.ndarray) -> None:
    with atomic_path(path.with_suffix(".npy")) as temporary:
        np.save(temporary, vectors, allow_pickle=False)
    write_json(path.with_suffix(".json"), {"key": key, "measured": measured})


def _kept(prompt: EvaluationPrompt, take: int, path: Path, key: str) -> Clip | None:
    try:
        told = read_json(path.with_suffix(".json"))
        if not isinstance(told, dict) or told.get("key") != key:
            return None
        return Clip(prompt, take, told["measured"], np.load(path.with_suffix(".npy"), allow_pickle=False), None)
    except (AudiogenError, OSError, ValueError, KeyError):
        return None
