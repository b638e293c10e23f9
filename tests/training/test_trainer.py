"""Law 5 on a toy that has all that makes resuming hard: dropout, a buffer that every forward changes, momentum."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from laws import resumed_is_uninterrupted, same_training
from torch import Tensor

from audiogen.interfaces import AudiogenError
from audiogen.training.checkpoint import Best, best_checkpoint, load_checkpoint, newest_checkpoint, save_checkpoint
from audiogen.training.interruption import Terminated
from audiogen.training.task import TrainerConfig
from tests.training.toy import Toy, trainer, weights


@pytest.fixture(autouse=True)
def _interruptible() -> Iterator[None]:
    """A process started in the background ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


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
