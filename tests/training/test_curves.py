from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from audiogen.interfaces import AudiogenError
from audiogen.training.curves import draw


def run(folder: Path, lines: list[dict[str, float]], end: str = "") -> Path:
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + end)
    return folder


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    from matplotlib.figure import Figure

    found: list[Any] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path: (found.append(self), Path(path).write_bytes(b"png")))
    return found


def test_one_run_has_a_panel_for_each_name(tmp_path: Path, drawn: list[Any]) -> None:
    lines = [{"global_step": 1, "loss": 2.0, "lr": 0.1, "seconds_a_step": 1.0}, {"global_step": 2, "loss": 1.0}]
    lines += [{"global_step": 3, "validation_loss": 1.5, "validation_chroma": 0.5}]
    lines += [{"global_step": 4, "codebook_10": 1.0, "codebook_2": 1.0, "peak_share": 0.4}]
    draw([run(tmp_path / "a", lines, '{"global_step": 5, "lo')], tmp_path / "a.png")
    panels = [(axis.get_title(), len(axis.lines)) for axis in drawn[0].axes if axis.get_visible()]
    assert panels == [("loss", 2), ("lr", 1), ("peak_share", 1), ("chroma", 1), ("codebook_2", 1), ("codebook_10", 1)]


def test_several_runs_share_the_panels(tmp_path: Path, drawn: list[Any]) -> None:
    steps = np.arange(1, 901)
    runs = [
        run(tmp_path / name / "lm", [{"global_step": int(s), "loss": float(s % 3 + shift)} for s in steps])
        for name, shift in (("a", 0), ("b", 10))
    ]
    draw(runs, tmp_path / "both.png")
    loss = drawn[0].axes[0]
    assert [text.get_text() for text in loss.get_legend().get_texts()] == [str(path) for path in runs]
    for line, shift in zip(loss.lines, (0, 10), strict=True):
        assert len(line.get_xdata()) == 300 and np.allclose(line.get_ydata(), 1 + shift)
    assert loss.lines[0].get_color() != loss.lines[1].get_color()


def test_the_command_draws_and_names_what_is_no_run(tmp_path: Path) -> None:
    from audiogen.cli.app import app

    runs = [run(tmp_path / name, [{"global_step": 1, "loss": 1.0}]) for name in "ab"]
    done = CliRunner().invoke(app, ["train", "plot", *map(str, runs), "-o", str(tmp_path / "out.png")])
    assert done.exit_code == 0 and (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    for path, told in ((tmp_path, "is .* the folder of a training"), (run(tmp_path / "c", []), "no metrics yet")):
        with pytest.raises(AudiogenError, match=told):
            draw([path], tmp_path / "out.png")
    with pytest.raises(AudiogenError, match=r"out.jpg: give a picture's name"):
        draw(runs, tmp_path / "out.jpg")
