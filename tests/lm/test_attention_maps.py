"""The blocks run in the open give what the model gives, and the shares are those of its own scores."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from audiogen.interfaces import Attributes, Condition, Prompt
from audiogen.lm.attention_maps import AttentionMaps, Seen
from audiogen.lm.model import MusicLM
from audiogen.lm.score import NUM_LANES
from audiogen.lm.transformer import TransformerConfig, _blank, _rotate
from tests.laws import memory_is_constant
from tests.tiny import LM, MINI, language_model

WINDOW, FRAMES = LM.transformer.window_frames, 30


def given(model: MusicLM, frames: int = FRAMES) -> tuple[Tensor, Condition]:
    random = torch.Generator().manual_seed(1)
    codes = torch.randint(0, model.config.codebook_size + 1, (2, model.config.num_codebooks, frames), generator=random)
    prefix = model.prefix.encode([Prompt("warm pads", Attributes(style="ambient")), None])
    lanes = torch.randn(2, frames, NUM_LANES, generator=random)
    dtype = model.heads.weight.dtype
    return codes, Condition(prefix.to(dtype), lanes.to(dtype))


def read(model: MusicLM, codes: Tensor, condition: Condition, block: int) -> Seen:
    maps = AttentionMaps(model, condition.prefix)
    lanes = condition.lanes.split(block, 1)
    parts = [maps.read(part, lane) for part, lane in zip(codes.split(block, 2), lanes, strict=True)]
    return Seen(*(torch.cat([getattr(part, name) for part in parts], 2) for name in ("logits", "prefix", "lags")))


@pytest.mark.parametrize("block", [1, 7, 8, 9, FRAMES])
@torch.inference_mode()
def test_the_logits_are_those_of_the_model_whatever_the_blocks(block: int) -> None:
    model = language_model()
    codes, condition = given(model)
    seen = read(model, codes, condition, block)
    torch.testing.assert_close(seen.logits, model.forward(codes, condition), atol=1e-4, rtol=0)
    whole = read(model, codes, condition, FRAMES)
    torch.testing.assert_close(seen.lags, whole.lags, atol=1e-6, rtol=0)
    torch.testing.assert_close(seen.prefix, whole.prefix, atol=1e-6, rtol=0)


@pytest.mark.skipif(not (MINI / "lm" / "config.json").is_file(), reason="the shipped model is not there")
@torch.inference_mode()
def test_the_logits_of_the_shipped_model_too() -> None:
    model = MusicLM.load(Path(MINI) / "lm")
    codes, condition = given(model, 20)
    seen = read(model, codes, condition, 8)
    torch.testing.assert_close(seen.logits, model.forward(codes, condition), atol=1e-4, rtol=0)


@torch.inference_mode()
def test_the_shares_are_a_whole_and_none_reaches_before_the_start_or_past_the_window() -> None:
    model = language_model()
    seen = read(model, *given(model), 7)
    assert seen.prefix.shape == (2, 2, FRAMES, model.prefix.length) and seen.lags.shape == (2, 2, FRAMES, WINDOW)
    torch.testing.assert_close(seen.prefix.sum(-1) + seen.lags.sum(-1), torch.ones(2, 2, FRAMES))
    for position in range(FRAMES):
        reach = min(position + 1, WINDOW)
        assert bool((seen.lags[:, :, position, :reach] > 0).all()) and not seen.lags[:, :, position, reach:].any()


@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (4, 1)])
@torch.inference_mode()
def test_the_shares_are_the_softmax_of_the_first_layers_scores(heads: tuple[int, int]) -> None:
    sizes = TransformerConfig(dim=32, depth=2, heads=heads[0], kv_heads=heads[1], hidden=48, window_frames=5)
    model = language_model(config=LM.model_copy(update={"transformer": sizes}))
    codes, condition = given(model, 12)
    seen = read(model, codes, condition, 5)
    transformer, length = model.transformer, condition.prefix.shape[1]
    block = transformer.blocks[0]
    q, k, _ = block.attention.project(
        block.norm1(torch.cat([condition.prefix, model._embed(codes, condition.lanes)], 1))
    )
    turns = transformer._turns(0, 12, torch.float32)
    keys = torch.cat([_blank(k[:, :, :length]), _rotate(k[:, :, length:], *turns)], 2)
    for position in (0, 3, 11):
        query = _rotate(q[:, :, length:], *turns)[:, :, position]
        places = [*range(length), *range(length + max(0, position - 4), length + position + 1)]
        expected = torch.zeros(2, len(places))
        for head in range(heads[0]):
            scores = (keys[:, head * heads[1] // heads[0], places] @ query[:, head, :, None])[..., 0]
            expected += (scores / sizes.head_dim**0.5).softmax(-1) / heads[0]
        told = torch.cat([seen.prefix[0, :, position], seen.lags[0, :, position, : len(places) - length].flip(1)], 1)
        torch.testing.assert_close(told, expected, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_in_bfloat16_the_shares_are_a_whole_still() -> None:
    model = language_model().bfloat16()
    codes, condition = given(model)
    seen = read(model, codes, condition, 7)
    assert seen.logits.dtype == torch.bfloat16 and seen.lags.dtype == torch.float32
    torch.testing.assert_close(seen.prefix.sum(-1) + seen.lags.sum(-1), torch.ones(2, 2, FRAMES))
    torch.testing.assert_close(seen.logits, model.forward(codes, condition), atol=0.3, rtol=0)


def test_memory_does_not_grow() -> None:
    model = language_model()
    codes, condition = given(model, 4)
    maps = AttentionMaps(model, condition.prefix)
    memory_is_constant(maps, lambda: maps.read(codes, condition.lanes), times=60)
