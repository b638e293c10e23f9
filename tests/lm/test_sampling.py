from __future__ import annotations

import pytest
import torch
from torch import Tensor

from audiogen.interfaces import AudiogenError
from audiogen.lm.sampling import Sampling, draw, draw_each, guide, uniform


def numbers(count: int, seed: int = 0) -> Tensor:
    return uniform(torch.tensor(seed), torch.arange(count), 1)[:, 0]


def test_guidance() -> None:
    prompted, plain = torch.randn(1, 3, 5), torch.randn(1, 3, 5)
    both = torch.cat([prompted, plain])
    torch.testing.assert_close(guide(both, 1.0), prompted)
    torch.testing.assert_close(guide(both, 0.0), plain)
    torch.testing.assert_close(guide(both, 3.0), 3 * prompted - 2 * plain)


def test_numbers_are_a_pure_function_of_seed_and_draw() -> None:
    whole = uniform(torch.tensor(7), torch.arange(1000), 12)
    assert whole.shape == (1000, 12) and whole.dtype == torch.float64
    assert torch.equal(uniform(torch.tensor(7), torch.arange(400, 500), 5), whole[400:500, :5])
    assert float(whole.min()) >= 0 and float(whole.max()) < 1 and whole.unique().numel() == whole.numel()
    other = uniform(torch.tensor([8, 2**63 - 1])[:, None], torch.arange(1000), 12)
    for flat in (whole.flatten(), other[0].flatten(), other[1].flatten()):
        assert abs(float(flat.mean()) - 0.5) < 0.01 and abs(float(flat.var()) - 1 / 12) < 0.003
        counts = torch.histc(flat.float(), 16, 0, 1)
        assert float(((counts - 750) ** 2 / 750).sum()) < 40  # chi-square of 15 degrees, p = 0.0005
        assert abs(float(torch.corrcoef(torch.stack([flat[:-1], flat[1:]]))[0, 1])) < 0.04
    assert abs(float(torch.corrcoef(torch.stack([whole.flatten(), other[0].flatten()]))[0, 1])) < 0.04


def test_greedy_and_the_best_one_are_the_same() -> None:
    logits = torch.randn(12, 64, generator=torch.Generator().manual_seed(1))
    greedy = draw(logits, Sampling(temperature=0), numbers(12))
    assert torch.equal(greedy, logits.argmax(1))
    assert torch.equal(draw(logits, Sampling(top_k=1), numbers(12)), greedy)
    assert torch.equal(draw(logits, Sampling(top_p=1e-6), numbers(12)), greedy)
    assert torch.equal(draw(logits, Sampling(temperature=1e-4), numbers(12)), greedy)


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p", "shares"),
    [
        (1.0, 200, 1.0, [0.1, 0.2, 0.3, 0.4]),
        (1.0, 4, 1.0, [0.1, 0.2, 0.3, 0.4]),
        (1.0, 2, 1.0, [0.0, 0.0, 3 / 7, 4 / 7]),
        (0.5, 4, 1.0, [1 / 30, 4 / 30, 9 / 30, 16 / 30]),
        (1.0, 4, 0.65, [0.0, 0.0, 3 / 7, 4 / 7]),
        (1.0, 4, 0.75, [0.0, 2 / 9, 3 / 9, 4 / 9]),
        (1.0, 2, 0.5, [0.0, 0.0, 0.0, 1.0]),  # of what top-k leaves, 4 / 7 is enough
    ],
)
def test_distribution(temperature: float, top_k: int, top_p: float, shares: list[float]) -> None:
    logits = torch.tensor([0.1, 0.2, 0.3, 0.4]).log().expand(20_000, -1)
    drawn = draw(logits, Sampling(temperature=temperature, top_k=top_k, top_p=top_p), numbers(20_000))
    found = torch.bincount(drawn, minlength=4) / len(drawn)
    torch.testing.assert_close(found, torch.tensor(shares), atol=0.015, rtol=0)


def test_rows_with_settings_of_their_own() -> None:
    logits = torch.randn(4, 3, 32, generator=torch.Generator().manual_seed(2))
    told = [Sampling(temperature=0), Sampling(top_k=5), Sampling(top_p=0.5), Sampling(temperature=2.0, top_k=40)]
    number = uniform(torch.arange(4), torch.arange(4), 3)
    columns = [torch.tensor([[getattr(s, name)] for s in told]) for name in ("temperature", "top_k", "top_p")]
    together = draw_each(logits, *columns, number)
    for row, sampling in enumerate(told):
        assert torch.equal(together[row], draw(logits[row], sampling, number[row]))


def test_impossible_codes_are_never_drawn() -> None:
    logits = torch.full((5000, 8), float("-inf"))
    logits[:, [2, 6]] = 0.0
    assert set(draw(logits, Sampling(), numbers(5000)).tolist()) == {2, 6}


@pytest.mark.parametrize(
    "changes", [{"guidance": -1}, {"temperature": 9}, {"top_k": 0}, {"guidance": float("nan")}, {"top_p": 0}]
)
def test_settings_out_of_range_are_named(changes: dict[str, float]) -> None:
    with pytest.raises(AudiogenError, match=next(iter(changes))):
        Sampling.build(changes, "the command line")
