"""Learning curves: the metrics of one run, or of several in the same panels."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from audiogen.files import atomic_path
from audiogen.interfaces import AudiogenError

_FIRST = ("loss", "bits_a_second", "lr", "grad_norm", "frames_a_second", "peak_share", "data_share")
_COLUMNS = 4
_VALIDATION = "validation_"


def draw(runs: Sequence[Path], output: Path) -> None:
    """Draw `metrics.jsonl` of every run to `output` (.png, .svg or .pdf), a panel for each name.

    Training is a line, the mean of neighbouring updates; validation has dots. Raises AudiogenError naming a run
    without metrics.
    """
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    if output.suffix not in (".png", ".svg", ".pdf"):
        raise AudiogenError(f"{output}: give a picture's name that ends in .png, .svg or .pdf")
    read = {_label(run, runs): _read(run) for run in runs}
    names = _names(read.values())
    rows = -(-len(names) // _COLUMNS)
    drawing = Figure(figsize=(4.4 * _COLUMNS, 2.6 * rows), dpi=80, layout="constrained")
    panels = drawing.subplots(rows, _COLUMNS, squeeze=False).flat
    colours = rcParams["axes.prop_cycle"].by_key()["color"]
    for name, axis in zip(names, panels, strict=False):
        for index, (label, lines) in enumerate(read.items()):
            colour = colours[index % len(colours)]
            for key, style in ((name, "-"), (_VALIDATION + name, "o-")):
                points = np.array([(line["global_step"], line[key]) for line in lines if key in line])
                if len(points):
                    steps, values = _smoothed(points) if key == name else points.T
                    own = label if len(read) > 1 else key
                    faint = 0.9 if key == name else 0.6
                    axis.plot(steps, values, style, color=colour, alpha=faint, markersize=3, linewidth=0.9, label=own)
        axis.set_title(name, fontsize=9)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
    for axis in list(panels):
        axis.set_visible(False)
    if len(read) > 1:
        drawing.axes[0].legend(fontsize=7)
    with atomic_path(output) as temporary:
        drawing.savefig(temporary)


def _read(run: Path) -> list[dict[str, float]]:
    path = run / "metrics.jsonl"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise AudiogenError(f"{path}: cannot be read ({error.strerror}); is {run} the folder of a training?") from None
    lines = [json.loads(line) for line in text.splitlines() if line.endswith("}")]  # one may be in the making
    if not lines:
        raise AudiogenError(f"{path}: holds no metrics yet")
    return lines


def _names(runs: object) -> list[str]:
    found = {key.removeprefix(_VALIDATION) for lines in runs for line in lines for key in line}  # type: ignore[attr-defined]
    found -= {"global_step", "seconds_a_step"}

    def rank(name: str) -> tuple[int, list[tuple[int, str]]]:
        parts = [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]
        return _FIRST.index(name) if name in _FIRST else len(_FIRST), parts

    return sorted(found, key=rank)


def _smoothed(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of every few neighbours, so that about 300 points are left."""
    every = max(1, len(points) // 300)
    whole = points[: len(points) // every * every]
    steps, values = whole.reshape(-1, every, 2).mean(1).T
    return steps, values


def _label(run: Path, runs: Sequence[Path]) -> str:
    return run.name if [other.name for other in runs].count(run.name) == 1 else str(run)
