from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from laws import resumed_is_uninterrupted
from tiny import CODEC, catalogue, codec, notes

from audiogen.codec.encodec import EncodecCodec, EncodecConfig
from audiogen.codec.spectral import SpectralCodec
from audiogen.interfaces import AudiogenError
from audiogen.training.codec_trainer import CodecTask, CodecTrainingConfig
from audiogen.training.discriminators import Contest
from audiogen.training.trainer import Trainer

TRAINER = {
    "max_steps": 6, "batch_size": 2, "lr": 1e-3, "warmup_steps": 2, "mixed_precision": "no", "threads": 1,
    "checkpoint_every_seconds": 0.0,
}  # fmt: skip
ADVERSARIAL = {"windows": (512, 256), "filters": 4, "penalty_every": 2, "head_start": 1}


def config(folder: Path, **changes: Any) -> CodecTrainingConfig:
    values = {
        "manifest": str(folder / "manifest.jsonl"), "root": str(folder), "codec": CODEC.model_dump(),
        "trainer": TRAINER, "segment_frames": 40, "start_codebooks_at": 2,
    }  # fmt: skip
    return CodecTrainingConfig.model_validate(values | changes)


@pytest.fixture
def task(tmp_path: Path) -> CodecTask:
    catalogue(tmp_path)
    return CodecTask(config(tmp_path))


@pytest.mark.parametrize("changes", [{}, {"adversarial": ADVERSARIAL | {"gradient_penalty": 0.1, "starts_at": 1}}])
def test_killed_and_resumed_is_uninterrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    """Across the step where the codebooks start from data, and with codebook dropout and re-drawn entries after it; and
    across the one where discriminators and the balance of the losses start."""
    catalogue(tmp_path / "data")
    monkeypatch.setattr(CodecTask, "validate", lambda self, module: {})
    monkeypatch.setattr(CodecTask, "write_samples", lambda self, module, folder: None)
    settings = config(tmp_path / "data", **changes)

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


def test_codec_and_discriminators_learn_together_from_when_they_shall(tmp_path: Path) -> None:
    catalogue(tmp_path)
    task = CodecTask(config(tmp_path, adversarial=ADVERSARIAL | {"starts_at": 3}))
    assert isinstance(task.module, Contest)
    judges = list(task.module.discriminators.parameters())
    batch, told = task.batch(range(2)), []
    for step in range(5):
        task.module.zero_grad()
        loss, parts = task.loss(task.module.train(), batch, step)
        loss.backward()
        told.append(parts.keys() >= {"adversarial", "features", "discriminators", "mel_mid"})
        assert all(weight.grad is not None for weight in task.module.parameters())
        assert any(bool(weight.grad.any()) for weight in judges) == (step >= 3)
        assert task.module.codec.dec_out.weight.grad.any() and torch.isfinite(loss)
    assert told == [False, False, False, True, True] and bool(task.module.norms.all())
    heads = {name for name, part in task.module.named_modules() if name in task.heads}
    assert heads == {"codec.dec_out"}, "the optimiser knows output heads by their names"


def test_a_decoder_trained_alone_keeps_every_code(tmp_path: Path) -> None:
    """Against discriminators, from a run's start to the exported folder."""
    catalogue(tmp_path)
    codec().save(tmp_path / "before", "int8")
    before = SpectralCodec.load(tmp_path / "before")
    settings = config(
        tmp_path, start_from=str(tmp_path / "before"), train_only="decoder", adversarial=ADVERSARIAL,
        trainer=TRAINER | {"max_steps": 3, "lr": 1e-2, "weight_decay": 0.1},
    )  # fmt: skip
    task = CodecTask(settings)
    reports = list(Trainer(task, tmp_path / "run", settings).steps())
    assert np.isfinite(reports[-1].metrics["validation_loss"])
    assert (tmp_path / "run" / "samples" / "00000003" / "0_decoded.wav").is_file()
    export = runpy.run_path(str(Path(__file__).parents[2] / "recipes" / "export_model.py"))
    export["main"]("codec", tmp_path / "run", tmp_path / "model", "int8", "after")
    after, music = SpectralCodec.load(tmp_path / "model" / "codec"), notes(2.0)[None]
    assert after.fingerprint == before.fingerprint == task.module.codec.fingerprint
    assert torch.equal(after.encode(music), before.encode(music))
    for name, value in before.state_dict().items():
        if not name.startswith("quantizer.") or name.endswith("codebooks"):
            assert torch.equal(value, after.state_dict()[name].to(value.dtype)) == (not name.startswith("dec_")), name
    trained = {name for name, weight in task.module.codec.named_parameters() if weight.requires_grad}
    assert trained == {name for name, _ in before.named_parameters() if name.startswith("dec_")}


def test_a_decoder_of_a_chunked_encodec_trains_against_discriminators(tmp_path: Path) -> None:
    catalogue(tmp_path)
    network = {"channels": 2, "filters": 4, "latent_dim": 16, "ratios": (4, 4, 5), "causal": False}
    sizes = {
        "sample_rate": 8000, "num_codebooks": 4, "codebook_size": 32, "network": network,
        "chunk_frames": 240, "overlap_frames": 4,
    }  # fmt: skip
    made = EncodecCodec(EncodecConfig.model_validate(sizes))
    made.save(tmp_path / "codec", "float32")
    told = {"encodec": sizes, "segment_frames": 240, "start_from": str(tmp_path / "codec"), "train_only": "decoder"}
    task = CodecTask(config(tmp_path, adversarial=ADVERSARIAL, **told))
    loss, parts = task.loss(task.module.train(), task.batch(range(2)), 0)
    loss.backward()
    moved = {name for name, weight in task.module.codec.named_parameters() if weight.grad is not None}
    assert moved == {name for name, _ in made.named_parameters() if name.startswith("decoder.")}
    assert torch.isfinite(loss) and parts["discriminators"] > 0
    assert task.module.codec.fingerprint == made.fingerprint


def test_contradictions_are_told_before_training(tmp_path: Path) -> None:
    catalogue(tmp_path)
    codec().save(tmp_path / "codec", "float32")
    start, told = str(tmp_path / "codec"), config(tmp_path).model_dump()

    def build(**changes: Any) -> CodecTask:
        return CodecTask(CodecTrainingConfig.build(told | changes, "my.toml"))

    with pytest.raises(AudiogenError, match=r"my.toml: .*\n.*train_only .* needs start_from"):
        build(train_only="decoder")
    with pytest.raises(AudiogenError, match=r"train_only: .* 'all' or 'decoder'"):
        build(train_only="encoder", start_from=start)
    with pytest.raises(AudiogenError, match=r"codec: train_only .* set direct = True$"):
        build(train_only="decoder", start_from=start, codec=CODEC.model_dump() | {"direct": False})
    with pytest.raises(AudiogenError, match=r"starts_at and head_start, together 6, .* below trainer.max_steps 6"):
        build(adversarial={"starts_at": 2, "head_start": 4})
    with pytest.raises(AudiogenError, match=r"adversarial.kind: .* 'bce'"):
        build(adversarial={"kind": "wgan"})
    with pytest.raises(AudiogenError, match=r"segment_frames 40: .* at least 53"):
        build(adversarial={"windows": (1 << 15,), "head_start": 0})
