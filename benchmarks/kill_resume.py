"""Kill a training at random moments and resume it: are the weights those of a run that was never killed?

python benchmarks/kill_resume.py --kills 50 --json runs/kill_resume.json
"""

from __future__ import annotations

import json as json_module
import os
import random
import signal
import tempfile
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from report import Report, two_cores
from small_run import catalogue, finish, settings, start, train

from audiogen.training.checkpoint import load_checkpoint, newest_checkpoint


def killed(folder: Path, kills: int, steps: int, seed: int) -> tuple[int, int, bool]:
    """Train `folder/killed`, killed `kills` times → resumes that worked, checkpoints torn or half-written that were
    met, and whether all its tensors equal those of `folder/through`, bit for bit.

    Every update is saved, so that many kills fall into the writing of a checkpoint.
    """
    catalogue(folder)
    config = settings(folder, max_steps=steps, checkpoint_every_seconds=0.0, validate_every=steps)
    began = time.monotonic()
    assert finish(start(1, train, config, folder / "through")) == [0]
    whole_seconds = time.monotonic() - began
    chance, worked, halves = random.Random(seed), 0, 0
    run = folder / "killed"
    while worked < kills:
        (process,) = start(1, train, config, run)
        before = _done(run)
        while process.is_alive() and _done(run) == before:  # it has resumed, and trains
            time.sleep(0.005)
        # the end may come first where few steps are left: then the run is begun anew
        time.sleep(chance.uniform(0, 2 * whole_seconds / steps))
        if process.is_alive():
            os.kill(process.pid or 0, signal.SIGKILL)
            process.join()
            worked += 1
            halves += bool(list((run / "checkpoints").glob(".*")))
        elif process.exitcode != 0:
            return worked, halves, False
        elif worked < kills:
            _begin_anew(run)
    if finish(start(1, train, config, run)) != [0]:
        return worked, halves, False
    return worked, halves, equal(folder / "through", run)


def orders(folder: Path, steps: int) -> list[bool]:
    """Whether a run on 1, then 2, then 1 processes asks for the positions of each step, and whether it ends."""
    config = settings(folder, max_steps=steps, checkpoint_every_seconds=1e6, validate_every=steps)
    run, found = folder / "changing", []
    for processes, until in ((1, steps // 3), (2, 2 * steps // 3), (1, steps)):
        first = _saved(run)
        codes = finish(start(processes, train, config, run, until))
        asked: set[int] = set()
        for path in run.glob("asked-*.jsonl"):
            for line in path.read_text(encoding="utf-8").splitlines():
                asked |= set(range(*json_module.loads(line)))
            path.unlink()
        size = config.trainer.batch_size
        wanted = set(range(first * size, until * size))
        found.append(codes == [0] * processes and wanted <= asked and max(asked) < (until + 1) * size)
    return found


def equal(one: Path, other: Path) -> bool:
    """Whether the newest checkpoints of two runs hold the same tensors, bit for bit."""
    paths = [newest_checkpoint(run / "checkpoints") for run in (one, other)]
    if None in paths:
        return False
    (first, told), (second, also) = (load_checkpoint(path) for path in paths if path)
    return told["global_step"] == also["global_step"] and all(
        first[part].keys() == second[part].keys()
        and all(torch.equal(value, second[part][name]) for name, value in first[part].items())
        for part in first
    )


def _done(run: Path) -> int:
    path = run / "metrics.jsonl"
    return path.stat().st_size if path.exists() else 0


def _saved(run: Path) -> int:
    newest = newest_checkpoint(run / "checkpoints")
    return int(newest.name) if newest else 0


def _begin_anew(run: Path) -> None:
    import shutil

    shutil.rmtree(run)


def main(
    kills: Annotated[int, typer.Option(min=1)] = 50,
    steps: Annotated[int, typer.Option(min=3, help="updates of the whole run")] = 300,
    seed: Annotated[int, typer.Option(help="of the moments")] = 1,
    json: Annotated[Path | None, typer.Option(help="save the table")] = None,
) -> None:
    """Print the table."""
    two_cores()
    report = Report("kill -9 at random moments")
    with tempfile.TemporaryDirectory() as name:
        worked, halves, same = killed(Path(name), kills, steps, seed)
        report.add("kills after which the run went on", worked, f"of {kills}", at_least=kills, form="{:.0f}")
        report.add("— of them while a checkpoint was written", halves, form="{:.0f}")
        report.add("final tensors equal, bit for bit", float(same), at_least=1, form="{:.0f}")
        kept = orders(Path(name), 30)
        report.add("sample order kept on 1, then 2, then 1 processes", sum(kept), "of 3", at_least=3, form="{:.0f}")
    report.finish(json)


if __name__ == "__main__":
    typer.run(main)
