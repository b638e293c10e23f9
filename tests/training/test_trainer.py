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

from audiogen.interfaces import AudiogenError
from audiogen.training.checkpoint import newest_checkpoint
from audiogen.training.trainer import Trainer, TrainerConfig


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

    def __init__(self, dropout: float = 0.3) -> None:
        torch.manual_seed(0)
        self.module: nn.Module = Module(dropout)
        self.asked: list[int] = []
        self.hooks: list[Any] = []
        self.validating: list[Any] = []

    def batch(self, positions: range) -> Tensor:
        self.asked += positions
        return torch.from_numpy(np.stack([np.random.default_rng(p).normal(size=4) for p in positions])).float()

    def loss(self, module: nn.Module, batch: Tensor, step: int) -> tuple[Tensor, dict[str, float | Tensor]]:
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


def trainer(run: Path, task: Toy | None = None, **changes: Any) -> Trainer:
    config = settings(**changes)
    return Trainer(config, task or Toy(), run, {"trainer": config.model_dump(mode="json")})


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
    with pytest.raises(AudiogenError, match=r"another config \(changed: trainer.lr, trainer.seed\)"):
        trainer(tmp_path, lr=2e-2, seed=5)
    other = Toy()
    other.fingerprint = lambda: {"manifest": "xyz"}  # type: ignore[method-assign]
    with pytest.raises(AudiogenError, match=r"another data \(changed: manifest\)"):
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
    assert {"loss", "largest", "lr", "grad_norm", "seconds_a_step"} <= lines[0].keys()
    assert [line["global_step"] for line in lines if "validation_loss" in line] == [2, 4, 6]


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


def test_a_loss_that_is_no_number_stops_the_run_and_spoils_nothing(tmp_path: Path) -> None:
    task = Toy()
    task.hooks.append(lambda loss, step: loss * math.nan if step == 2 else loss)
    with pytest.raises(AudiogenError, match=r"step 2: the loss is nan"):
        for _ in trainer(tmp_path, task).steps():
            pass
    assert trainer(tmp_path).global_step == 2


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
