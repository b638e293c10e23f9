from __future__ import annotations

import pytest
import torch

from audiogen.interfaces import AudiogenError
from audiogen.lm.sampling import Sampling, draw, guide


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_guidance() -> None:
    prompted, plain = torch.randn(1, 3, 5), torch.randn(1, 3, 5)
    both = torch.cat([prompted, plain])
    torch.testing.assert_close(guide(both, 1.0), prompted)
    torch.testing.assert_close(guide(both, 0.0), plain)
    torch.testing.assert_close(guide(both, 3.0), 3 * prompted - 2 * plain)


def test_greedy_and_the_best_one_are_the_same() -> None:
    logits = torch.randn(12, 64, generator=random(1))
    greedy = draw(logits, Sampling(temperature=0), random())
    assert torch.equal(greedy, logits.argmax(1))
    assert torch.equal(draw(logits, Sampling(top_k=1), random()), greedy)
    assert torch.equal(draw(logits, Sampling(temperature=1e-4), random()), greedy)


@pytest.mark.parametrize(
    "sampling", [Sampling(temperature=0), Sampling(top_k=1), Sampling(top_k=5), Sampling(temperature=5.0)]
)
def test_each_draw_takes_one_uniform_number_a_codebook(sampling: Sampling) -> None:
    used, expected = random(3), random(3)
    draw(torch.randn(12, 64), sampling, used)
    torch.rand(12, 1, generator=expected, dtype=torch.float64)
    assert torch.equal(used.get_state(), expected.get_state())


@pytest.mark.parametrize(
    ("temperature", "top_k", "shares"),
    [
        (1.0, 200, [0.1, 0.2, 0.3, 0.4]),
        (1.0, 4, [0.1, 0.2, 0.3, 0.4]),
        (1.0, 2, [0.0, 0.0, 3 / 7, 4 / 7]),
        (0.5, 4, [1 / 30, 4 / 30, 9 / 30, 16 / 30]),
    ],
)
def test_distribution(temperature: float, top_k: int, shares: list[float]) -> None:
    logits = torch.tensor([0.1, 0.2, 0.3, 0.4]).log().expand(20_000, -1)
    drawn = draw(logits, Sampling(temperature=temperature, top_k=top_k), random())
    found = torch.bincount(drawn, minlength=4) / len(drawn)
    torch.testing.assert_close(found, torch.tensor(shares), atol=0.015, rtol=0)


def test_impossible_codes_are_never_drawn() -> None:
    logits = torch.full((5000, 8), float("-inf"))
    logits[:, [2, 6]] = 0.0
    assert set(draw(logits, Sampling(), random()).tolist()) == {2, 6}


@pytest.mark.parametrize("changes", [{"guidance": -1}, {"temperature": 9}, {"top_k": 0}, {"guidance": float("nan")}])
def test_settings_out_of_range_are_named(changes: dict[str, float]) -> None:
    with pytest.raises(AudiogenError, match=next(iter(changes))):
        Sampling.build(changes, "the command line")
