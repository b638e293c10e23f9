"""How long the starter catalogue takes: a part of it is made in a temporary folder and scaled to ten hours.

python benchmarks/catalogue_speed.py --json runs/catalogue_speed.json
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from report import ROOT, Report, two_cores

from audiogen.data.manifest import read_manifest


def main(
    hours: Annotated[float, typer.Option(min=0.05, help="how much music to make")] = 0.5,
    json: Annotated[Path | None, typer.Option(help="save the table")] = None,
) -> None:
    """Print the table of the catalogue's speed."""
    two_cores()
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            str(ROOT / "recipes/starter_catalogue/make.py"),
            "--hours",
            str(hours),
            "--jobs",
            "2",
        ]
        begin = time.perf_counter()
        if subprocess.run([*command, "-o", folder], stdout=subprocess.DEVNULL).returncode:
            raise typer.Exit(1)  # the recipe has said why
        took = time.perf_counter() - begin
        tracks = read_manifest(Path(folder) / "manifest.jsonl")
    made_hours = sum(track.seconds for track in tracks) / 3600
    report = Report(f"The starter catalogue: {len(tracks)} pieces, {made_hours:.2f} h, in {took:.0f} s on 2 cores")
    speed = f"{made_hours * 3600 / took:.0f} × real time"
    report.add("ten hours, minutes", took / made_hours * 10 / 60, speed, at_most=8.0)
    report.finish(json)


if __name__ == "__main__":
    typer.run(main)
