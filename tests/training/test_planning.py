from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import LM, LSTM
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from audiogen.interfaces import AudiogenError, Condition
from audiogen.lm import fused
from audiogen.lm.conditioning import PrefixEncoder
from audiogen.lm.model import MusicLM, MusicLMConfig
from audiogen.lm.score import NUM_LANES
from audiogen.training.cost import measure
from audiogen.training.lm_trainer import LMTask, LMTrainingConfig
from audiogen.training.optimiser import MuonAdamW
from audiogen.training.planning import H200, Estimate, Layout, Machine, estimate, fitted


@pytest.fixture(autouse=True)
def spelled_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, for which a training is planned."""
    monkeypatch.setattr(fused, "serves", lambda *_: False)


RECIPES = Path(__file__).parents[2] / "recipes"
HERE = Machine("a CPU", 1e12, 16e9, 50e9, float("inf"), keeps_scores=True)
FRAMES = 40


def config(lm: MusicLMConfig = LM, **trainer: Any) -> LMTrainingConfig:
    told = {"max_steps": 2, "batch_size": 8, "lr": 1e-3} | trainer
    return LMTrainingConfig.model_validate({
        "manifest": "none", "codes": "none", "codec": "none", "lm": lm.model_dump(), "segment_frames": FRAMES,
        "trainer": told,
    })  # fmt: skip


@functools.cache
def imagined(lm: MusicLMConfig) -> Estimate:
    return estimate(config(lm))


def deeper(depth: int) -> MusicLMConfig:
    return LM.model_copy(update={"transformer": LM.transformer.model_copy(update={"depth": depth})})


def condition(model: MusicLM, batch: int) -> Condition:
    return Condition(model.prefix.encode([None] * batch), torch.zeros(batch, FRAMES, NUM_LANES))


@pytest.mark.parametrize("lm", [deeper(5), LSTM], ids=["Transformer", "LSTM"])
def test_weights_and_operations_are_those_of_the_real_model(lm: MusicLMConfig) -> None:
    found, model = imagined(lm), MusicLM(lm)
    assert found.parameters == sum(weight.numel() for weight in model.parameters())
    told = condition(model, 1)
    with torch.autocast("cpu", torch.bfloat16):
        cost = measure(lambda: model(torch.zeros(1, 4, FRAMES, dtype=torch.long), told), model)
    assert found.operations == cost.operations
    optimiser = MuonAdamW(model, betas=(0.9, 0.95), weight_decay=0.0, not_matrices=LMTask.heads)
    for weight in model.parameters():
        weight.grad = torch.randn_like(weight)
    with FlopCounterMode(display=False) as counter:
        optimiser.step()
    assert found.optimiser_operations == counter.get_total_flops() > 0


def test_attention_counts_what_the_mask_lets_through() -> None:
    lm = deeper(5)
    found, sizes = imagined(lm), lm.transformer
    mask = MusicLM(lm).transformer._mask(PrefixEncoder.length, FRAMES, torch.device("cpu"))
    pair = 4 * sizes.dim * sizes.depth
    assert found.seen == pair * int(mask.sum()) and found.attention == pair * mask.numel()
    wide = lm.model_copy(update={"transformer": sizes.model_copy(update={"window_frames": 1000})})
    seen = imagined(wide).seen
    mask = MusicLM(wide).transformer._mask(PrefixEncoder.length, FRAMES, torch.device("cpu"))
    assert seen == pair * int(mask.sum()) > found.seen
    assert found.update_operations == 3 * 8 * (found.operations - found.attention + found.seen) + (
        found.optimiser_operations
    )


def training(lm: MusicLMConfig, batch: int, again: bool) -> int:
    """The most bytes that PyTorch held in two updates."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as told:
        model = MusicLM(lm)
        averaged = {name: value.clone() for name, value in model.state_dict().items()}
        for block in model.transformer.blocks if again else ():
            block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)
        optimiser = MuonAdamW(model, betas=(0.9, 0.95), weight_decay=0.0, not_matrices=LMTask.heads)
        codes = torch.zeros(batch, lm.num_codebooks, FRAMES, dtype=torch.long)
        for _ in range(2):
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(codes, condition(model, batch)).transpose(1, 2).flatten(0, 2)
            torch.nn.functional.cross_entropy(logits.float(), codes.transpose(1, 2).flatten()).backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
    assert averaged
    held = most = 0
    for event in told.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


@pytest.mark.parametrize(("batch", "again"), [(1, False), (12, False), (12, True)])
def test_memory_is_near_what_a_training_takes(batch: int, again: bool) -> None:
    lm = MusicLMConfig.model_validate({
        "num_codebooks": 4, "codebook_size": 64, "code_dim": 8,
        "transformer": {"dim": 64, "depth": 6, "heads": 4, "kv_heads": 2, "hidden": 160, "window_frames": 16},
    })  # fmt: skip
    said, taken = imagined(lm).memory(Layout(1, batch, False, again), HERE), training(lm, batch, again)
    assert 0.8 * (said.total - said.gradients) < taken < 1.05 * said.total


def test_what_spreading_and_computing_again_save() -> None:
    found = imagined(deeper(5))
    plain, again, spread = (
        found.memory(Layout(8, 1, *way), H200) for way in ((False, False), (False, True), (True, False))
    )
    assert again.activations < plain.activations and again[:4] == plain[:4]
    assert spread.optimiser == -(-plain.optimiser // 8) and spread.averaged == -(-plain.averaged // 8)
    assert plain.gradients == 2 * found.standing.gradients  # DDP's buckets
    alone = found.memory(Layout(1, 1, False, False), HERE)
    assert alone.activations - found.memory(Layout(1, 1, False, False), H200).activations == found.scores
    sizes = LM.transformer
    assert found.scores == pytest.approx(
        5 * 6 * sizes.heads * FRAMES**2, rel=0.15
    )  # a float32 and a bfloat16 of each pair, five blocks


def test_the_batch_is_cut_until_it_fits() -> None:
    found = imagined(deeper(5))
    layout = Layout(2, 1, False, False)
    one, two = (found.memory(layout._replace(micro_batch=count), H200).total for count in (1, 2))
    small = Machine("small", 1e12, 1.01 * two / 0.92, 1e9, 1e9, keeps_scores=False)
    share, memory = fitted(found, small, 2, False, False)
    assert (share.micro_batch, share.accumulation) == (2, 2) and memory.total == two
    with pytest.raises(AudiogenError, match="one segment takes"):
        fitted(found, small._replace(memory_bytes=0.99 * one), 2, False, False)
    with pytest.raises(AudiogenError, match="multiple of processes × accumulation = 3"):
        fitted(found, small, 3, False, False)
