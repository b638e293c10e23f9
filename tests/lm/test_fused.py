"""Training's passes by hand against autograd of the plain spelling."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny import LM
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from audiogen.compiler import NoKernel
from audiogen.interfaces import Attributes, Condition, Prompt
from audiogen.lm import fused
from audiogen.lm.model import MusicLM, MusicLMConfig
from audiogen.lm.score import NUM_LANES
from audiogen.lm.transformer import TransformerConfig

IGNORED = -100
WIDE = MusicLMConfig(
    num_codebooks=2, codebook_size=64, code_dim=8,
    transformer=TransformerConfig(dim=192, depth=2, heads=3, kv_heads=1, hidden=160, window_frames=40),
)  # fmt: skip
SHAPES = pytest.mark.parametrize("config", [LM, WIDE], ids=["narrow heads", "wide heads"])
FRAMES = 70
PROMPTS = [Prompt("calm", Attributes(moods=("calm",))), None]

pytestmark = pytest.mark.skipif(isinstance(fused.fused(), NoKernel), reason="no C compiler here")


def model_of(config: MusicLMConfig) -> tuple[MusicLM, dict[str, Tensor]]:
    torch.manual_seed(5)
    model = MusicLM(config)
    for name, weight in model.named_parameters():
        if weight.ndim == 2 and name.startswith("transformer"):
            torch.nn.init.normal_(weight, std=weight.shape[1] ** -0.5)  # every part of a block is heard
        elif weight.ndim == 1 and "norm" in name:
            torch.nn.init.normal_(weight, 1.0, 0.2)
    shape = (2, config.num_codebooks, FRAMES)
    targets = torch.randint(config.codebook_size, shape)
    targets[0, 0, :9] = IGNORED
    told = {"codes": torch.randint(config.codebook_size, shape), "targets": targets}
    return model, told | {"lanes": torch.randn(2, FRAMES, NUM_LANES)}


def learned(model: MusicLM, told: dict[str, Tensor], half: bool = True) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross-entropy of each codebook, and the gradient of every weight of a mixture of them."""
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        condition = Condition(model.prefix.encode(PROMPTS), told["lanes"])
        sums = model.cross_entropy(told["codes"], condition, told["targets"], IGNORED)
    (sums * torch.linspace(0.5, 1.5, len(sums))).sum().backward()
    return sums.detach(), {n: w.grad.clone() for n, w in model.named_parameters() if w.grad is not None}


def plainly(do: Callable[[], Any]) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused, "serves", lambda *_: False)
        return do()


def apart(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@SHAPES
def test_no_further_from_float32_than_the_plain_spelling(config: MusicLMConfig) -> None:
    model, told = model_of(config)
    exact, wanted = learned(model, told, half=False)
    sums, found = learned(model, told)
    plain_sums, plain = plainly(lambda: learned(model, told))
    assert apart(sums, exact) < max(1e-3, 1.5 * apart(plain_sums, exact))
    assert found.keys() == wanted.keys()
    for name, gradient in found.items():
        error, usual = apart(gradient, wanted[name]), apart(plain[name], wanted[name])
        assert error < 1.3 * usual + 2e-3 and error < 0.08, (name, error, usual)


def test_a_plain_sum_of_the_codebooks_has_its_gradient() -> None:
    """What a sum sends back is one number, seen as many."""
    wide = torch.randn(2, 5, 32).requires_grad_()
    heads = torch.randn(3 * 16, 32).requires_grad_()
    targets = torch.randint(16, (2, 3, 5))
    found, wanted = [], []
    for gradients, sums in (
        (found, fused.cross_entropy(wide, heads, targets, IGNORED)),
        (
            wanted,
            F.cross_entropy((wide @ heads.T).view(2, 5, 3, 16).flatten(0, 2), targets.mT.flatten(), reduction="sum"),
        ),
    ):
        gradients += torch.autograd.grad(sums.sum(), (wide, heads))
    for mine, exact in zip(found, wanted, strict=True):
        assert apart(mine, exact) < 1e-2


def test_attention_sees_the_prefix_and_the_window() -> None:
    generator = torch.Generator().manual_seed(1)
    for heads, kv_heads, count, size, prefix, window in (
        (4, 2, 20, 8, 3, 8),
        (3, 1, 150, 40, 37, 45),
        (2, 2, 64, 64, 1, 99),
    ):
        q, k, v = (torch.randn(2, n, count, size, generator=generator).bfloat16() for n in (heads, kv_heads, kv_heads))
        exact = [part.double().requires_grad_() for part in (q, k, v)]
        place = torch.arange(count)
        query, key = place[:, None], place[None]
        seen = (key < prefix) | ((query >= prefix) & (key <= query) & (key > query - window))
        keys, values = (part.repeat_interleave(heads // kv_heads, 1) for part in exact[1:])
        scores = (exact[0] @ keys.mT).masked_fill(~seen, -math.inf)
        mixed, total = fused._attend(q, k, v, prefix, window)
        assert apart(mixed, (scores.softmax(-1) @ values).detach()) < 4e-3
        assert torch.allclose(total.double(), scores.logsumexp(-1), atol=1e-4)


@SHAPES
def test_the_number_of_threads_changes_nothing(config: MusicLMConfig) -> None:
    torch.manual_seed(2)
    q, k, v = (torch.randn(3, heads, 90, 32).bfloat16() for heads in (4, 2, 2))
    rows, gain, dy = torch.randn(300, 64), torch.randn(64), torch.randn(300, 64).bfloat16()
    found, threads = [], torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            _, y, turned, inverse = fused._normed(rows, gain)
            made = [*fused._attend(q, k, v, 5, 40), y, turned[:, :300], *fused._norm_gradient(dy, rows, inverse, gain)]
            found.append(made)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert torch.equal(found[0][3], found[0][2].T)


def test_blocks_computed_again_give_the_same_gradients() -> None:
    model, told = model_of(LM)
    sums, wanted = learned(model, told)
    again = copy.deepcopy(model)
    for block in again.transformer.blocks:
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)
    found_sums, found = learned(again, told)
    assert torch.equal(sums, found_sums) and all(torch.equal(found[name], wanted[name]) for name in wanted)


@SHAPES
def test_attention_is_counted(config: MusicLMConfig) -> None:
    model, told = model_of(config)
    condition = Condition(model.prefix.encode(PROMPTS).detach(), told["lanes"])

    def count() -> int:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), FlopCounterMode(display=False) as counter:
            model.cross_entropy(told["codes"], condition, told["targets"], IGNORED)
        return int(counter.get_total_flops())

    sizes, rows = config.transformer, FRAMES + model.prefix.length
    mask = model.transformer._mask(model.prefix.length, FRAMES, torch.device("cpu"))
    pairs = 4 * 2 * sizes.dim * sizes.depth
    others = plainly(count) - _plain_attention(sizes, model.prefix.length, mask)
    assert others + pairs * int(mask.sum()) < count() < others + pairs * (rows + 64) ** 2


def _plain_attention(sizes: TransformerConfig, prefix: int, mask: Tensor) -> int:
    """Of all queries with all keys: fewer than one stretch."""
    return 4 * 2 * sizes.dim * sizes.depth * int(mask.any(0).sum()) * len(mask)


def test_only_where_it_is_meant_to() -> None:
    x = torch.zeros(2, 32)
    assert not fused.serves(x, 32)  # float32
    with torch.autocast("cpu", torch.float16):
        assert not fused.serves(x, 32)
    with torch.autocast("cpu", torch.bfloat16):
        assert fused.serves(x, 32) and not fused.serves(x, 32, 40) and not fused.serves(x.to("meta"), 32)


def test_what_is_not_a_number_stays_so() -> None:
    model, told = model_of(LM)
    with torch.no_grad():
        model.transformer.blocks[0].attention.qkv.weight[0, 0] = math.nan  # type: ignore[union-attr, operator, index]
    sums, _ = learned(model, told)
    assert sums.isnan().all()
