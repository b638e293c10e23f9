"""Law 5 on a toy that has all that makes resuming hard: dropout, a buffer that every forward changes, momentum."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from laws import resumed_is_uninterrupted, same_training
from torch import Tensor, nn

from audiogen.config import Config
from audiogen.interfaces import AudiogenError
from audiogen.training.checkpoint import Best, best_checkpoint, load_checkpoint, newest_checkpoint, save_checkpoint
from audiogen.training.interruption import Terminated
from audiogen.training.task import TrainerConfig
from audiogen.training.trainer import Trainer


@pytest.fixture(autouse=True)
def _interruptible() -> Iterator[None]:
    """A process started in the background ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Module(nn.Module):
    seen: Tensor

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 1))
        self.register_buffer("seen", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen.lerp_(x.mean(0), 0.1)
        return self.layers(x + self.seen)


class Toy:
    """Learns the sum of four numbers. `hooks` are called with the step, inside the loss, after forward."""

    heads = ("layers.3",)
    samples, frames = 1000, 1

    def __init__(self, dropout: float = 0.3) -> None:
        torch.manual_seed(0)
        self.module: nn.Module = Module(dropout)
        self.blocks = (self.module.layers[0], self.module.layers[3])  # type: ignore[index, union-attr]
        self.asked: list[int] = []
        self.hooks: list[Any] = []
        self.validating: list[Any] = []

    def batch(self, positions: range) -> Tensor:
        self.asked += positions
        return torch.from_numpy(np.stack([np.random.default_rng(p).normal(size=4) for p in positions])).float()

    def weight(self, batch: Tensor) -> float:
        return float(len(batch))

    def names(self, positions: range) -> list[str]:
        return [f"{position}.wav" for position in positions]

    def loss(self, module: nn.Module, batch: Tensor, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        loss = (module(batch)[:, 0] - batch.sum(1)).square().mean()
        for hook in self.hooks:
            loss = hook(loss, step)
        return loss, {"largest": batch.abs().max()}

    def validate(self, module: nn.Module) -> dict[str, float]:
        assert not module.training
        for hook in self.validating:
            hook(module)
        return {"loss": 1.0}

    def write_samples(self, module: nn.Module, folder: Path) -> None: ...

    def fingerprint(self) -> dict[str, str]:
        return {"manifest": "abc"}


def settings(**changes: Any) -> TrainerConfig:
    values: dict[str, Any] = {
        "max_steps": 6, "batch_size": 4, "lr": 1e-2, "warmup_steps": 2, "mixed_precision": "no", "threads": 1,
        "checkpoint_every_seconds": 0.0, "validate_every": 2,
    }  # fmt: skip
    return TrainerConfig.model_validate(values | changes)


class ToyConfig(Config):
    trainer: TrainerConfig


def trainer(run: Path, task: Toy | None = None, **changes: Any) -> Trainer:
    return Trainer(task or Toy(), run, ToyConfig(trainer=settings(**changes)))


def weights(made: Trainer) -> Tensor:
    return torch.cat([value.detach().flatten() for value in made.task.module.parameters()])


# --- resume -----------------------------------------------------------------------------------------------------------


def test_killed_and_resumed_is_uninterrupted(tmp_path: Path) -> None:
    resumed_is_uninterrupted(trainer, tmp_path, kill_after=4)


def test_ctrl_c_in_the_middle_of_an_update_saves_a_whole_one(tmp_path: Path) -> None:
    for _ in trainer(tmp_path / "through").steps():
        pass
    task = Toy()

    def interrupt(loss: Tensor, step: int) -> Tensor:
        if step == 3:
            signal.raise_signal(signal.SIGINT)
        return loss

    task.hooks.append(interrupt)
    stopped = trainer(tmp_path / "stopped", task, checkpoint_every_seconds=1e6)
    with pytest.raises(KeyboardInterrupt):
        for _ in stopped.steps():
            pass
    assert newest_checkpoint(tmp_path / "stopped" / "checkpoints") == tmp_path / "stopped" / "checkpoints" / "00000004"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler  # put back
    resumed = trainer(tmp_path / "stopped", checkpoint_every_seconds=1e6)
    assert [report.global_step for report in resumed.steps()] == [5, 6]
    same_training(tmp_path / "through", tmp_path / "stopped")


def test_ctrl_c_while_validating_saves_the_trained_weights_not_the_averaged(tmp_path: Path) -> None:
    for _ in trainer(tmp_path / "through").steps():
        pass
    task = Toy()
    task.validating.append(lambda module: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        for _ in trainer(tmp_path / "stopped", task).steps():
            pass
    for _ in trainer(tmp_path / "stopped").steps():
        pass
    same_training(tmp_path / "through", tmp_path / "stopped")


def test_leaving_the_loop_saves(tmp_path: Path) -> None:
    steps = trainer(tmp_path, checkpoint_every_seconds=1e6).steps()
    next(steps)
    next(steps)
    steps.close()
    assert trainer(tmp_path, checkpoint_every_seconds=1e6).global_step == 2


def test_a_finished_run_has_nothing_left_to_do(tmp_path: Path) -> None:
    assert [report.global_step for report in trainer(tmp_path).steps()] == [1, 2, 3, 4, 5, 6]
    assert list(trainer(tmp_path).steps()) == []


def test_another_configuration_is_refused_and_what_changed_is_named(tmp_path: Path) -> None:
    next(steps := trainer(tmp_path).steps())
    steps.close()
    with pytest.raises(AudiogenError, match=r"another config \(trainer.seed: 1 → 5; trainer.lr: 0.01 → 0.02\)"):
        trainer(tmp_path, lr=2e-2, seed=5)
    other = Toy()
    other.fingerprint = lambda: {"manifest": "xyz"}  # type: ignore[method-assign]
    with pytest.raises(AudiogenError, match=r"another data \(manifest: abc → xyz\)"):
        trainer(tmp_path, other)


def test_metrics_are_a_line_a_step_also_after_a_kill(tmp_path: Path) -> None:
    for report in trainer(tmp_path).steps():
        if report.global_step == 3:
            break
    path = tmp_path / "metrics.jsonl"
    with open(path, "a", encoding="utf-8") as file:  # a step that was not saved, and one killed while it was written
        file.write('{"global_step": 4, "loss": 1.0}\n{"global_step": 5, "lo')
    for _ in trainer(tmp_path).steps():
        pass
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line["global_step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert {
        "loss",
        "largest",
        "lr",
        "grad_norm",
        "seconds_a_step",
        "frames_a_second",
        "data_share",
        "peak_share",
        "operations_a_second",
        "memory_bytes",
    } <= lines[0].keys()
    assert [line["global_step"] for line in lines if "validation_loss" in line] == [2, 4, 6]


def test_a_field_that_appeared_since_is_no_change(tmp_path: Path) -> None:
    next(steps := trainer(tmp_path).steps())
    steps.close()
    path = newest_checkpoint(tmp_path / "checkpoints")
    assert path is not None
    parts, state = load_checkpoint(path)
    del state["config"]["trainer"]["ema_decay"]
    save_checkpoint(tmp_path / "checkpoints", 1, parts, state)
    assert trainer(tmp_path).global_step == 1
    with pytest.raises(AudiogenError, match=r"\(trainer.ema_decay: 0.999 → 0.9\)"):
        trainer(tmp_path, ema_decay=0.9)


def test_how_a_run_is_looked_after_may_change(tmp_path: Path) -> None:
    next(steps := trainer(tmp_path).steps())
    steps.close()
    assert trainer(tmp_path, keep_checkpoints=5, validate_every=3, accumulation=2, most_bad_losses=1).global_step == 1


def test_a_torn_checkpoint_is_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in trainer(tmp_path / "through").steps():
        pass
    for report in trainer(tmp_path / "torn").steps():
        if report.global_step == 5:
            break
    with open(tmp_path / "torn" / "checkpoints" / "00000005" / "optimiser.safetensors", "r+b") as file:
        file.truncate(100)
    resumed = trainer(tmp_path / "torn")
    assert resumed.global_step == 4 and "00000005: passed over" in capsys.readouterr().err
    for _ in resumed.steps():
        pass
    same_training(tmp_path / "through", tmp_path / "torn")


def test_a_run_of_an_older_version_is_refused(tmp_path: Path) -> None:
    next(steps := trainer(tmp_path).steps())
    steps.close()
    path = tmp_path / "checkpoints" / "00000001"
    (path / "hashes.json").unlink()
    (path / "state.json").write_text(json.dumps({"format": 1, "version": "0.4.0"}))
    with pytest.raises(AudiogenError, match=r"00000001: written by audiogen 0.4.0, whose runs cannot be resumed"):
        trainer(tmp_path)


def test_a_second_run_on_one_folder_is_refused(tmp_path: Path) -> None:
    first = trainer(tmp_path)
    steps = first.steps()
    next(steps)
    with pytest.raises(AudiogenError, match="trains in this folder"):
        trainer(tmp_path)
    assert [report.global_step for report in steps] == [2, 3, 4, 5, 6]
    assert trainer(tmp_path).global_step == 6


def test_sigterm_saves_a_whole_update_and_leaves(tmp_path: Path) -> None:
    for _ in trainer(tmp_path / "through").steps():
        pass

    def raise_it(*_: Any) -> None:
        signal.raise_signal(signal.SIGTERM)

    for moment in ("update", "validation", "between"):
        run, task = tmp_path / moment, Toy()
        if moment == "update":
            task.hooks.append(lambda loss, step: (raise_it() if step == 3 else None, loss)[1])
        elif moment == "validation":
            task.validating.append(raise_it)
        with pytest.raises(Terminated):
            for report in trainer(run, task, checkpoint_every_seconds=1e6).steps():
                if moment == "between" and report.global_step == 3:
                    raise_it()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        resumed = trainer(run, checkpoint_every_seconds=1e6)
        assert resumed.global_step == {"update": 4, "validation": 2, "between": 3}[moment]
        for _ in resumed.steps():
            pass
        same_training(tmp_path / "through", run)


def test_the_best_is_kept(tmp_path: Path) -> None:
    task, losses = Toy(), iter([3.0, 1.0, math.nan, 2.0, 2.5])
    task.validate = lambda module: {"loss": next(losses)}  # type: ignore[method-assign]
    made = trainer(tmp_path, task, max_steps=10, keep_checkpoints=1, checkpoint_every_seconds=1e6)
    for _ in made.steps():
        pass
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["00000004", "00000010"]
    assert best_checkpoint(tmp_path / "checkpoints") == tmp_path / "checkpoints" / "00000004"
    assert trainer(tmp_path, max_steps=10).best == made.best == Best(4, 1.0)


# --- memory -----------------------------------------------------------------------------------------------------------


def test_out_of_memory_halves_the_micro_batch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def make(run: Path, **changes: Any) -> Trainer:
        task = Toy(dropout=0.0)

        def full(loss: Tensor, step: int) -> Tensor:
            if step >= 2 and task.module.layers[0].held > 2:  # type: ignore[index, union-attr, operator]
                torch.empty(2**50)
            return loss

        def remember(module: nn.Module, inputs: tuple[Tensor]) -> None:
            module.held = len(inputs[0])  # type: ignore[assignment]

        task.module.layers[0].register_forward_pre_hook(remember)  # type: ignore[index, union-attr]
        task.hooks.append(full)
        return trainer(run, task, batch_size=8, **changes)

    made = make(tmp_path / "a")
    assert [report.global_step for report in made.steps()] == [1, 2, 3, 4, 5, 6]
    said = capsys.readouterr().err
    assert "step 2: out of memory with micro-batches of 8; from here on 4, accumulation 2\n" in said
    assert "step 2: out of memory with micro-batches of 4; from here on 2, accumulation 4\n" in said
    assert said.startswith("memory of one process, about ") and made.memory.activations > 0
    assert sorted(set(made.task.asked)) == list(range(7 * 8))  # type: ignore[attr-defined]
    for report in make(tmp_path / "b").steps():
        if report.global_step == 4:
            break
    capsys.readouterr()
    for _ in make(tmp_path / "b").steps():
        pass
    assert "out of memory" not in capsys.readouterr().err  # what was found is remembered
    same_training(tmp_path / "a", tmp_path / "b")


def test_what_cannot_fit_is_said(tmp_path: Path) -> None:
    task = Toy()
    task.hooks.append(lambda loss, step: torch.empty(2**50) if step == 1 else loss)
    with pytest.raises(AudiogenError, match=r"not even one segment.*checkpoint_activations"):
        for _ in trainer(tmp_path, task).steps():
            pass
    assert trainer(tmp_path).global_step == 1


def test_activations_computed_again_are_the_same_training(tmp_path: Path) -> None:
    runs = [tmp_path / "kept", tmp_path / "again"]
    for run, again in zip(runs, (False, True), strict=True):
        for _ in trainer(run, checkpoint_activations=again).steps():
            pass
    same_training(*runs)
    task = Toy()
    task.blocks = ()  # type: ignore[assignment]
    with pytest.raises(AudiogenError, match="this model has no blocks"):
        trainer(tmp_path / "none", task, checkpoint_activations=True)


def test_more_processes_than_excerpts_are_refused(tmp_path: Path) -> None:
    task = Toy()
    task.samples = 0
    with pytest.raises(AudiogenError, match="1 processes for 0 excerpts"):
        trainer(tmp_path, task)


# --- the update -------------------------------------------------------------------------------------------------------


def test_accumulation_is_one_large_batch(tmp_path: Path) -> None:
    trained = []
    for accumulation in (1, 2, 4):
        task = Toy(dropout=0.0)
        task.module.forward = lambda x, module=task.module: module.layers(x)  # type: ignore[method-assign, misc]
        made = trainer(tmp_path / str(accumulation), task, accumulation=accumulation)
        losses = [report.metrics["loss"] for report in made.steps()]
        trained.append((weights(made), torch.tensor(losses)))
        assert set(range(24)) <= set(task.asked)
    for other in trained[1:]:
        torch.testing.assert_close(other[0], trained[0][0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(other[1], trained[0][1], atol=1e-5, rtol=1e-4)


def test_a_batch_that_cannot_be_shared_out_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AudiogenError, match="batch_size 4 must be a multiple of processes × accumulation = 3"):
        trainer(tmp_path, accumulation=3)


def test_averaged_weights_follow(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    before = made.ema["layers.0.weight"].clone()
    steps = made.steps()
    next(steps)
    now = made.task.module.state_dict()["layers.0.weight"]
    torch.testing.assert_close(made.ema["layers.0.weight"], 0.1 * before + 0.9 * now)  # (1 + 0) / (10 + 0) stays
    steps.close()


def test_validation_sees_the_averaged_weights_and_training_goes_on_from_its_own(tmp_path: Path) -> None:
    task, seen = Toy(), []
    task.validating.append(lambda module: seen.append(module.state_dict()["layers.0.weight"].clone()))
    made = trainer(tmp_path, task)
    for report in made.steps():
        if report.global_step == 2:
            assert torch.equal(seen[0], made.ema["layers.0.weight"])
            assert not torch.equal(seen[0], task.module.state_dict()["layers.0.weight"])
            break


@pytest.mark.parametrize("spoil", [lambda loss: loss * math.nan, lambda loss: loss * 1e38 * 1e38])
def test_a_bad_loss_is_skipped_and_spoils_nothing(
    spoil: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = Toy()
    task.hooks.append(lambda loss, step: spoil(loss) if step in (1, 3) else loss)
    made = trainer(tmp_path, task)
    for report in made.steps():
        if report.global_step == 1:
            before = [weights(made), made.ema["seen"].clone(), task.module.seen.clone()]  # type: ignore[operator]
        if report.global_step == 2:
            after = [weights(made), made.ema["seen"], task.module.seen]
            assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))  # type: ignore[arg-type]
    assert made.skipped == 2 and trainer(tmp_path).skipped == 2 and bool(weights(made).isfinite().all())
    assert "step 1: the loss is" in (said := capsys.readouterr().err) and "skipped, 2 so far" in said
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line.get("skipped", 0) for line in lines] == [0, 1, 1, 2, 2, 2]
    assert "loss" not in lines[1] and "loss" in lines[2]


def test_a_loss_that_stays_bad_stops_the_run_and_names_the_batch(tmp_path: Path) -> None:
    def make(most: int) -> Trainer:
        task = Toy()
        task.hooks.append(lambda loss, step: loss * math.nan if step in (2, 3, 4) else loss)
        return trainer(tmp_path, task, most_bad_losses=most)

    for _ in range(2):  # also when it is resumed
        told = r"step 4: the loss is nan.* 3 times in a row.* positions 16 to 19, 16.wav, 17.wav, 18.wav, 19.wav.*"
        with pytest.raises(AudiogenError, match=told + "most_bad_losses=12"):
            for _ in make(2).steps():
                pass
    assert make(12).global_step == 4
    assert [report.global_step for report in make(12).steps()] == [5, 6]


def test_the_error_of_a_batch_reaches_the_caller(tmp_path: Path) -> None:
    task = Toy()

    def broken(positions: range) -> Tensor:
        raise AudiogenError("a.wav: truncated")

    task.batch = broken  # type: ignore[method-assign]
    with pytest.raises(AudiogenError, match=r"a.wav: truncated"):
        next(trainer(tmp_path, task).steps())


def test_learning_rate(tmp_path: Path) -> None:
    made = trainer(tmp_path, max_steps=110, warmup_steps=10, lr=1.0, lr_end=0.1)
    rates = [made.learning_rate(step) for step in range(111)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == rates[10] == 1.0
    assert rates[60] == pytest.approx(0.55) and rates[110] == pytest.approx(0.1)
    assert all(a < b for a, b in pairwise(rates[:10]))
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert trainer(tmp_path / "other", warmup_steps=0).learning_rate(0) == 1e-2


@pytest.mark.parametrize("changes", [{"max_steps": 0}, {"lr": 0.0}, {"batch_size": -1}, {"accumulation": 0}])
def test_settings_out_of_range_are_named(changes: dict[str, Any]) -> None:
    values = {"max_steps": 6, "batch_size": 4, "lr": 1e-2} | changes
    with pytest.raises(AudiogenError, match=next(iter(changes))):
        TrainerConfig.build(values, "train.toml")
