"""A three-minute and a sixty-minute clip from the command line, each in a fresh process: time and peak memory.

python benchmarks/clip.py --json runs/clip.json
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from report import AUDIOGEN, Report, two_cores

from audiogen.audio.io import read_header

PROMPT = "calm lo-fi with electric piano, 80 bpm, D minor"


class Run(NamedTuple):
    """One clip: its length, the time of the whole process, and its highest resident memory."""

    seconds: float
    wall_seconds: float
    peak_mib: float

    @property
    def speed(self) -> float:
        return self.seconds / self.wall_seconds


def generate(seconds: int, model: str, folder: str) -> Run:
    """Raises typer.Exit with the command's own message when it fails or when the clip is not to length."""
    path = Path(folder) / f"clip-{seconds}.wav"
    command = [AUDIOGEN, "generate", PROMPT, "--model", model, "--seconds", str(seconds)]
    begin = time.perf_counter()
    process = subprocess.Popen([*command, "--seed", "1", "-o", str(path)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        typer.echo(f"error: {' '.join(command)} ended with {process.returncode}", err=True)
        raise typer.Exit(1)
    header = read_header(path)
    if header.samples != seconds * header.sample_rate or header.channels != 2:
        typer.echo(f"error: {path}: {header} is not {seconds} s of stereo", err=True)
        raise typer.Exit(1)
    unit = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss is in bytes there, in KiB elsewhere
    return Run(seconds, wall, usage.ru_maxrss / unit)


def main(
    model: Annotated[str, typer.Option()] = "mini",
    quick: Annotated[bool, typer.Option("--quick", help="20 s and 60 s, to try the benchmark itself")] = False,
    json: Annotated[Path | None, typer.Option(help="save the table")] = None,
) -> None:
    """Print the table of clip time and memory."""
    two_cores()
    with tempfile.TemporaryDirectory() as folder:
        short, long = (generate(seconds, model, folder) for seconds in ((20, 60) if quick else (180, 3600)))
    report = Report("audiogen generate, 48 kHz stereo, 2 cores, CPU only, a fresh process each")
    limit = {} if quick else {"at_most": 20.0}
    report.add(f"{short.seconds:g} s clip: command to finished file, s", short.wall_seconds, **limit, form="{:.1f}")
    report.add(f"{long.seconds:g} s clip: command to finished file, s", long.wall_seconds, form="{:.1f}")
    for run in (short, long):
        report.add(
            f"{run.seconds:g} s clip: peak memory, MiB", run.peak_mib, f"{run.speed:.1f} × real time",
            at_most=1e9 / 2**20, form="{:.0f}",
        )  # fmt: skip
    growth = 100 * (long.peak_mib / short.peak_mib - 1)
    report.add("growth of peak memory, %", growth, "law 4: none", at_most=2.0, form="{:.1f}")
    report.finish(json)


if __name__ == "__main__":
    typer.run(main)
