"""From logits to codes: guidance, temperature, top-k, top-p; randomness that belongs to the clip alone.

`kernel.c` does the same on the CPU, number for number.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from audiogen.config import Config

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # as a signed number of 64 bits; products wrap around
_MIX = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)


class Sampling(Config):
    """How codes are drawn. Temperature 0 is greedy; guidance 1 asks the model once a step, anything else twice."""

    guidance: float = Field(default=3.0, ge=0.0, le=20.0)
    temperature: float = Field(default=0.9, ge=0.0, le=5.0)
    top_k: int = Field(default=100, ge=1)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    """of what top-k leaves, the likeliest codes that hold this share of the probability"""


def guide(logits: Tensor, guidance: Tensor | float) -> Tensor:
    """Classifier-free guidance (Ho and Salimans 2022, eq. 6): `[2, …]`, with prompt and without → `[1, …]`."""
    prompted, plain = logits.chunk(2)
    return plain + guidance * (prompted - plain)


def uniform(seed: Tensor, draw: Tensor, books: int) -> Tensor:
    """Random numbers in [0, 1) that are a pure function of seed and draw, int64 `[…]` → float64 `[…, books]`.

    The generator is splitmix64 (Steele et al. 2014) as a hash of a counter, so no state travels with a stream.
    """
    counter = draw[..., None] * 64 + torch.arange(1, books + 1, device=draw.device)
    return _shifted(_mixed(_mixed(seed + _GOLDEN)[..., None] + counter * _GOLDEN), 11).double() * 2.0**-53


def _mixed(z: Tensor) -> Tensor:
    z = (z ^ _shifted(z, 30)) * _MIX[0]
    z = (z ^ _shifted(z, 27)) * _MIX[1]
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, by: int) -> Tensor:
    """A logical shift to the right."""
    return (z >> by) & ((1 << (64 - by)) - 1)


def draw(logits: Tensor, sampling: Sampling, number: Tensor) -> Tensor:
    """Guided logits `[…, V]` and a number in [0, 1) for each, float64 `[…]` → codes int64 `[…]`.

    Of equally likely codes at the edge of top-k or top-p all stay. The code is where the running sum of the weights,
    in the order of the codes, passes the number.
    """
    if sampling.temperature == 0:
        return logits.argmax(-1)
    device = logits.device
    return draw_each(
        logits,
        torch.tensor(sampling.temperature, device=device),
        torch.tensor(sampling.top_k, device=device),
        torch.tensor(sampling.top_p, device=device),
        number,
    )


def draw_each(logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, number: Tensor) -> Tensor:
    """`draw` with settings of their own for each row, shapes that broadcast with `[…]`; nothing waits for the host."""
    logits = logits.float()
    ordered = logits.sort(-1, descending=True)[0]
    top, size = ordered[..., :1], logits.shape[-1]
    greedy = temperature <= 0
    by = torch.where(greedy, 1.0, temperature)[..., None]
    last = (top_k - 1).clamp(max=size - 1).expand(logits.shape[:-1])[..., None]
    floor = ordered.gather(-1, last)
    weights = torch.where(ordered >= floor, ((ordered - top) / by).exp(), 0).double()
    before = weights.cumsum(-1) - weights
    kept = before < top_p[..., None] * weights.sum(-1, keepdim=True)
    floor = torch.maximum(floor, torch.where(kept, ordered, float("inf")).amin(-1, keepdim=True))
    share = torch.where(logits >= floor, ((logits - top) / by).exp(), 0).double().cumsum(-1)
    found = (share <= number[..., None] * share[..., -1:]).sum(-1).clamp(max=size - 1)
    return torch.where(greedy, logits.argmax(-1), found)
