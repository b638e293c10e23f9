"""A continuous bottleneck in place of the quantiser: each frame a point of a standard normal, as far as that pays.

Variational autoencoder: Kingma and Welling 2014, §2.4 and appendix B.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiogen.codec.quantizer import Bottled
from audiogen.interfaces import AudiogenError


class GaussianBottleneck(nn.Module):
    """Means and log-variances `[B, T, 2 · D]` → a draw `[B, T, D]`; has no codes."""

    started: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.input_dim = 2 * dim
        self.register_buffer("started", torch.ones((), dtype=torch.bool))

    def forward(self, moments: Tensor, levels: Tensor) -> Bottled:
        """In training a draw, else the mean; `levels` is for quantisers. The cost is the divergence from a standard
        normal in nats, the mean over dimensions."""
        mean, log_variance = moments.float().chunk(2, -1)
        log_variance = log_variance.clamp(-12.0, 6.0)
        cost = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).mean()
        latents = mean + (0.5 * log_variance).exp() * torch.randn_like(mean) if self.training else mean
        codes = torch.zeros(mean.shape[0], 0, mean.shape[1], dtype=torch.long, device=mean.device)
        return Bottled(latents, codes, cost)

    def encode(self, latents: Tensor) -> Tensor:
        """Raises AudiogenError: there is nothing to quantise with."""
        raise AudiogenError(
            "this codec has a Gaussian bottleneck, so latents and no codes; `audiogen morph` uses it, and codes need a "
            'codec trained with bottleneck = "quantizer"'
        )

    decode = encode
