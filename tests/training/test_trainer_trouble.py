"""What may go wrong in a step: memory that does not suffice, losses that are not finite."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from laws import same_training
from torch import Tensor, nn

from audiogen.interfaces import AudiogenError
from audiogen.training.trainer import Trainer
from tests.training.toy import Toy, trainer, weights


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
