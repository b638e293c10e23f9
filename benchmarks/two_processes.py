"""The same training on one process and on two over gloo, by DDP and by FSDP2: how far apart are the loss curves?

python benchmarks/two_processes.py --json runs/two_processes.json
"""

from __future__ import annotations

import json as json_module
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from report import Report, two_cores
from small_run import catalogue, finish, settings, start, train

from audiogen.interfaces import AudiogenError

FSDP2 = {
    "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true", "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
}  # fmt: skip
WAYS: dict[str, tuple[int, int, dict[str, str]]] = {
    "one process": (1, 1, {}),
    "one, in two turns": (1, 2, {}),  # how far rounding alone leads
    "two, DDP": (2, 1, {}),
    "two, FSDP2": (2, 1, FSDP2),
}
"""processes, accumulation, environment"""


def curve(folder: Path, way: str, steps: int, precision: str) -> tuple[list[float], float]:
    """Train in `folder/WAY`; → losses of every step, seconds."""
    processes, turns, environment = WAYS[way]
    config = settings(
        folder, max_steps=steps, mixed_precision=precision, accumulation=turns, checkpoint_every_seconds=1e6,
        validate_every=steps,
    )  # fmt: skip
    run, began = folder / f"{way}, {precision}", time.monotonic()
    codes = finish(start(processes, train, config, run, **environment))
    if codes != [0] * processes:
        raise AudiogenError(f"{run.name}: the processes ended with {codes}")
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json_module.loads(line)["loss"] for line in lines], time.monotonic() - began


def apart(one: list[float], other: list[float]) -> float:
    """The largest distance between two curves of equal length."""
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def main(
    steps: Annotated[int, typer.Option(min=2)] = 100,
    json: Annotated[Path | None, typer.Option(help="save the table")] = None,
) -> None:
    """Print the table."""
    two_cores()
    report = Report(f"loss curves of {steps} updates, nats, against one process with the same global batch")
    with tempfile.TemporaryDirectory() as name:
        catalogue(Path(name))
        for precision, limit in (("no", 1e-4), ("bf16", None)):
            whole, alone = curve(Path(name), "one process", steps, precision)
            told = {"no": "float32", "bf16": "bf16"}[precision]
            report.add(f"loss at the end, {told}", whole[-1], f"at the beginning {whole[0]:.3f}", form="{:.4f}")
            for way in list(WAYS)[1:]:
                losses, took = curve(Path(name), way, steps, precision)
                seconds = f"{took:.0f} s, one process {alone:.0f} s"
                report.add(f"{way}, {told}", apart(whole, losses), seconds, at_most=limit, form="{:.1e}")
    report.finish(json)


if __name__ == "__main__":
    typer.run(main)
