"""How long `audiogen --help` takes in a fresh process.

python benchmarks/help_time.py --json runs/help_time.json
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from report import AUDIOGEN, Report


def timed(*command: str) -> float:
    """Seconds that a fresh process takes."""
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def main(
    repeats: Annotated[int, typer.Option(min=1)] = 7,
    json: Annotated[Path | None, typer.Option(help="save the table")] = None,
) -> None:
    """Print the table of the time that help takes."""
    pairs = [(timed(AUDIOGEN, "--help"), timed(sys.executable, "-c", "pass")) for _ in range(repeats)]
    ours, empty = (median(times) for times in zip(*pairs, strict=True))
    report = Report(f"Start of the command, median of {repeats}")
    report.add("audiogen --help, s", ours, f"an empty Python program: {empty:.3f}", at_most=0.5, form="{:.3f}")
    report.finish(json)


if __name__ == "__main__":
    typer.run(main)
