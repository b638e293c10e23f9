"""The whole evaluation: render, measure, compare, report. Everything lies in one folder and is resumed from it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiogen import __version__
from audiogen.evaluation.page import write_page
from audiogen.evaluation.prompts import TAKES, EvaluationPrompt
from audiogen.evaluation.reference import Reference
from audiogen.evaluation.summary import finite, summarise
from audiogen.evaluation.systems import (
    VERSION,
    Clip,
    Progress,
    System,
    Way,
    measure_system,
    not_asked_for,
    render_system,
)
from audiogen.evaluation.training_data import TrainingData
from audiogen.files import write_json
from audiogen.generation.generator import Generator
from audiogen.interfaces import AudiogenError
from audiogen.storage import read_json

Step = Callable[[str], Progress]
"""(what is done next) → where its progress is told"""


@dataclass(frozen=True)
class Subject:
    """What is evaluated: a model by name or folder, a folder of clips, or, without a `source`, the nearest training
    pieces. `way`: how a model is asked."""

    name: str
    source: str | None
    way: Way = "told"
    takes: int = TAKES


def is_clips(source: str) -> bool:
    """Whether `source` is a folder of WAV files and no model."""
    folder = Path(source)
    return folder.is_dir() and not (folder / "config.json").is_file() and any(folder.glob("*.wav"))


def evaluate(
    subjects: Sequence[Subject], prompts: Sequence[EvaluationPrompt], output: Path, step: Step, *,
    against: TrainingData | None = None, jobs: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Evaluate `subjects` on `prompts`, the first of them the one that matters → the report, which is also written as
    `report.json` and `report.html`.

    Raises AudiogenError before work starts for what cannot be evaluated, and for a folder that holds another one.
    """
    reference = Reference.load()
    generators = {s.name: _load(s.source) for s in subjects if s.source is not None and not is_clips(s.source)}
    _settle(output, prompts)
    columns: dict[str, Any] = {}
    clips: dict[str, list[Clip]] = {}
    folders: dict[str, Path] = {}
    times: dict[str, float] = {}
    for subject in subjects:
        name, began = subject.name, time.monotonic()
        folders[name] = Path(subject.source) if subject.source and name not in generators else output / "clips" / name
        system = System(name, folders[name], subject.takes)
        told, problems = _render(subject, system, prompts, generators.get(name), against, step)
        clips[name] = measure_system(
            system, prompts, problems, output / "measured" / name, jobs, step(f"measures of {name}")
        )
        columns[name] = told | summarise(clips[name], system.folder, reference.vectors)
        if against is not None:
            columns[name]["copying"] = against.copying(
                clips[name], system.folder, output / "copies" / name, step(f"copies in {name}")
            )
        times[name] = round(time.monotonic() - began, 1)
    report: dict[str, Any] = {
        "format": 1,
        "audiogen": __version__,
        "measures": VERSION,
        "prompts": {"count": len(prompts), "hash": _hash(prompts)},
        "systems": columns,
        "reference": reference.told,
    }
    if against is not None:
        models = [(s.name, generators[s.name].model) for s in subjects if s.name in generators and s.way == "told"]
        report["model"] = against.likelihood(models, step("cross-entropy"))
        report["held_out"] = against.held_out(step("copies in held-out music"))
    report = finite(report)
    report["times"] = times
    write_json(output / "report.json", report)
    write_page(report, clips, folders, output / "report.html")
    return report


def _render(
    subject: Subject, system: System, prompts: Sequence[EvaluationPrompt], generator: Generator | None,
    against: TrainingData | None, step: Step,
) -> tuple[dict[str, Any], dict[str, str]]:  # fmt: skip
    """Where the clips come from, and the problems there were."""
    if generator is not None:
        model = generator.model
        progress = step(f"clips of {subject.name}")
        problems = render_system(generator, prompts, subject.takes, system.folder, subject.way, progress)
        told = {
            "clips_from": model.name, "fingerprint": model.fingerprint, "precision": model.precision,
            "asked": subject.way, "sampling": model.sampling.model_dump(),
        }  # fmt: skip
        return told, problems
    if subject.source is None:
        assert against is not None
        against.retrieve(prompts, subject.takes, system.folder, step(f"clips of {subject.name}"))
        return {"clips_from": "the training pieces whose labels fit best"}, {}
    return {"clips_from": "a folder", "not_asked_for": not_asked_for(system, prompts)}, {}


def _load(source: str) -> Generator:
    if Path(source).is_dir() and not (Path(source) / "config.json").is_file():
        raise AudiogenError(f"{source}: neither a model folder, with a config.json, nor a folder of .wav files")
    return Generator.from_pretrained(source)


def _hash(prompts: Sequence[EvaluationPrompt]) -> str:
    import hashlib

    text = json.dumps([prompt.model_dump() for prompt in prompts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _settle(output: Path, prompts: Sequence[EvaluationPrompt]) -> None:
    """The folder's settings, written once; refused where they are others."""
    told = {"prompts": _hash(prompts), "measures": VERSION}
    path = output / "settings.json"
    if not output.parent.is_dir():
        raise AudiogenError(f"{output}: the folder {output.parent} does not exist; create it first")
    if output.exists() and not output.is_dir():
        raise AudiogenError(f"{output}: is a file; give a folder for the report")
    if path.exists():
        if read_json(path) != told:
            raise AudiogenError(f"{output}: holds the evaluation of other prompts; give another folder with -o")
        return
    if output.exists() and any(output.iterdir()):
        raise AudiogenError(f"{output}: holds other files; give a new folder with -o, or that of a report to resume")
    output.mkdir(exist_ok=True)
    write_json(path, told)
