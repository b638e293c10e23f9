from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from laws import resumed_is_uninterrupted
from tiny import CODEC, catalogue

from audiogen.interfaces import AudiogenError
from audiogen.training.codec_trainer import CodecTask, CodecTrainingConfig
from audiogen.training.trainer import Trainer


def config(folder: Path, **changes: Any) -> CodecTrainingConfig:
    trainer = {"max_steps": 6, "batch_size": 2, "lr": 1e-3, "warmup_steps": 2, "mixed_precision": "no", "threads": 1}
    trainer |= {"checkpoint_every_seconds": 0.0}
    values = {
        "manifest": str(folder / "manifest.jsonl"), "root": str(folder), "codec": CODEC.model_dump(),
        "trainer": trainer, "segment_frames": 40, "start_codebooks_at": 2,
    }  # fmt: skip
    return CodecTrainingConfig.model_validate(values | changes)


@pytest.fixture
def task(tmp_path: Path) -> CodecTask:
    catalogue(tmp_path)
    return CodecTask(config(tmp_path))


def test_killed_and_resumed_is_uninterrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Across the step where the codebooks start from data, and with codebook dropout and re-drawn entries after it."""
    catalogue(tmp_path / "data")
    monkeypatch.setattr(CodecTask, "validate", lambda self, module: {})
    monkeypatch.setattr(CodecTask, "write_samples", lambda self, module, folder: None)
    settings = config(tmp_path / "data")

    def make(run: Path) -> Trainer:
        torch.manual_seed(0)
        return Trainer(CodecTask(settings), run, settings)

    resumed_is_uninterrupted(make, tmp_path, kill_after=4)


def test_training_makes_the_loss_smaller(task: CodecTask) -> None:
    optimiser = torch.optim.AdamW(task.module.parameters(), lr=1e-2)
    batch = task.batch(range(2))
    torch.manual_seed(0)
    losses = []
    for step in range(24):
        optimiser.zero_grad()
        loss, parts = task.loss(task.module, batch, step)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
        assert bool(task.module.quantizer.started) == (step >= 2)
    assert losses[-1] < 0.8 * losses[0]
    assert {"mel_mid", "mel_side", "mel_left_right", "log_mid", "convergence", "constant_q"} < parts.keys()
    assert {"bottleneck", "mistuned", "misweighed"} < parts.keys()


def test_a_batch_is_a_pure_function_of_its_positions(task: CodecTask, tmp_path: Path) -> None:
    batch = task.batch(range(3, 6))
    assert batch.shape == (3, 2, 2, 40 * CODEC.hop_length) and batch.dtype == torch.float32
    again = CodecTask(config(tmp_path))
    again.batch(range(100, 101))
    assert torch.equal(again.batch(range(5, 6))[0], batch[2])


def test_before_codebooks_start_there_is_nothing_to_validate(task: CodecTask, tmp_path: Path) -> None:
    assert task.validate(task.module) == {}
    task.write_samples(task.module, tmp_path / "samples")
    assert not (tmp_path / "samples").exists()


def test_validation_measures_pitch_and_samples_are_written(task: CodecTask, tmp_path: Path) -> None:
    from tiny import codec

    task.module.load_state_dict(codec().state_dict())
    with torch.no_grad():
        found = task.validate(task.module.eval())
        task.write_samples(task.module, tmp_path / "samples")
    assert {"loss", "chroma", "semitones", "perplexity_first", "perplexity_last", "mel_mid"} <= found.keys()
    assert 1 <= found["perplexity_first"] <= CODEC.codebook_size and abs(found["chroma"]) <= 1
    names = {f"0_{name}.{end}" for name in ("original", "decoded") for end in ("wav", "png")}
    assert {path.name for path in (tmp_path / "samples").iterdir()} == names


def test_a_gaussian_codec_trains_validates_and_draws(tmp_path: Path) -> None:
    catalogue(tmp_path)
    task = CodecTask(config(tmp_path, codec=CODEC.model_dump() | {"bottleneck": "gaussian"}, kl=0.01))
    optimiser = torch.optim.AdamW(task.module.parameters(), lr=1e-2)
    torch.manual_seed(0)
    losses = []
    for step in range(16):
        optimiser.zero_grad()
        loss, parts = task.loss(task.module, task.batch(range(2)), step)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.85 * losses[0] and float(parts["bottleneck"]) > 0
    with torch.no_grad():
        found = task.validate(task.module.eval())
        task.write_samples(task.module, tmp_path / "samples")
    assert found["kl_nats_a_frame"] > 0 and "perplexity_first" not in found
    assert (tmp_path / "samples" / "drawn.wav").is_file()


def test_training_goes_on_from_another_codec(tmp_path: Path) -> None:
    from tiny import codec

    catalogue(tmp_path)
    codec().save(tmp_path / "codec", "float32")
    task = CodecTask(config(tmp_path, start_from=str(tmp_path / "codec")))
    same = {
        name: bool(torch.equal(value, codec().state_dict()[name])) for name, value in task.module.state_dict().items()
    }
    assert all(same[name] for name in same if not name.startswith("quantizer.")) and same["quantizer.codebooks"]
    loss, _ = task.loss(task.module.train(), task.batch(range(2)), 0)
    assert torch.isfinite(loss)
    drift = (task.module.codebooks - codec().codebooks).norm() / codec().codebooks.norm()
    assert 0 < float(drift) < 0.3, "the moving averages lost the entries"
    with pytest.raises(AudiogenError, match=r"is .* a model folder"):
        CodecTask(config(tmp_path, start_from=str(tmp_path / "none")))


def test_other_data_has_another_fingerprint(task: CodecTask, tmp_path: Path) -> None:
    catalogue(tmp_path / "other", seconds=3.0)
    assert CodecTask(config(tmp_path / "other")).fingerprint() != task.fingerprint()
    assert CodecTask(config(tmp_path)).fingerprint() == task.fingerprint()


def test_excerpts_too_short_for_the_losses_are_refused(tmp_path: Path) -> None:
    catalogue(tmp_path)
    with pytest.raises(AudiogenError, match=r"segment_frames 20: .* at least 28"):
        CodecTask(config(tmp_path, segment_frames=20))


@pytest.mark.parametrize("channels", [1, 2])
def test_an_encodec_codec_trains_by_the_same_recipe(tmp_path: Path, channels: int) -> None:
    """From audio of another rate, mono and stereo, across the start of its codebooks."""
    catalogue(tmp_path)
    network = {"channels": channels, "filters": 4, "latent_dim": 16, "ratios": (4, 4, 5)}
    sizes = {"sample_rate": 8000, "num_codebooks": 4, "codebook_size": 32, "network": network}
    task = CodecTask(config(tmp_path, encodec=sizes, segment_frames=240))
    assert task.batch(range(2)).shape == (2, 2, channels, 240 * 80)
    optimiser = torch.optim.AdamW(task.module.parameters(), lr=3e-3)
    torch.manual_seed(0)
    losses = []
    for step in range(16):
        optimiser.zero_grad()
        loss, parts = task.loss(task.module.train(), task.batch(range(2)), step)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0] and "mistuned" not in parts
    with torch.no_grad():
        found = task.validate(task.module.eval())
    assert np.isfinite(found["loss"]) and found["perplexity_last"] >= 1
