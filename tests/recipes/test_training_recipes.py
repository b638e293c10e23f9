"""The training scripts' command lines; what they train is tested with the tasks in tests/training."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import catalogue, prepared

from audiogen import Generator
from audiogen.codec.spectral import SpectralCodec
from audiogen.lm.model import MusicLM
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
    for name in ("train_lm.toml", "finetune.toml", "lstm.toml", "transformer_small.toml"):
        lm = LMTrainingConfig.read(RECIPES / name)
        assert lm.trainer.warmup_steps < lm.trainer.max_steps


def test_the_adversarial_recipe_trains_the_decoder_of_the_codec_it_begins_with() -> None:
    config = CodecTrainingConfig.read(RECIPES / "adversarial.toml")
    assert config.train_only == "decoder" and config.adversarial
    assert SpectralCodec.load(RECIPES.parent / config.start_from).config == config.codec


def test_the_lstm_and_its_peer_are_of_equal_size_and_trained_alike() -> None:
    told = [LMTrainingConfig.read(RECIPES / name) for name in ("lstm.toml", "transformer_small.toml")]
    sizes = [sum(weight.numel() for weight in MusicLM(one.lm).parameters()) for one in told]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.01)
    lstm, transformer = (one.model_dump(exclude={"lm": {"recurrent", "transformer"}}) for one in told)
    assert lstm == transformer


def test_an_lstm_is_an_override_away_and_plays(tmp_path: Path) -> None:
    prepared(tmp_path, catalogue(tmp_path))
    train, export = (runpy.run_path(str(RECIPES / name)) for name in ("train_lm.py", "export_model.py"))
    overrides = [
        f"manifest={tmp_path / 'manifest.jsonl'}", f"codes={tmp_path / 'codes'}", f"codec={tmp_path / 'codec'}",
        "lm.num_codebooks=4", "lm.codebook_size=32", "lm.code_dim=8", "lm.recurrent.dim=32", "lm.recurrent.hidden=40",
        "segment_frames=20", "trainer.max_steps=2", "trainer.warmup_steps=1", "trainer.threads=1",
    ]  # fmt: skip
    config = train["configured"](str(RECIPES / "train_lm.toml"), overrides, None)
    train["main"](config, str(tmp_path / "run"))
    export["main"]("lm", tmp_path / "run", tmp_path / "model", "int8", "baseline")
    stored = json.loads((tmp_path / "model" / "lm" / "config.json").read_text())
    assert stored["config"]["recurrent"] == {"dim": 32, "depth": 2, "hidden": 40}
    audio = Generator.from_pretrained(tmp_path / "model").generate("jazz", 1.0, 1)
    assert audio.seconds == 1 and bool(audio.samples.isfinite().all()) and float(audio.samples.std()) > 0
