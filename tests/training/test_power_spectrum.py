from __future__ import annotations

import pytest
import torch

from audiogen.training.power_spectrum import PowerSpectrum


@pytest.mark.parametrize("bins", [9, 5, 1])
@pytest.mark.parametrize("samples", [16, 43])
def test_power_spectrum(bins: int, samples: int) -> None:
    x = torch.randn(2, samples, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    window = torch.hann_window(16, dtype=torch.float64)
    reference = torch.stft(x, 16, 4, window=window, center=False, return_complex=True).abs().square()
    torch.testing.assert_close(PowerSpectrum.apply(x, window, bins), reference.transpose(1, 2)[..., :bins])
    assert torch.autograd.gradcheck(lambda value: PowerSpectrum.apply(value, window, bins), (x,))
