"""What a person sees of a training run: progress with time left, learning curves, plain errors."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from audiogen.files import atomic_path
from audiogen.interfaces import AudiogenError
from audiogen.training.interruption import Terminated
from audiogen.training.trainer import Trainer


def show(trainer: Trainer, names: Sequence[str]) -> None:
    """Run `trainer` to the end: a line every ten seconds with the metrics in `names`, curves at each validation."""
    printed = 0.0
    for report in trainer.steps():
        if not trainer.accelerator.is_main_process:
            continue
        validated = {key: value for key, value in report.metrics.items() if key.startswith("validation_")}
        if time.monotonic() - printed > 10 or validated:
            printed = time.monotonic()
            values = {name: report.metrics[name] for name in names if name in report.metrics} | validated
            text = "  ".join(f"{name} {value:.3f}" for name, value in values.items())
            left = time.strftime("%H:%M:%S", time.gmtime(report.seconds_left))
            print(f"{report.global_step}/{trainer.config.max_steps}  {left} left  {text}", flush=True)
        if validated:
            plot(trainer.run)


def plot(run: Path) -> None:
    """Draw `run/metrics.jsonl` as learning curves to `run/metrics.png`: training and validation in one panel a name."""
    from matplotlib.figure import Figure

    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    shown = {key for line in lines for key in line} - {"global_step", "seconds_a_step"}
    names = sorted({name.removeprefix("validation_") for name in shown})
    columns = 3
    rows = -(-len(names) // columns)
    drawing = Figure(figsize=(5 * columns, 2.6 * rows), dpi=80, layout="constrained")
    for axis, name in zip(drawing.subplots(rows, columns, squeeze=False).flat, names, strict=False):
        for key, style in ((name, "-"), (f"validation_{name}", "o-")):
            points = [(line["global_step"], line[key]) for line in lines if key in line]
            if points:
                axis.plot(*zip(*points, strict=True), style, markersize=3, linewidth=0.8, label=key)
        axis.set_title(name, fontsize=9)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
    with atomic_path(run / "metrics.png") as temporary:
        drawing.savefig(temporary)


def run_command(action: Callable[[], None]) -> None:
    """Run a recipe's main: a user's mistake ends in one line and exit code 1, Ctrl-C in 130, SIGTERM in 143."""
    try:
        action()
    except AudiogenError as error:
        sys.exit(f"error: {error}")
    except Terminated:
        print("stopped by SIGTERM; all is saved, the same command goes on", file=sys.stderr, flush=True)
        sys.exit(143)
    except KeyboardInterrupt:
        sys.exit(130)
