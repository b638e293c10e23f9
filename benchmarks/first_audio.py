"""Seconds until the first chunk of audio: from a warm generator, and from the start of a process.

python benchmarks/first_audio.py --json runs/first_audio.json
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from report import Report, two_cores

from audiogen import AudiogenError, Generator

PROMPTS = ("calm lo-fi, 80 bpm", "dark techno", "classical piano in F major", "rock, 140 bpm", "jazz trio in Bb")
SECONDS = 60.0
FRESH = (
    "import sys; from audiogen import Generator\n"
    "generator = Generator.from_pretrained(sys.argv[1], threads=2)\n"
    "chunk = next(c for c in generator.stream('calm lo-fi, 80 bpm', seconds=60, seed=1) if c.samples.shape[1])\n"
    "print(chunk.seconds, flush=True); sys.stdin.read()"
)


def first_chunk(generator: Generator, prompt: str, seed: int) -> tuple[float, float]:
    """→ (seconds until the first chunk that holds samples, its length in seconds)."""
    begin = time.perf_counter()
    stream = generator.stream(prompt, seconds=SECONDS, seed=seed)
    chunk = next(chunk for chunk in stream if chunk.samples.shape[1])
    return time.perf_counter() - begin, chunk.seconds


def from_start(model: str) -> float:
    """A new interpreter, imports, loading, planning, and the first chunk."""
    begin = time.perf_counter()
    command = [sys.executable, "-c", FRESH, model]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        took = time.perf_counter() - begin
    if not line:
        typer.echo("error: the fresh process gave no audio", err=True)
        raise typer.Exit(1)
    return took


def main(
    model: Annotated[str, typer.Option()] = "mini",
    json: Annotated[Path | None, typer.Option(help="save the table")] = None,
) -> None:
    """Print the table of first audio."""
    two_cores()
    try:
        generator = Generator.from_pretrained(model, threads=2)
    except AudiogenError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    first_chunk(generator, PROMPTS[0], 0)  # warms
    warm = [first_chunk(generator, prompt, seed) for seed, prompt in enumerate(PROMPTS, 1)]
    report = Report(f"First audio, {len(PROMPTS)} prompts, median; the first chunk lasts {warm[0][1]:g} s")
    spread = [took for took, _ in warm]
    report.add("warm generator, s", median(spread), f"{min(spread):.2f} to {max(spread):.2f}", at_most=0.4)
    report.add("from the start of a process, s", median(from_start(model) for _ in range(3)), at_most=4.0)
    report.finish(json)


if __name__ == "__main__":
    typer.run(main)
