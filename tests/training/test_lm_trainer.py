from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from laws import resumed_is_uninterrupted
from tiny import LM, LSTM, catalogue, codec, language_model, prepared

from audiogen.files import write_json
from audiogen.interfaces import Attributes, AudiogenError, Condition, Prompt
from audiogen.lm.delay import apply_delay
from audiogen.lm.model import MusicLMConfig
from audiogen.lm.score import GROUPS, NUM_LANES, lanes
from audiogen.training.lm_trainer import LMTask, LMTrainingConfig
from audiogen.training.trainer import Trainer


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    prepared(folder, catalogue(folder))
    return folder


def config(data: Path, **changes: Any) -> LMTrainingConfig:
    trainer = {"max_steps": 6, "batch_size": 4, "lr": 1e-3, "warmup_steps": 2, "mixed_precision": "no", "threads": 1}
    values = {
        "manifest": str(data / "manifest.jsonl"), "codes": str(data / "codes"), "codec": str(data / "codec"),
        "lm": LM.model_dump(), "trainer": trainer | {"checkpoint_every_seconds": 0.0}, "segment_frames": 20,
    }  # fmt: skip
    return LMTrainingConfig.model_validate(values | changes)


TRUNKS = pytest.mark.parametrize("lm", [LM, LSTM], ids=["Transformer", "LSTM"])
NO_DROPS = {"drop_attribute": 0.0, "drop_lane": 0.0, "drop_all": 0.0}


@pytest.mark.parametrize("precision", ["no", "bf16"])
@TRUNKS
def test_killed_and_resumed_is_uninterrupted(
    lm: MusicLMConfig, precision: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LMTask, "validate", lambda self, module: {})
    monkeypatch.setattr(LMTask, "write_samples", lambda self, module, folder: None)
    settings = config(data, lm=lm.model_dump())
    settings = settings.model_copy(
        update={"trainer": settings.trainer.model_copy(update={"mixed_precision": precision})}
    )

    def make(run: Path) -> Trainer:
        torch.manual_seed(0)
        return Trainer(LMTask(settings), run, settings)

    resumed_is_uninterrupted(make, tmp_path, kill_after=4)


def test_excerpts_are_cut_from_the_delayed_codes(data: Path) -> None:
    task = LMTask(config(data, **NO_DROPS))
    batch = task.batch(range(12))
    for index in range(12):
        _, item, start = task._train.place(index)
        codes = torch.from_numpy(task._train._codes[0][item].T.astype(np.int64))[None]
        delayed = apply_delay(codes, LM.pad)[0]
        before = torch.cat([torch.full((4, 1), LM.pad), delayed], 1)
        assert torch.equal(batch["inputs"][index], before[:, start : start + 20])
        expected = torch.where(delayed == LM.pad, -100, delayed)[:, start : start + 20]
        assert torch.equal(batch["targets"][index], expected)
        told = lanes(task._train.tracks[item].score(), start, 20, 25.0)
        np.testing.assert_allclose(batch["lanes"][index], told, atol=2e-3)  # kept in half precision
        assert batch["prompts"][index].text == "a calm harp"


def test_a_segment_longer_than_its_track_is_filled_with_nothing(data: Path) -> None:
    batch = LMTask(config(data, segment_frames=150, **NO_DROPS)).batch(range(1))
    assert batch["inputs"].shape == (1, 4, 150) and batch["lanes"].shape == (1, 150, NUM_LANES)
    assert bool((batch["targets"][:, :, 103:] == -100).all()) and bool((batch["inputs"][:, :, 104:] == LM.pad).all())
    assert not batch["lanes"][:, 103:].any()
    assert int((batch["targets"] != -100).sum()) == 4 * 100


def test_what_is_dropped(data: Path) -> None:
    said = LMTask(config(data, **NO_DROPS | {"drop_attribute": 1.0})).batch(range(8))
    blank = Attributes()
    for prompt in said["prompts"]:
        assert prompt.text == ""
        told = {
            field.name
            for field in fields(blank)
            if getattr(prompt.attributes, field.name) != getattr(blank, field.name)
        }
        assert told <= {"seconds"}
    assert said["lanes"].any()
    assert not LMTask(config(data, **NO_DROPS | {"drop_lane": 1.0})).batch(range(8))["lanes"].any()
    none = LMTask(config(data, **NO_DROPS | {"drop_all": 1.0})).batch(range(8))
    assert none["prompts"] == [None] * 8 and not none["lanes"].any()


def test_each_lane_is_dropped_by_itself(data: Path) -> None:
    kept = LMTask(config(data, **NO_DROPS | {"drop_lane": 0.5})).batch(range(64))["lanes"]
    there = torch.stack([kept[:, :, group].flatten(1).any(1) for group in GROUPS.values()], 1).float()
    assert bool(((there.mean(0) > 0.25) & (there.mean(0) < 0.75)).all())
    assert len({tuple(row) for row in there.tolist()}) > 20


def test_a_batch_is_a_pure_function_of_its_positions(data: Path) -> None:
    one, other = LMTask(config(data)), LMTask(config(data))
    batch = one.batch(range(4, 8))
    other.batch(range(50, 53))
    again = other.batch(range(6, 7))
    for name in ("inputs", "targets", "lanes"):
        assert torch.equal(batch[name][2], again[name][0])
    assert batch["prompts"][2] == again["prompts"][0]


@TRUNKS
def test_the_loss_starts_at_chance_and_falls(lm: MusicLMConfig, data: Path) -> None:
    torch.manual_seed(0)
    task = LMTask(config(data, lm=lm.model_dump(), **NO_DROPS))
    optimiser = torch.optim.AdamW(task.module.parameters(), lr=1e-2)
    losses = []
    for step in range(60):
        optimiser.zero_grad()
        loss, parts = task.loss(task.module, task.batch(range(4)), step)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(np.log(32), abs=0.1)
    assert losses[-1] < 0.75 * losses[0]
    idle = {name for name, weight in task.module.named_parameters() if weight.grad is None}
    assert not idle  # though everything may have been said: other processes wait for its gradient
    assert float(parts["bits_a_second"]) == pytest.approx(losses[-1] * 4 * 25 / np.log(2), rel=1e-2)


def test_validation_and_samples(data: Path, tmp_path: Path) -> None:
    task = LMTask(config(data))
    with torch.no_grad():
        found = task.validate(task.module.eval())
        task.write_samples(task.module, tmp_path / "samples")
    assert found["loss"] == pytest.approx(np.log(32), abs=0.1)
    assert {"codebook_1", "codebook_4", "bits_a_second", "loss_untold"} <= found.keys()
    assert {path.name for path in (tmp_path / "samples").iterdir()} == {"0.wav", "0.png"}


def test_fine_tuning_starts_from_the_given_weights(data: Path, tmp_path: Path) -> None:
    given = language_model(seed=5)
    given.save(tmp_path / "lm", "float32")
    task = LMTask(config(data, start_from=str(tmp_path / "lm")))
    for name, value in given.state_dict().items():
        assert torch.equal(task.module.state_dict()[name], value)
    assert all(weight.requires_grad for weight in task.module.parameters())
    wide = LM.model_copy(update={"code_dim": 12}).model_dump()
    with pytest.raises(AudiogenError, match=r"lm: its sizes differ"):
        LMTask(config(data, lm=wide, start_from=str(tmp_path / "lm")))


def test_the_fingerprint_is_of_tracks_and_codec(data: Path) -> None:
    found = LMTask(config(data)).fingerprint()
    assert found.keys() == {"manifest", "codec"} and len(found["codec"]) == 16


def reference(folder: Path, seed: int = 0, codec_seed: int = 0, lm: MusicLMConfig = LM) -> str:
    """A model folder of a tiny codec and a language model of random weights."""
    codec(codec_seed).save(folder / "codec", "float32")
    language_model(seed, lm).save(folder / "lm", "float32")
    write_json(folder / "config.json", {"kind": "audiogen"})
    return str(folder)


def test_divergence_from_a_reference(data: Path, tmp_path: Path) -> None:
    own, other = (reference(tmp_path / str(seed), seed) for seed in (0, 1))
    model = language_model(0)
    found = {name: LMTask(config(data, reference=name)).validate(model) for name in ("", own, other)}
    assert "kl_bits_a_second" not in found[""]
    assert abs(found[own]["kl_bits_a_second"]) < 1e-3
    task = LMTask(config(data))
    items = [task._held_out[position] for position in range(min(32, task._held_out.size))]
    codes, told, targets = (torch.from_numpy(np.stack([item[index] for item in items])) for index in (0, 2, 1))
    prompt = Prompt("a calm harp", items[0][3].attributes())
    with torch.inference_mode():
        each = [
            torch.distributions.Categorical(
                logits=lm(codes, Condition(lm.prefix.encode([prompt] * len(items)), told)).float()
            )
            for lm in (model, language_model(1))
        ]
    apart, there = torch.distributions.kl_divergence(*each), targets >= 0
    expected = sum(apart[:, book][there[:, book]].mean() for book in range(4)) * 25 / np.log(2)
    assert found[other]["kl_bits_a_second"] == pytest.approx(float(expected), rel=1e-4)
    assert found[other] == {**found[""], "kl_bits_a_second": found[other]["kl_bits_a_second"]}


def test_metrics_hold_the_divergence_and_the_reference_may_change(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LMTask, "write_samples", lambda self, module, folder: None)
    pace = config(data).trainer.model_copy(update={"validate_every": 2})
    for seed in (3, 4):
        name = reference(tmp_path / f"model-{seed}", seed)
        settings = config(data, reference=name, trainer=pace.model_dump())
        for report in Trainer(LMTask(settings), tmp_path / "run", settings).steps():
            if report.global_step == 3:
                break
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    apart = {line["global_step"]: line.get("validation_kl_bits_a_second") for line in lines}
    assert [step for step, value in apart.items() if value] == [2, 4, 6] and min(filter(None, apart.values())) > 0


def test_a_reference_that_reads_other_codes_is_refused(data: Path, tmp_path: Path) -> None:
    fewer = reference(tmp_path / "fewer", lm=LM.model_copy(update={"num_codebooks": 3}))
    for name, told in (
        ("nowhere", r"no model 'nowhere'"),
        (reference(tmp_path / "foreign", codec_seed=1), r"reference = '.*foreign': its codec is \w{16}, that of this"),
        (fewer, r"reference = '.*fewer': its num_codebooks is 3, that of this training 4"),
    ):
        with pytest.raises(AudiogenError, match=told):
            LMTask(config(data, reference=name))
