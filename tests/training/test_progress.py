from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from audiogen.interfaces import AudiogenError
from audiogen.training.interruption import Terminated
from audiogen.training.progress import run_command, show
from audiogen.training.trainer import StepReport


def test_a_mistake_is_one_line_and_ctrl_c_is_130() -> None:
    def mistaken() -> None:
        raise AudiogenError("run.toml: there is no such configuration file")

    def stopped() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit, match=r"^error: run.toml: there is no such configuration file$"):
        run_command(mistaken)
    with pytest.raises(SystemExit) as caught:
        run_command(stopped)
    assert caught.value.code == 130
    run_command(lambda: None)


def test_sigterm_is_143_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    def taken_away() -> None:
        raise Terminated

    with pytest.raises(SystemExit) as caught:
        run_command(taken_away)
    assert caught.value.code == 143
    assert capsys.readouterr().err == "stopped by SIGTERM; all is saved, the same command goes on\n"


def test_progress_tells_step_metrics_and_time_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reports = [
        StepReport(1, {"loss": 2.0, "lr": 1.0}, 3725.0),
        StepReport(2, {"loss": 1.5, "lr": 1.0}, 60.0),  # too soon after the first
        StepReport(3, {"loss": 1.0, "lr": 1.0, "validation_loss": 1.25}, 0.0),
    ]
    lines = [{"global_step": report.global_step, **report.metrics} for report in reports]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    main: Any = SimpleNamespace(is_main_process=True)
    trainer: Any = SimpleNamespace(
        steps=lambda: iter(reports), accelerator=main, config=SimpleNamespace(max_steps=3), run=tmp_path
    )
    show(trainer, ("loss",))
    printed = capsys.readouterr().out.splitlines()
    assert printed == ["1/3  01:02:05 left  loss 2.000", "3/3  00:00:00 left  loss 1.000  validation_loss 1.250"]
    assert (tmp_path / "metrics.png").read_bytes().startswith(b"\x89PNG")
