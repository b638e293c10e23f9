"""`recipes/plan.py`; what it counts is tested in tests/training/test_planning.py."""

from __future__ import annotations

import argparse
import runpy
from pathlib import Path
from typing import Any

import pytest
from tiny import LM, catalogue, prepared

from audiogen.interfaces import AudiogenError
from audiogen.training.lm_trainer import LMTask, LMTrainingConfig
from audiogen.training.trainer import Trainer

RECIPES = Path(__file__).parents[2] / "recipes"
PLAN = runpy.run_path(str(RECIPES / "plan.py"))
TINY = [
    "lm.num_codebooks=4", "lm.codebook_size=32", "lm.code_dim=8", "lm.transformer.dim=32", "lm.transformer.depth=2",
    "lm.transformer.heads=4", "lm.transformer.hidden=48", "trainer.batch_size=64", "segment_frames=64",
]  # fmt: skip


def told(**changes: Any) -> argparse.Namespace:
    values = {
        "config": str(RECIPES / "train_lm.toml"), "overrides": TINY, "gpus": [8, 48], "hours": [1000.0], "passes": 2.0,
        "share": 0.4, "watts": 1000.0, "against": None,
    }  # fmt: skip
    return argparse.Namespace(**values | changes)


def test_the_plan_tells_all_and_what_cannot_be(capsys: pytest.CaptureFixture[str]) -> None:
    PLAN["main"](told())
    said = capsys.readouterr().out
    assert "- 8: fits (as written, 8 segments at once" in said
    assert "- 48: batch_size 64 is no multiple of 48" in said
    updates = 2 * 1000 * 3600 * 25 / (64 * 64)
    row = next(line for line in said.splitlines() if line.startswith("| 1,000 | 8 |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[2] == f"{updates:,.0f}"
    seconds, days, energy = map(float, cells[3:6])
    assert days == pytest.approx(updates * seconds / 86400, rel=0.01)
    assert energy == pytest.approx(days * 24 * 8 * 1000 / 1e6, rel=0.02)


def test_the_mend_of_what_does_not_fit() -> None:
    from audiogen.training.planning import H200, Layout, estimate, verdict

    found = estimate(LMTrainingConfig.read(RECIPES / "train_lm.toml", TINY))
    alone = found.memory(Layout(8, 1, False, False), H200).total
    small = H200._replace(memory_bytes=1.01 * alone / 0.92)
    assert verdict(found, small, 8).endswith("GB): trainer.accumulation=8")
    less = found.memory(Layout(8, 1, False, True), H200).total
    again = H200._replace(memory_bytes=1.01 * less / 0.92)
    assert "FSDP2" in verdict(found, again, 8) or "checkpoint" in verdict(found, again, 8)
    assert verdict(found, H200._replace(memory_bytes=1e4), 8).endswith("a smaller segment_frames or model")


def test_against_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepared(tmp_path, catalogue(tmp_path))
    config = LMTrainingConfig.model_validate({
        "manifest": str(tmp_path / "manifest.jsonl"), "codes": str(tmp_path / "codes"),
        "codec": str(tmp_path / "codec"), "lm": LM.model_dump(), "segment_frames": 20, "drop_all": 1.0,
        "trainer": {"max_steps": 2, "batch_size": 4, "lr": 1e-3, "threads": 1, "validate_every": 9},
    })  # fmt: skip
    steps = Trainer(LMTask(config), tmp_path / "run", config).steps()
    next(steps)
    steps.close()
    PLAN["main"](told(against=tmp_path / "run"))
    said = capsys.readouterr().out
    row = next(line for line in said.splitlines() if line.startswith("| GFLOP a frame (estimate"))
    estimated, measured = (float(cell) for cell in row.strip("|").split("|")[1:])
    assert estimated == pytest.approx(measured, rel=1e-3) and estimated > 0
    row = next(line for line in said.splitlines() if line.startswith("| memory"))
    assert 0 < float(row.split("|")[3]) < 20
    with pytest.raises(AudiogenError, match="nowhere"):
        PLAN["main"](told(against=tmp_path / "nowhere"))
