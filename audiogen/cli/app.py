"""The command line's groups; and what several commands share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from audiogen.interfaces import AudiogenError

if TYPE_CHECKING:
    from audiogen.generation.render import Progress

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)
data = typer.Typer(no_args_is_help=True, help="Manifests: check one, sum one up.")
codec = typer.Typer(no_args_is_help=True, help="Audio to codes and back.")
train = typer.Typer(no_args_is_help=True, help="Trainings: their learning curves.")
app.add_typer(data, name="data")
app.add_typer(codec, name="codec")
app.add_typer(train, name="train")
app.info.help = """Music from a style prompt.

Example: audiogen generate "slow dub techno, 118 bpm, D minor" --seconds 180 -o cue.wav
"""


def check_output(path: Path) -> None:
    """Raises AudiogenError unless `path` is a new WAV file in a folder that can be written to."""
    import os

    if path.suffix.lower() != ".wav":
        raise AudiogenError(f"{path}: clips are WAV files; give a name that ends in .wav")
    if not path.parent.is_dir():
        raise AudiogenError(f"{path}: the folder {path.parent} does not exist; create it first")
    if not os.access(path.parent, os.W_OK):
        raise AudiogenError(f"{path}: the folder {path.parent} is not writable")
    if path.exists():
        raise AudiogenError(f"{path}: is there already; remove it or choose another name")


@contextmanager
def progress_bar(label: str) -> Iterator[Progress]:
    """A bar on standard error with time left and the real-time factor."""
    import time

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[speed]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task, began = bar.add_task(label, speed=""), time.monotonic()

        def show(done: float, total: float) -> None:
            speed = f"{done / (time.monotonic() - began):.1f} × real time"
            bar.update(task, completed=done, total=total, speed=speed)

        yield show
