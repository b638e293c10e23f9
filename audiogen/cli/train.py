"""Commands about trainings. To train is recipes' work: recipes/train_lm.py and its like."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from audiogen.cli.app import train


@train.callback()
def _group() -> None:
    """Keeps `plot` a command of its own name while it is the only one."""


@train.command("plot")
def train_plot(
    runs: Annotated[list[Path], typer.Argument(help="folders of runs")],
    output: Annotated[Path, typer.Option("-o", "--output", help="a .png, .svg or .pdf file")] = Path("learning.png"),
) -> None:
    """Learning curves of several runs together. Example: audiogen train plot runs/lm runs/lstm -o both.png"""
    from audiogen.training.curves import draw

    draw(runs, output)
    print(output, file=sys.stderr)
