from __future__ import annotations

import pytest
import torch

from audiogen.codec.gaussian import GaussianBottleneck
from audiogen.interfaces import AudiogenError


def test_the_cost_is_the_divergence_from_a_standard_normal() -> None:
    """Against PyTorch's own formula."""
    from torch.distributions import Normal, kl_divergence

    torch.manual_seed(0)
    moments = torch.randn(2, 5, 16)
    mean, log_variance = moments.chunk(2, -1)
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).mean()
    torch.testing.assert_close(GaussianBottleneck(8)(moments, torch.zeros(2)).cost, expected)


def test_training_draws_and_use_takes_the_mean() -> None:
    torch.manual_seed(0)
    moments = torch.cat([torch.full((1, 4000, 4), 0.5), torch.full((1, 4000, 4), -2.0)], 2)
    bottleneck = GaussianBottleneck(4)
    drawn = bottleneck(moments, torch.zeros(1)).latents
    assert float(drawn.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(drawn.std()) == pytest.approx(torch.tensor(-1.0).exp().item(), rel=0.03)
    assert torch.equal(bottleneck.eval()(moments, torch.zeros(1)).latents, moments[..., :4])


def test_there_are_no_codes() -> None:
    with pytest.raises(AudiogenError, match="Gaussian bottleneck, so latents and no codes"):
        GaussianBottleneck(4).encode(torch.zeros(1, 2, 8))
