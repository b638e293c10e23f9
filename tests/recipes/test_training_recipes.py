"""The training scripts' command lines; what they train is tested with the tasks in tests/training."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from audiogen.training.codec_trainer import CodecTrainingConfig
from audiogen.training.lm_trainer import LMTrainingConfig

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.mark.parametrize("script", ["train_codec.py", "train_lm.py"])
def test_overrides_may_stand_anywhere(script: str, tmp_path: Path) -> None:
    command = [sys.executable, str(RECIPES / script), "none.toml", "--run", str(tmp_path / "run"), "trainer.seed=2"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1 and "none.toml: there is no such configuration file" in done.stderr + done.stdout
    assert not (tmp_path / "run").exists()


def test_shipped_configurations_load() -> None:
    codec = CodecTrainingConfig.read(RECIPES / "train_codec.toml")
    assert codec.start_codebooks_at < codec.trainer.max_steps
    for name in ("train_lm.toml", "finetune.toml"):
        lm = LMTrainingConfig.read(RECIPES / name)
        assert lm.trainer.warmup_steps < lm.trainer.max_steps
