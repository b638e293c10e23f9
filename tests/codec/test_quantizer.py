from __future__ import annotations

import pytest
import torch
from torch import Tensor

from audiogen.codec.quantizer import ResidualVectorQuantizer, perplexity


def clusters(count: int = 1600, dim: int = 6, seed: int = 0) -> Tensor:
    """Latents around 16 centres: `[N, D]`."""
    random = torch.Generator().manual_seed(seed)
    centres = 4 * torch.randn(16, dim, generator=torch.Generator().manual_seed(99))
    near = torch.randint(0, 16, (count,), generator=random)
    return centres[near] + 0.1 * torch.randn(count, dim, generator=random)


@pytest.fixture
def quantizer() -> ResidualVectorQuantizer:
    torch.manual_seed(0)
    made = ResidualVectorQuantizer(3, 16, 6)
    made.start_from(clusters())
    return made.eval()


def test_codebooks_start_from_data_and_each_takes_more_of_it(quantizer: ResidualVectorQuantizer) -> None:
    x = clusters(seed=1)[None]
    codes = quantizer.encode(x)
    assert bool(quantizer.started)
    errors = [float((quantizer.decode(codes[:, :k]) - x).square().mean()) for k in (1, 2, 3)]
    assert errors[0] < 0.3 * float(x.var())  # random entries would do worse than the mean
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.02 * float(x.var())
    torch.testing.assert_close(quantizer.counts.mean(1), torch.ones(3))
    torch.testing.assert_close(quantizer.sums / quantizer.counts[:, :, None], quantizer.codebooks)


def test_too_few_latents_cannot_start() -> None:
    with pytest.raises(ValueError, match=r"15 latents.*16 entries"):
        ResidualVectorQuantizer(1, 16, 6).start_from(torch.randn(15, 6))


def test_training_follows_the_data(quantizer: ResidualVectorQuantizer) -> None:
    x = clusters(400)[None] + 1.0  # everything moved
    levels = torch.tensor([3])
    before = float(quantizer(x, levels).cost)
    quantizer.train()
    for _ in range(150):
        quantizer(x, levels)
    quantizer.eval()
    assert float(quantizer(x, levels).cost) < 0.5 * before


def test_an_entry_nobody_uses_takes_half_of_the_one_that_leaves_the_most(quantizer: ResidualVectorQuantizer) -> None:
    """Silence, however common, is one entry: a second one would gain nothing."""
    quiet = torch.zeros(800, 6)
    wide = torch.full((200, 6), 9.0) + torch.randn(200, 6)
    quantizer.train()
    for _ in range(300):
        quantizer(torch.cat([quiet, wide])[None], torch.tensor([3]))
    codes = quantizer.eval().encode(torch.cat([quiet, wide])[None])[0, 0]
    assert len(codes[:800].unique()) == 1 and len(codes[800:].unique()) > 3


def test_an_entry_nobody_uses_is_found_anew(quantizer: ResidualVectorQuantizer) -> None:
    x = clusters(400)[None]
    quantizer.codebooks[0, 5] = 1000.0
    quantizer.sums[0, 5] = 1000.0 * quantizer.counts[0, 5]
    quantizer.train()
    for _ in range(60):
        quantizer(x, torch.tensor([3]))
    assert float(quantizer.codebooks[0].abs().max()) < 1.1 * float(x.abs().max())


def test_levels_are_what_fewer_codebooks_decode(quantizer: ResidualVectorQuantizer) -> None:
    x = clusters(60).view(3, 20, 6)
    done = quantizer(x, torch.tensor([1, 2, 3]))
    assert torch.equal(done.codes, quantizer.encode(x))
    for item, k in enumerate((1, 2, 3)):
        decoded = quantizer.decode(done.codes[item : item + 1, :k])
        torch.testing.assert_close(done.latents[item : item + 1], decoded, atol=1e-5, rtol=0)
    left = x - torch.cat([quantizer.codebooks[0][done.codes[:, 0]]])
    assert float(quantizer(x, torch.tensor([1, 1, 1])).cost) == pytest.approx(float(left.square().mean()) / 3)


def test_gradients_pass_straight_through_and_evaluation_changes_nothing(quantizer: ResidualVectorQuantizer) -> None:
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    x = clusters(20)[None].requires_grad_()
    done = quantizer(x, torch.tensor([2]))
    (slope,) = torch.autograd.grad(done.latents.sum(), x, retain_graph=True)
    torch.testing.assert_close(slope, torch.ones_like(slope))
    (pull,) = torch.autograd.grad(done.cost, x)
    assert float(pull.abs().max()) > 0
    for name, value in quantizer.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_perplexity_counts_the_entries_in_use() -> None:
    codes = torch.stack([torch.arange(64) % 8, torch.zeros(64, dtype=torch.long), torch.arange(64) % 64])[None]
    torch.testing.assert_close(perplexity(codes, 64), torch.tensor([8.0, 1.0, 64.0]))
