"""Law 5 for real: processes that are killed, and processes that work together over gloo."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True, scope="module")
def _benchmarks() -> Iterator[None]:
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


def test_killed_three_times_the_weights_are_those_of_the_uninterrupted_run(tmp_path: Path) -> None:
    from kill_resume import killed

    worked, _, same = killed(tmp_path, kills=3, steps=12, seed=1)
    assert worked == 3 and same


def test_the_sample_order_is_kept_when_the_number_of_processes_changes(tmp_path: Path) -> None:
    from kill_resume import orders
    from small_run import catalogue

    catalogue(tmp_path)
    assert orders(tmp_path, 6) == [True] * 3


def test_two_processes_learn_as_one_and_a_sharded_run_goes_on_unsharded(tmp_path: Path) -> None:
    from small_run import catalogue, finish, held, settings, start, train
    from two_processes import FSDP2, apart, curve

    catalogue(tmp_path)
    curves = {way: curve(tmp_path, way, 8, "no")[0] for way in ("one process", "two, DDP", "two, FSDP2")}
    for way in ("two, DDP", "two, FSDP2"):
        assert len(curves[way]) == 8 and apart(curves["one process"], curves[way]) < 1e-4, way
    whole, *_ = held(tmp_path / "one process, no")
    assert held(tmp_path / "two, DDP, no") == [whole, whole]
    assert all(0.4 * whole < share < 0.6 * whole for share in held(tmp_path / "two, FSDP2, no"))
    config, run = settings(tmp_path, max_steps=8, validate_every=8), tmp_path / "changing"
    for processes, until, environment in ((2, 3, FSDP2), (1, 5, {}), (2, 8, FSDP2)):
        assert finish(start(processes, train, config, run, until, **environment)) == [0] * processes
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert apart([line["loss"] for line in lines], curves["one process"]) < 1e-4
    assert "validation_loss" in lines[-1]


def test_sigterm_to_one_of_two_saves_and_both_leave(tmp_path: Path) -> None:
    import os
    import signal
    import time

    from small_run import catalogue, finish, settings, start, train

    from audiogen.training.checkpoint import load_checkpoint, newest_checkpoint

    catalogue(tmp_path)
    config, run = (
        settings(tmp_path, max_steps=4000, checkpoint_every_seconds=1e6, validate_every=4000),
        tmp_path / "run",
    )
    processes = start(2, train, config, run)
    while not (run / "metrics.jsonl").exists() and all(process.is_alive() for process in processes):
        time.sleep(0.01)
    os.kill(processes[1].pid or 0, signal.SIGTERM)
    assert all(code != 0 for code in finish(processes, 60))
    newest = newest_checkpoint(run / "checkpoints")
    assert newest is not None
    parts, state = load_checkpoint(newest)
    lines = (run / "metrics.jsonl").read_text().splitlines()
    assert state["global_step"] == len(lines) < 4000
    assert all(torch.isfinite(value).all() for value in parts["model"].values())
