"""What a person sees of a training run: progress with time left, plain errors."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

from audiogen.interfaces import AudiogenError
from audiogen.training.curves import draw
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
            draw([trainer.run], trainer.run / "metrics.png")


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
