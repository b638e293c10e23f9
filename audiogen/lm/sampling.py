"""From logits to codes: guidance, temperature, top-k; randomness that belongs to the clip alone."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from audiogen.config import Config


class Sampling(Config):
    """How codes are drawn. Temperature 0 is greedy; guidance 1 asks the model once a step, anything else twice."""

    guidance: float = Field(default=2.0, ge=0.0, le=20.0)
    temperature: float = Field(default=0.85, ge=0.0, le=5.0)
    top_k: int = Field(default=100, ge=1)


def guide(logits: Tensor, guidance: float) -> Tensor:
    """Classifier-free guidance (Ho and Salimans 2022, eq. 6): `[2, …]`, with prompt and without → `[1, …]`."""
    prompted, plain = logits.chunk(2)
    return plain + guidance * (prompted - plain)


def draw(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> Tensor:
    """Logits `[K, V]` → codes int64 `[K]`. Takes exactly K uniform numbers from `generator`, whatever the settings."""
    uniform = torch.rand(logits.shape[0], 1, generator=generator, dtype=torch.float64)
    if sampling.temperature == 0:
        return logits.argmax(-1)
    top, index = logits.float().topk(min(sampling.top_k, logits.shape[1]), dim=-1)
    share = torch.softmax(top.double() / sampling.temperature, -1).cumsum(-1)
    chosen = (share < uniform * share[:, -1:]).sum(-1, keepdim=True).clamp_max(share.shape[1] - 1)
    return index.gather(1, chosen)[:, 0]
