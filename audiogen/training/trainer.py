"""One training loop for every model, on Accelerate: bf16, accumulation, cosine schedule, averaged weights, resume.

Everything random in a step follows from (seed, global_step, process), and the excerpts from the position, so a run
that was killed goes on as if it had not been.
"""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from pydantic import Field
from torch import Tensor, nn

from audiogen import __version__
from audiogen.config import Config
from audiogen.files import write_json, write_text
from audiogen.interfaces import AudiogenError
from audiogen.training.checkpoint import (
    flatten_optimiser,
    load_checkpoint,
    newest_checkpoint,
    restore_optimiser,
    save_checkpoint,
)
from audiogen.training.machine import keep_freed_memory
from audiogen.training.optimiser import MuonAdamW


class TrainerConfig(Config):
    """How to train; what to train is the task's own configuration."""

    seed: int = 1
    max_steps: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    """segments an optimiser update, over all processes and accumulation"""
    accumulation: int = Field(default=1, gt=0)
    lr: float = Field(gt=0)
    lr_end: float = 0.0
    matrix_pace: float = Field(default=3.0, gt=0)
    """learning rate of the matrices, which Muon turns, as a multiple of `lr`, which is AdamW's"""
    warmup_steps: int = 200
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.95)
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    mixed_precision: str = "bf16"
    validate_every: int = 500
    checkpoint_every_seconds: float = 240.0
    threads: int = 0
    """CPU threads; 0 leaves PyTorch's choice"""


class Task(Protocol):
    """What the trainer trains: a module, excerpts by position, a loss, a validation."""

    module: nn.Module
    heads: tuple[str, ...]
    """linear layers that only read the result out: their rows are learned one by one"""

    def batch(self, positions: range) -> Any: ...
    def loss(self, module: nn.Module, batch: Any, step: int) -> tuple[Tensor, dict[str, float | Tensor]]: ...
    def validate(self, module: nn.Module) -> dict[str, float]: ...
    def write_samples(self, module: nn.Module, folder: Path) -> None: ...
    def fingerprint(self) -> dict[str, str]: ...


class StepReport(NamedTuple):
    """One optimiser update, for the log and the progress bar."""

    global_step: int
    metrics: dict[str, float]
    seconds_left: float


class Trainer:
    """`for report in trainer.steps(): ...` trains `task` in the folder `run`, resuming what it finds there."""

    def __init__(self, config: TrainerConfig, task: Task, run: str | Path, resolved: dict[str, Any]) -> None:
        keep_freed_memory()
        if config.threads:
            torch.set_num_threads(config.threads)
        self.config, self.task, self.run = config, task, Path(run)
        self.accelerator = Accelerator(mixed_precision=config.mixed_precision if config.mixed_precision else "no")
        share = self.accelerator.num_processes * config.accumulation
        if config.batch_size % share:
            raise AudiogenError(
                f"batch_size {config.batch_size} must be a multiple of processes × accumulation = {share}"
            )
        self._micro = config.batch_size // share
        self.run.mkdir(parents=True, exist_ok=True)
        optimiser = MuonAdamW(
            task.module, betas=config.betas, weight_decay=config.weight_decay, not_matrices=task.heads
        )
        self.module, self.optimiser = self.accelerator.prepare(task.module, optimiser)
        self.ema = {name: value.detach().clone() for name, value in self._plain.state_dict().items()}
        self.global_step = 0
        self._resume(resolved)

    @property
    def _plain(self) -> nn.Module:
        return self.accelerator.unwrap_model(self.module)

    # --- resume and save --------------------------------------------------------------------------------------------

    def _resume(self, resolved: dict[str, Any]) -> None:
        told = {"config": resolved, "data": self.task.fingerprint(), "version": __version__}
        self._told = json.loads(json.dumps(told))
        newest = newest_checkpoint(self.run / "checkpoints")
        if newest is None:
            if self.accelerator.is_main_process:
                write_json(self.run / "config.json", self._told)
            return
        parts, state = load_checkpoint(newest)
        for name in ("config", "data"):
            if state[name] != self._told[name]:
                old, new = state[name], self._told[name]
                changed = _differing(old, new)
                raise AudiogenError(
                    f"{self.run}: this run began with another {name} (changed: {', '.join(changed)}); give back the "
                    "old values to resume it, or another folder to begin anew"
                )
        self._plain.load_state_dict(parts["model"])
        self.ema = {name: value.to(self.accelerator.device) for name, value in parts["ema"].items()}
        restore_optimiser(self.optimiser.optimizer, parts["optimiser"])
        self.global_step = int(state["global_step"])
        self._forget_metrics_after(self.global_step)

    def save(self) -> None:
        """Write a checkpoint of this moment (main process only)."""
        if self.accelerator.is_main_process:
            parts = {
                "model": self._plain.state_dict(),
                "ema": self.ema,
                "optimiser": flatten_optimiser(self.optimiser.optimizer),
            }
            save_checkpoint(self.run / "checkpoints", self.global_step, parts, self._told)
        self.accelerator.wait_for_everyone()

    # --- the loop ---------------------------------------------------------------------------------------------------

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then a cosine to `lr_end` at `max_steps` (Loshchilov and Hutter 2017, eq. 5)."""
        config = self.config
        if step < config.warmup_steps:
            return config.lr * (step + 1) / config.warmup_steps
        share = (step - config.warmup_steps) / max(1, config.max_steps - config.warmup_steps)
        return config.lr_end + (config.lr - config.lr_end) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))

    def _positions(self, step: int, micro: int) -> range:
        start = step * self.config.batch_size
        start += (micro * self.accelerator.num_processes + self.accelerator.process_index) * self._micro
        return range(start, start + self._micro)

    def steps(self) -> Iterator[StepReport]:
        """Train to `max_steps`; validates, saves and writes metrics on the way, and once more when interrupted."""
        began, first, saved = time.monotonic(), self.global_step, time.monotonic()
        with ThreadPoolExecutor(1) as loader:
            pending = self._load(loader, self.global_step)
            try:
                while self.global_step < self.config.max_steps:
                    batches = [item.result() for item in pending]
                    pending = self._load(loader, self.global_step + 1)
                    with _uninterrupted():
                        metrics = self._update(batches)
                        self.global_step += 1
                    done = self.global_step == self.config.max_steps
                    if done or self.global_step % self.config.validate_every == 0:
                        metrics |= self._validate()
                    each = (time.monotonic() - began) / (self.global_step - first)
                    self._log(metrics | {"seconds_a_step": each})
                    if done or time.monotonic() - saved > self.config.checkpoint_every_seconds:
                        self.save()
                        saved = time.monotonic()
                    yield StepReport(self.global_step, metrics, each * (self.config.max_steps - self.global_step))
            except (KeyboardInterrupt, GeneratorExit):
                self.save()
                raise
            finally:
                for item in pending:
                    item.cancel()

    def _load(self, loader: ThreadPoolExecutor, step: int) -> list[Any]:
        return [loader.submit(self.task.batch, self._positions(step, m)) for m in range(self.config.accumulation)]

    def _update(self, batches: list[Any]) -> dict[str, float]:
        config, step = self.config, self.global_step
        set_seed(config.seed * 1_000_003 + step * 64 + self.accelerator.process_index)
        rate = self.learning_rate(step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * (config.matrix_pace if group["matrices"] else 1.0)
        self.module.train()
        totals: dict[str, float] = {}
        for index, batch in enumerate(batches):
            last = index + 1 == len(batches)
            with self.accelerator.autocast(), _maybe_no_sync(self.accelerator, self.module, last):
                loss, metrics = self.task.loss(self.module, _to(batch, self.accelerator.device), step)
                self.accelerator.backward(loss / len(batches))
            for name, value in {"loss": loss.detach(), **metrics}.items():
                totals[name] = totals.get(name, 0.0) + float(value) / len(batches)
        if not math.isfinite(totals["loss"]):
            raise AudiogenError(
                f"step {step}: the loss is {totals['loss']}; lower lr, or look at the excerpts "
                f"{self._positions(step, 0)}"
            )
        norm = self.accelerator.clip_grad_norm_(self.module.parameters(), config.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self._average(min(config.ema_decay, (1 + step) / (10 + step)))
        return totals | {"lr": rate, "grad_norm": float(norm)}

    @torch.no_grad()
    def _average(self, decay: float) -> None:
        now = self._plain.state_dict()
        floats = [name for name, value in now.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.ema[n] for n in floats], [now[n] for n in floats], 1 - decay)
        for name in now.keys() - set(floats):
            self.ema[name].copy_(now[name])

    def _validate(self) -> dict[str, float]:
        """Validate and write samples with the averaged weights."""
        if not self.accelerator.is_main_process:
            self.accelerator.wait_for_everyone()
            return {}
        plain = self._plain
        trained = {name: value.clone() for name, value in plain.state_dict().items()}
        try:
            plain.load_state_dict(self.ema)
            plain.eval()
            with torch.no_grad():
                metrics = {f"validation_{k}": v for k, v in self.task.validate(plain).items()}
                self.task.write_samples(plain, self.run / "samples" / f"{self.global_step:08d}")
        finally:
            with _uninterrupted():
                plain.load_state_dict(trained)
        self.accelerator.wait_for_everyone()
        return metrics

    def _forget_metrics_after(self, step: int) -> None:
        """Steps that are done again are logged again; the line being written when the run was killed goes too."""
        path = self.run / "metrics.jsonl"
        if not (self.accelerator.is_main_process and path.exists()):
            return
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        write_text(
            path, "".join(line for line in lines if line.endswith("}\n") and json.loads(line)["global_step"] <= step)
        )

    def _log(self, metrics: dict[str, float]) -> None:
        if self.accelerator.is_main_process:
            line = {"global_step": self.global_step, **{name: round(value, 6) for name, value in metrics.items()}}
            with open(self.run / "metrics.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold back Ctrl-C until the block is done: a checkpoint is never of half an update."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: caught.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if caught:
        raise KeyboardInterrupt


def _maybe_no_sync(accelerator: Accelerator, module: nn.Module, last: bool) -> Any:
    from contextlib import nullcontext

    return nullcontext() if last else accelerator.no_sync(module)


def _differing(old: dict[str, Any], new: dict[str, Any], above: str = "") -> list[str]:
    """Dotted names of the values that differ."""
    found: list[str] = []
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += _differing(a, b, f"{above}{key}.")
        elif a != b:
            found.append(above + key)
    return found


def _to(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, dict):
        return {name: _to(value, device) for name, value in batch.items()}
    return batch
