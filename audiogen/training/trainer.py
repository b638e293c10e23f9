"""One training loop for every model, on Accelerate: bf16, accumulation, cosine schedule, averaged weights, resume.

The learning rate and everything random in a step follow from (seed, global_step, process), and the excerpts from the
position, so a run that was killed goes on as if it had not been, on as many processes as there are then.
"""

from __future__ import annotations

import copy
import functools
import gc
import math
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate.utils import broadcast_object_list, set_seed
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from audiogen import __version__
from audiogen.config import Config
from audiogen.interfaces import AudiogenError
from audiogen.training.checkpoint import FORMAT, Best, load_checkpoint, newest_checkpoint, save_checkpoint
from audiogen.training.cost import Cost, Memory, measure, standing
from audiogen.training.interruption import Interruption, Terminated
from audiogen.training.machine import keep_freed_memory, matrix_peak, most_memory
from audiogen.training.micro_batch import Share, buffers, is_out_of_memory, put_back
from audiogen.training.optimiser import MuonAdamW, restore_state, state_tensors
from audiogen.training.processes import flat, make_accelerator
from audiogen.training.run_folder import RunFolder
from audiogen.training.sharded import alike, average, fill, gathered, part, reshard, whole
from audiogen.training.task import Objective, Task, TrainerConfig, to_device


class StepReport(NamedTuple):
    """One optimiser update, for the log and the progress bar."""

    global_step: int
    metrics: dict[str, float]
    seconds_left: float


class Trainer:
    """`for report in trainer.steps(): ...` trains `task` in the folder `run`, resuming what it finds there."""

    def __init__(self, task: Task, run: str | Path, settings: Config) -> None:
        """`settings` are the task's, with `trainer`, a `TrainerConfig`, among them.

        Raises AudiogenError when the folder is in use, and when the run there was begun otherwise, naming the changes.
        """
        config: TrainerConfig = settings.trainer  # type: ignore[attr-defined]
        keep_freed_memory()
        if config.threads:
            torch.set_num_threads(config.threads)
        self.config, self.task, self.run = config, task, Path(run)
        self.accelerator = make_accelerator(config, run)
        self._processes = self.accelerator.num_processes
        if self._processes > task.samples:
            raise AudiogenError(f"{self._processes} processes for {task.samples} excerpts: start fewer processes")
        self._share = Share(config.batch_size, self._processes, config.accumulation)
        self._fitting: int | None = None
        self._folder = RunFolder(self.run, self.accelerator.is_main_process)
        self._folder.lock()
        self._prepare()
        self.ema = {name: value.detach().clone() for name, value in task.module.state_dict().items()}
        self.global_step = self.skipped = self._in_a_row = 0
        self.best: Best | None = None
        self._leaving: int | None = None
        self._resume(settings)

    def _prepare(self) -> None:
        config, task, accelerator = self.config, self.task, self.accelerator
        validates = accelerator.is_fsdp2 and accelerator.is_main_process
        self._mirror = copy.deepcopy(task.module) if validates else None
        if config.checkpoint_activations:
            if not task.blocks:
                raise AudiogenError("trainer.checkpoint_activations: this model has no blocks to compute again")
            for block in task.blocks:
                block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)  # type: ignore[method-assign]
        optimiser = MuonAdamW(
            task.module, betas=config.betas, weight_decay=config.weight_decay, not_matrices=task.heads
        )
        self.objective = Objective(task)
        self.module, self.optimiser = accelerator.prepare(self.objective, optimiser)

    # --- resume and save --------------------------------------------------------------------------------------------

    def _resume(self, settings: Config) -> None:
        data = self.task.fingerprint()
        self._told = {"config": settings.model_dump(mode="json"), "data": data, "version": __version__}
        found = [newest_checkpoint(self._folder.checkpoints) if self.accelerator.is_main_process else None]
        if self._processes > 1:
            broadcast_object_list(found)
        newest = found[0]
        if newest is None:
            self._folder.begin(self._told)
        else:
            parts, state = load_checkpoint(newest)
            if state["format"] != FORMAT:
                raise AudiogenError(
                    f"{newest}: written by audiogen {state.get('version', '')}, whose runs cannot be resumed by this "
                    f"version; export its weights with recipes/export_model.py and begin in another folder"
                )
            self._folder.check_unchanged(state, settings, data)
            fill(self.task.module, parts["model"])
            self.ema = {name: alike(parts["ema"][name], value) for name, value in self.ema.items()}
            restore_state(self.optimiser.optimizer, parts["optimiser"])
            self.global_step, self.skipped, self._in_a_row = (
                int(state[name]) for name in ("global_step", "skipped", "skipped_in_a_row")
            )
            self.best = Best(**state["best"]) if state["best"] else None
            if state["micro_batch"]:
                self._fitting = state["micro_batch"]
                self._share = self._share.at_most(state["micro_batch"])
        self._folder.forget_metrics_after(self.global_step)
        if self.config.trackers:
            self.accelerator.init_trackers(self.run.name, flat(self._told))

    def save(self) -> None:
        """Write a checkpoint of this moment; all processes take part, the main one writes."""
        main = self.accelerator.is_main_process
        parts = {
            "model": gathered(self.task.module.state_dict(), main),
            "ema": gathered(self.ema, main),
            "optimiser": gathered(state_tensors(self.optimiser.optimizer), main),
        }
        if main:
            state = self._told | {
                "skipped": self.skipped, "skipped_in_a_row": self._in_a_row, "micro_batch": self._fitting,
            }  # fmt: skip
            keep = self.config.keep_checkpoints
            save_checkpoint(self._folder.checkpoints, self.global_step, parts, state, keep, self.best)
        self.accelerator.wait_for_everyone()

    # --- the loop ---------------------------------------------------------------------------------------------------

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then a cosine to `lr_end` at `max_steps` (Loshchilov and Hutter 2017, eq. 5)."""
        config = self.config
        if step < config.warmup_steps:
            return config.lr * (step + 1) / config.warmup_steps
        share = (step - config.warmup_steps) / max(1, config.max_steps - config.warmup_steps)
        return config.lr_end + (config.lr - config.lr_end) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))

    def steps(self) -> Iterator[StepReport]:
        """Train to `max_steps`; validates, saves and writes metrics on the way, and once more when interrupted.

        SIGTERM and Ctrl-C save, then raise `Terminated` and KeyboardInterrupt. Raises AudiogenError naming the batch
        when the loss stays bad, and when not even one segment fits into memory.
        """
        if self.global_step >= self.config.max_steps:
            self._folder.unlock()
            return
        self._folder.lock()
        began, first, saved = time.monotonic(), self.global_step, time.monotonic()
        with ThreadPoolExecutor(1) as loader, Interruption(self._processes == 1) as self._signals:
            cost = self._measure()
            pending = self._load(loader, self.global_step)
            try:
                self._try_memory()
                while self.global_step < self.config.max_steps:
                    started = time.monotonic()
                    batches = [item.result() for item in pending]
                    waited = time.monotonic() - started
                    pending = self._load(loader, self.global_step + 1)
                    due = time.monotonic() - saved > self.config.checkpoint_every_seconds
                    share = self._share
                    with self._signals.held():
                        metrics, due = self._update(batches, due)
                        self.global_step += 1
                    if self._share != share:
                        pending = self._load(loader, self.global_step)
                    took = time.monotonic() - started
                    metrics |= self._pace(cost, took, waited)
                    done = self.global_step == self.config.max_steps
                    if done or self.global_step % self.config.validate_every == 0:
                        found = self._validate()
                        metrics |= found
                        due |= self._is_best(found.get("validation_loss"))
                    each = (time.monotonic() - began) / (self.global_step - first)
                    self._log(metrics | {"seconds_a_step": each})
                    if self._leaving:
                        self._signals.leave(self._leaving)
                    if done or due:
                        self.save()
                        saved = time.monotonic()
                    left = each * (self.config.max_steps - self.global_step)
                    with self._signals.held():
                        yield StepReport(self.global_step, metrics, left)
            except (KeyboardInterrupt, Terminated, GeneratorExit):
                self.save()
                raise
            finally:
                for item in pending:
                    item.cancel()
                for tracker in self.accelerator.trackers:
                    tracker.finish()
                self._folder.unlock()

    def _load(self, loader: ThreadPoolExecutor, step: int) -> list[Future[Any]]:
        share, process = self._share, self.accelerator.process_index
        turns = range(share.accumulation)
        return [loader.submit(self.task.batch, share.positions(step, turn, process)) for turn in turns]

    def _update(self, batches: list[Any], due: bool) -> tuple[dict[str, float], bool]:
        """One update, in smaller micro-batches where memory does not suffice → metrics, whether to save."""
        while True:
            held = buffers(self.task.module)
            try:
                sums = self._gradients(batches)
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if self._processes > 1:
                    raise AudiogenError(
                        f"step {self.global_step}: out of memory; raise trainer.accumulation, which is "
                        f"{self._share.accumulation}, and resume"
                    ) from error
            self._halve()
            put_back(held)
            turns, process = range(self._share.accumulation), self.accelerator.process_index
            batches = [self.task.batch(self._share.positions(self.global_step, turn, process)) for turn in turns]
        main = self.accelerator.is_main_process
        flags = [self._signals.asked == signal.SIGTERM, self._signals.asked == signal.SIGINT, due and main]
        told = torch.stack([*sums.values(), *sums["loss"].new_tensor(flags)])
        *values, terminate, interrupt, due = self.accelerator.reduce(told, "sum").tolist()
        metrics = dict(zip(sums, values, strict=True))
        if self._processes > 1:
            self._leaving = signal.SIGTERM if terminate else signal.SIGINT if interrupt else None
        norm = float(whole(self.accelerator.clip_grad_norm_(self.module.parameters(), self.config.clip_norm)))
        rate = self.learning_rate(self.global_step)
        if math.isfinite(metrics["loss"]) and math.isfinite(norm):
            for group in self.optimiser.param_groups:
                group["lr"] = rate * (self.config.matrix_pace if group["matrices"] else 1.0)
            self.optimiser.step()
            decay = min(self.config.ema_decay, (1 + self.global_step) / (10 + self.global_step))
            average(self.ema, self.task.module.state_dict(), decay)
            self._in_a_row = 0
        else:
            put_back(held)
            self._skip(metrics["loss"], norm)
        self.optimiser.zero_grad(set_to_none=True)
        metrics |= {"lr": rate, "grad_norm": norm} | ({"skipped": float(self.skipped)} if self.skipped else {})
        return metrics, bool(due)

    def _gradients(self, batches: list[Any], exchange: bool = True) -> dict[str, Tensor]:
        """Gradients of this process's micro-batches → what it adds to the metrics of the whole batch."""
        step = self.global_step
        set_seed(self.config.seed * 1_000_003 + step * 64 + self.accelerator.process_index)
        self.module.train()
        weights = [self.task.weight(batch) for batch in batches]
        own = torch.tensor(float(sum(weights)), device=self.accelerator.device)
        everything = float(self.accelerator.reduce(own, "sum") if exchange else own) or 1.0
        sums: dict[str, Tensor] = {}
        for index, (batch, weight) in enumerate(zip(batches, weights, strict=True)):
            synced = exchange and index + 1 == len(batches)
            with nullcontext() if synced else self.accelerator.no_sync(self.module):
                with self.accelerator.autocast():
                    loss, metrics = self.module(to_device(batch, self.accelerator.device), step)
                self.accelerator.backward(loss * (weight * self._processes / everything))
            for name, value in {"loss": loss, **metrics}.items():
                share = part(value).detach().float() * (weight / everything)
                sums[name] = sums[name] + share if name in sums else share
        return sums

    # --- what may go wrong ------------------------------------------------------------------------------------------

    def _skip(self, loss: float, norm: float) -> None:
        self.skipped += 1
        self._in_a_row += 1
        step, most = self.global_step, self.config.most_bad_losses
        what = f"step {step}: the loss is {loss}, the gradient's norm {norm}"
        if self._in_a_row > most:
            positions = self._share.of_step(step)
            raise AudiogenError(
                f"{what}, {self._in_a_row} times in a row. The batch: positions {positions.start} to "
                f"{positions.stop - 1}, {', '.join(self.task.names(positions))}. Look at these, begin again with a "
                f"lower trainer.lr, or go on past them with trainer.most_bad_losses={4 * most + 4}"
            )
        self._say(f"{what}; the update is skipped, {self.skipped} so far")

    def _try_memory(self) -> None:
        """Of several processes none may stop in the middle of an update, so the first is tried without the others."""
        full = self._processes > 1
        while full:
            held, process = buffers(self.task.module), self.accelerator.process_index
            short = False
            try:
                batch = self.task.batch(self._share.positions(self.global_step, 0, process))
                self._gradients([batch], exchange=self.accelerator.is_fsdp2)  # which exchanges weights in any case
            except (RuntimeError, MemoryError) as error:
                short = is_out_of_memory(error)
                if not short:
                    raise
            self.optimiser.zero_grad(set_to_none=True)
            put_back(held)
            flag = torch.tensor(float(short), device=self.accelerator.device)
            full = bool(self.accelerator.reduce(flag, "sum") > 0)
            if full:
                self._halve()

    def _halve(self) -> None:
        before, smaller = self._share.micro_batch, self._share.smaller()
        if smaller is None:
            raise AudiogenError(
                "not even one segment at once fits into memory: set trainer.checkpoint_activations=true, or take a "
                "smaller segment_frames or model"
            )
        self._share, self._fitting = smaller, smaller.micro_batch
        self.optimiser.zero_grad(set_to_none=True)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self._say(
            f"step {self.global_step}: out of memory with micro-batches of {before}; from here on {self._fitting}, "
            f"accumulation {smaller.accumulation}"
        )

    def _say(self, text: str) -> None:
        if self.accelerator.is_main_process:
            print(text, file=sys.stderr, flush=True)

    # --- what is told -----------------------------------------------------------------------------------------------

    def _measure(self) -> Cost:
        """Cost of one excerpt's forward pass; says what memory the run needs."""
        held, first = buffers(self.task.module), self.global_step * self.config.batch_size
        self.module.train()
        batch = to_device(self.task.batch(range(first, first + 1)), self.accelerator.device)
        with self.accelerator.autocast():
            cost = measure(lambda: self.objective(batch, self.global_step), self.task.module)
        put_back(held)
        reshard(self.module)
        memory = standing(self.optimiser.param_groups, self.ema)
        self.memory: Memory = memory._replace(activations=cost.kept_bytes * self._share.micro_batch)
        self._say(str(self.memory))
        return cost

    def _pace(self, cost: Cost, took: float, waited: float) -> dict[str, float]:
        """Frames a second, share of the time spent waiting for data and of the machine's measured matrix peak."""
        dtype = torch.bfloat16 if self.config.mixed_precision == "bf16" else torch.float32
        peak = matrix_peak(self.accelerator.device, dtype) * self._processes
        done = 3 * cost.operations * self.config.batch_size / took  # backward takes twice what forward does
        pace = self.config.batch_size * self.task.frames / took
        return {
            "frames_a_second": pace, "data_share": waited / took, "peak_share": done / peak,
            "operations_a_second": done, "memory_bytes": most_memory(self.accelerator.device),
        }  # fmt: skip

    def _is_best(self, loss: float | None) -> bool:
        """Whether this validation is the best so far, as the main process has it."""
        better = loss is not None and math.isfinite(loss) and (self.best is None or loss < self.best.loss)
        if better and loss is not None:
            self.best = Best(self.global_step, loss)
        flag = torch.tensor(float(better), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, "sum") > 0)

    def _validate(self) -> dict[str, float]:
        """Validate and write samples with the averaged weights, on the main process; a spread module in a copy."""
        main, plain = self.accelerator.is_main_process, self.task.module
        averaged = gathered(self.ema, main) if self.accelerator.is_fsdp2 else self.ema
        metrics: dict[str, float] = {}
        if main and self._mirror is not None:
            self._mirror.load_state_dict(averaged)
            metrics = self._validated(self._mirror.to(self.accelerator.device))
            self._mirror.cpu()
        elif main:
            trained = {name: value.clone() for name, value in plain.state_dict().items()}
            try:
                plain.load_state_dict(averaged)
                metrics = self._validated(plain)
            finally:
                with self._signals.held():
                    plain.load_state_dict(trained)
        self.accelerator.wait_for_everyone()
        return metrics

    @torch.no_grad()
    def _validated(self, module: nn.Module) -> dict[str, float]:
        module.eval()
        found = {f"validation_{name}": value for name, value in self.task.validate(module).items()}
        self.task.write_samples(module, self.run / "samples" / f"{self.global_step:08d}")
        return found

    def _log(self, metrics: dict[str, float]) -> None:
        finite = {name: round(value, 6) for name, value in metrics.items() if math.isfinite(value)}
        self._folder.log({"global_step": self.global_step, **finite})
        if self.config.trackers:
            self.accelerator.log(finite, step=self.global_step)
