"""The whole evaluation: render, measure, compare, report. Everything lies in one folder and is resumed from it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiogen import __version__
from audiogen.evaluation.clap import NotAtHand
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
    pieces. `way`: how a model is asked. A `baseline` is asked fewer prompts, once each (see `fewer`)."""

    name: str
    source: str | None
    way: Way = "told"
    takes: int = TAKES
    baseline: bool = False


def fewer(prompts: Sequence[EvaluationPrompt]) -> list[EvaluationPrompt]:
    """What baselines are asked: the prompts of the vocabulary, or all of a list that has none."""
    return [prompt for prompt in prompts if prompt.kind == "vocabulary"] or list(prompts)


def is_clips(source: str) -> bool:
    """Whether `source` is a folder of WAV files and no model."""
    folder = Path(source)
    return folder.is_dir() and not (folder / "config.json").is_file() and any(folder.glob("*.wav"))


def evaluate(
    subjects: Sequence[Subject], prompts: Sequence[EvaluationPrompt], output: Path, step: Step, *,
    against: TrainingData | None = None, clap: Path | NotAtHand | None = None, jobs: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Evaluate `subjects` on `prompts`, the first of them the one that matters → the report, which is also written as
    `report.json` and `report.html`. Baselines stand in a table of their own, beside what the first made of the same
    prompts. `clap`: the folder of its weights, or why there is none.

    Raises AudiogenError before work starts for what cannot be evaluated, and for a folder that holds another one.
    """
    reference = Reference.load()
    generators = {s.name: _load(s.source) for s in subjects if s.source is not None and not is_clips(s.source)}
    _settle(output, prompts)
    clips: dict[str, list[Clip]] = {}
    folders: dict[str, Path] = {}
    times: dict[str, float] = {}
    tables: dict[bool, dict[str, Any]] = {False: {}, True: {}}

    def column(name: str, of: Sequence[Clip]) -> dict[str, Any]:
        found = summarise(of, folders[name], reference.vectors)
        if against is not None:
            kept = output / "copies" / name
            found["copying"] = against.copying(of, folders[name], kept, step(f"copies in {name}"))
            if isinstance(clap, Path):
                kept = output / "clap" / name
                found["clap"] = against.clap(clap, of, folders[name], kept, step(f"CLAP of {name}"))
        return found

    for subject in subjects:
        name, began = subject.name, time.monotonic()
        folders[name] = Path(subject.source) if subject.source and name not in generators else output / "clips" / name
        system = System(name, folders[name], 1 if subject.baseline else subject.takes)
        asked = fewer(prompts) if subject.baseline else prompts
        told, problems = _render(subject, system, asked, generators.get(name), against, step)
        clips[name] = measure_system(
            system, asked, problems, output / "measured" / name, jobs, step(f"measures of {name}")
        )
        tables[subject.baseline][name] = told | column(name, clips[name])
        times[name] = round(time.monotonic() - began, 1)
    report: dict[str, Any] = {
        "format": 2,
        "audiogen": __version__,
        "measures": VERSION,
        "prompts": {"count": len(prompts), "hash": _hash(prompts)},
        "systems": tables[False],
        "reference": reference.told,
    }
    if tables[True]:
        first, asked = subjects[0].name, fewer(prompts)
        same = [clip for clip in clips[first] if clip.take == 1 and clip.prompt in asked]
        report["baselines"] = {"prompts": len(asked), "systems": {first: column(first, same)} | tables[True]}
    if against is not None:
        began = time.monotonic()
        models = [(s.name, generators[s.name].model) for s in subjects if s.name in generators and s.way == "told"]
        report["model"] = against.likelihood(models, step("cross-entropy"))
        report["held_out"] = against.held_out(step("copies in held-out music"))
        if isinstance(clap, Path):
            report["clap"] = against.clap_of_held_out(clap, step("CLAP of held-out music"))
        times["held-out music"] = round(time.monotonic() - began, 1)
    if isinstance(clap, NotAtHand):
        report["clap"] = {"missing": str(clap)}
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
        problems = render_system(generator, prompts, system.takes, system.folder, subject.way, progress)
        told = {
            "clips_from": model.name, "fingerprint": model.fingerprint, "precision": model.precision,
            "asked": subject.way, "sampling": model.sampling.model_dump(),
        }  # fmt: skip
        return told, problems
    if subject.source is None:
        assert against is not None
        against.retrieve(prompts, system.takes, system.folder, step(f"clips of {subject.name}"))
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
