"""A search over fields of a training's configuration, by optuna: pruned early, resumable, each trial a run of its own.

The journal of the search lies in its folder, so the same command goes on after Ctrl-C or a kill, in the middle of a
trial too. With folds the catalogue is cut by composition, and a trial's figure is the mean over all of them; the first
decides whether it is pruned (median rule: worse than half of the trials before at the same update).
"""

from __future__ import annotations

import json
import math
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from accelerate.state import AcceleratorState
from pydantic import Field, model_validator
from torch import nn

from audiogen.config import Config
from audiogen.data.manifest import Track, read_manifest, write_manifest
from audiogen.files import sha256_file, write_json
from audiogen.interfaces import AudiogenError
from audiogen.storage import read_json
from audiogen.training.lm_trainer import LMTask, LMTrainingConfig
from audiogen.training.run_folder import RunFolder
from audiogen.training.trainer import Trainer

if TYPE_CHECKING:
    import optuna

_UNPRUNED = 3  # so many trials are trained whole before any is judged by them

Value = bool | int | float | str


class Range(Config):
    """Numbers from `low` to `high`, whole ones when both are."""

    low: int | float
    high: int | float
    log: bool = False
    """whether equal ratios are equally likely, not equal distances"""

    @model_validator(mode="after")
    def _ascends(self) -> Range:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"low {self.low} must be below high {self.high}, and above 0 where log is true")
        return self

    def suggest(self, trial: optuna.Trial, name: str) -> Value:
        """A value for `trial`."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(name, self.low, self.high, log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)


class Choice(Config):
    """One of `choices`."""

    choices: tuple[Value, ...] = Field(min_length=1)

    def suggest(self, trial: optuna.Trial, name: str) -> Value:
        """A value for `trial`."""
        chosen: Any = trial.suggest_categorical(name, self.choices)
        return chosen  # type: ignore[no-any-return]


Space = dict[str, Range | Choice]


class Result(NamedTuple):
    """What is known of a trial."""

    number: int
    state: Literal["complete", "pruned", "failed", "unfinished"]
    values: dict[str, Value]
    losses: tuple[float, ...]
    """of the folds that are trained, validation at the end"""
    curve: dict[int, float]
    """validation of the first fold by update"""
    why: str = ""

    @property
    def loss(self) -> float:
        """Mean over the folds."""
        return mean(self.losses) if self.losses else math.nan

    @property
    def spread(self) -> float:
        """Standard deviation over the folds; 0 of one."""
        return stdev(self.losses) if len(self.losses) > 1 else 0.0


def read_space(path: str | Path, config: LMTrainingConfig) -> Space:
    """Read TOML such as `[trainer.lr]` with `low`, `high` and `log`, or with `choices`.

    Raises AudiogenError naming the file and a field that `config` does not have, or that cannot be.
    """
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise AudiogenError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise AudiogenError(f"{path}: not valid TOML: {error}") from None
    space: Space = {}
    for name, table in _leaves(tables, ""):
        known: Any = config.model_dump()
        for part in name.split("."):
            if not isinstance(known, dict) or part not in known:
                there = f": one of {', '.join(known)}" if isinstance(known, dict) else ""
                raise AudiogenError(f"{path}: {name} is no field of the configuration{there}")
            known = known[part]
        kind: type[Range | Choice] = Choice if isinstance(table, dict) and "choices" in table else Range
        if not isinstance(table, dict):
            raise AudiogenError(f"{path}: {name}: give a table with low and high, or with choices")
        space[name] = kind.build(table, f"{path}: {name}")
    if not space:
        raise AudiogenError(f"{path}: names no field to search over; such as [trainer.lr] with low and high")
    return space


def _leaves(tables: dict[str, Any], above: str) -> Iterator[tuple[str, Any]]:
    for name, value in tables.items():
        if isinstance(value, dict) and not {"low", "high", "choices"} & value.keys():
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def fold_manifests(config: LMTrainingConfig, count: int, folder: Path) -> list[Path]:
    """Cut training and validation tracks into `count` folds of about equal length, no composition in two of them.

    `folder/fold-I.jsonl` validates with the fold I and trains with the others. Raises AudiogenError when there are
    fewer compositions than folds.
    """
    if not config.manifest:
        raise AudiogenError("folds are cut from one manifest: name it with manifest=…")
    tracks = [track for track in read_manifest(config.manifest) if track.split != "test"]
    fold_of = assign_folds(tracks, count)
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for index in range(count):
        told = [
            track.model_copy(update={"split": "validation" if fold_of[track.composition] == index else "train"})
            for track in tracks
        ]
        made.append(folder / f"fold-{index + 1}.jsonl")
        write_manifest(made[-1], told)
    return made


def assign_folds(tracks: Sequence[Track], count: int) -> dict[str, int]:
    """Composition → fold: the longest first, each to the fold that is shortest so far."""
    seconds: dict[str, float] = defaultdict(float)
    for track in tracks:
        seconds[track.composition] += track.seconds
    if not 2 <= count <= len(seconds):
        raise AudiogenError(f"{count} folds of {len(seconds)} compositions: give at least 2, and no more than these")
    filled, fold_of = [0.0] * count, {}
    for name in sorted(seconds, key=lambda name: (-seconds[name], name)):
        fold_of[name] = filled.index(min(filled))
        filled[fold_of[name]] += seconds[name]
    return fold_of


class Sweep:
    """The search in the folder `run`; `run.go_on(trials)` trains until there are as many."""

    def __init__(self, config: LMTrainingConfig, space: Space, run: str | Path, folds: int = 1) -> None:
        """Raises AudiogenError when optuna is not installed, the folder is in use, or was begun with something else."""
        self._optuna = _optuna()
        self.config, self.space, self.run = config, space, Path(run)
        self._folder = RunFolder(self.run)
        self._folder.lock()
        try:
            self._begin(folds)
            self._manifests = (
                fold_manifests(config, folds, self.run / "folds") if folds > 1 else [Path(config.manifest)]
            )
            _Silent(self._fold(config, 0))  # the data are there
        except BaseException:
            self._folder.unlock()
            raise
        journal = self._optuna.storages.journal
        storage = journal.JournalStorage(journal.JournalFileBackend(str(self.run / "journal.jsonl")))
        self.study = self._optuna.create_study(
            storage=storage, study_name="sweep", direction="minimize", load_if_exists=True,
            pruner=self._optuna.pruners.MedianPruner(n_startup_trials=_UNPRUNED),
        )  # fmt: skip

    def _begin(self, folds: int) -> None:
        told = {
            "config": self.config.model_dump(mode="json"),
            "space": {name: item.model_dump(mode="json") for name, item in self.space.items()},
            "folds": folds, "manifest": sha256_file(self.config.manifest) if self.config.manifest else "",
        }  # fmt: skip
        path = self.run / "begun.json"
        if not path.exists():
            write_json(path, told)
        changed = [name for name, value in read_json(path).items() if value != json.loads(json.dumps(told))[name]]
        if changed:
            raise AudiogenError(
                f"{self.run}: this sweep began with another {', '.join(changed)}; give back what it was to go on, or "
                "another folder to begin anew"
            )

    def go_on(self, trials: int) -> Iterator[Result]:
        """Train until `trials` are done, those from before counted in; yields each as it ends."""
        try:
            state = self._optuna.trial.TrialState
            for left in self.study.get_trials(deepcopy=False, states=(state.RUNNING,)):
                yield self._trial(self._optuna.trial.Trial(self.study, left._trial_id))
            ended = (state.COMPLETE, state.PRUNED, state.FAIL)
            while len(done := self.study.get_trials(deepcopy=False, states=ended)) < trials:
                self.study.sampler = self._optuna.samplers.TPESampler(seed=self.config.trainer.seed + len(done))
                yield self._trial(self.study.ask())
        finally:
            self._folder.unlock()

    def results(self) -> list[Result]:
        """All trials, the best first, then those that were pruned, then the rest."""
        found = [self._result(trial) for trial in self.study.get_trials(deepcopy=False)]
        order = ("complete", "pruned", "unfinished", "failed")
        return sorted(found, key=lambda item: (order.index(item.state), item.loss, item.number))

    def _trial(self, trial: optuna.Trial) -> Result:
        values = {name: item.suggest(trial, name) for name, item in self.space.items()}
        seen = set(trial.storage.get_trial(trial._trial_id).intermediate_values)

        def watch(step: int, loss: float) -> None:
            if step not in seen and math.isfinite(loss):
                seen.add(step)
                trial.report(loss, step)
            if trial.should_prune():
                raise self._optuna.TrialPruned

        losses: list[float] = []
        try:
            config = changed(self.config, values, f"trial {trial.number}")
            for index in range(len(self._manifests)):
                folder = self.run / "trials" / f"{trial.number:04d}" / f"fold-{index + 1}"
                losses.append(train(self._fold(config, index), folder, watch if index == 0 else _ignore))
                trial.set_user_attr("losses", losses)
        except self._optuna.TrialPruned:
            self.study.tell(trial, state=self._optuna.trial.TrialState.PRUNED)
        except AudiogenError as error:
            trial.set_user_attr("why", str(error))
            self.study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
        else:
            self.study.tell(trial, mean(losses))
        return self._result(self.study.get_trials(deepcopy=False)[trial.number])

    def _fold(self, config: LMTrainingConfig, index: int) -> LMTrainingConfig:
        return config.model_copy(update={"manifest": str(self._manifests[index])}) if config.manifest else config

    def _result(self, trial: optuna.trial.FrozenTrial) -> Result:
        states: dict[str, Any] = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
        return Result(
            trial.number, states.get(trial.state.name, "unfinished"), dict(trial.params),
            tuple(trial.user_attrs.get("losses", ())), dict(trial.intermediate_values), trial.user_attrs.get("why", ""),
        )  # fmt: skip


class _Silent(LMTask):
    """Validates without sound."""

    def write_samples(self, module: nn.Module, folder: Path) -> None: ...


def changed(config: LMTrainingConfig, values: dict[str, Value], source: str) -> LMTrainingConfig:
    """`config` with other `values`, by dotted names. Raises AudiogenError when they cannot be together."""
    told = config.model_dump()
    for name, value in values.items():
        *parents, last = name.split(".")
        table = told
        for parent in parents:
            table = table[parent]
        table[last] = value
    return LMTrainingConfig.build(told, source)


def train(config: LMTrainingConfig, run: Path, watch: Callable[[int, float], None]) -> float:
    """Train in `run`, going on with what is there; `watch` hears every validation → the last one's loss."""
    last = math.nan
    for step, loss in _validations(run):
        last = loss
        watch(step, loss)
        if step == config.trainer.max_steps:
            return last
    AcceleratorState._reset_state(True)  # a trial may have another precision
    task: Any = _Silent(config)
    trainer = Trainer(task, run, config)
    trained: Any = trainer.steps()
    step = 0
    with closing(trained) as steps:
        for report in steps:
            if "validation_loss" in report.metrics:
                step, last = report.global_step, round(report.metrics["validation_loss"], 6)  # as the metrics have it
                watch(step, last)
    if step != config.trainer.max_steps:  # interrupted in the last validation
        task.module.load_state_dict(trainer.ema)
        with torch.no_grad():
            last = round(task.validate(task.module.eval())["loss"], 6)
        watch(config.trainer.max_steps, last)
    if not math.isfinite(last):
        raise AudiogenError(f"{run}: the validation loss is {last} at the end")
    return last


def _ignore(step: int, loss: float) -> None: ...


def _validations(run: Path) -> list[tuple[int, float]]:
    path = run / "metrics.jsonl"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("}\n")]
    return [(line["global_step"], line["validation_loss"]) for line in lines if "validation_loss" in line]


def _optuna() -> Any:
    try:
        import optuna
        import optuna.storages.journal
    except ImportError:
        raise AudiogenError('sweeps need optuna: pip install "audiogen[sweep]"') from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
