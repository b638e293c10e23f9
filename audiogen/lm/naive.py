"""The slowest right way to sample a MusicLM: the whole sequence through `forward` for each step.

Kept as the reference for `CodeStream`, which must give the same codes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from audiogen.interfaces import Condition
from audiogen.lm.delay import undo_delay
from audiogen.lm.model import MusicLM
from audiogen.lm.sampling import Sampling, draw, guide, uniform


@torch.inference_mode()
def generate_naively(
    model: MusicLM, prefix: Tensor, lanes: Tensor, frames: int, sampling: Sampling, seed: int
) -> Tensor:
    """Prefix `[2, L, D]`, lanes `[frames + K - 1, N]` → codes int64 `[1, K, frames]`, with guidance."""
    config = model.config
    steps = frames + config.num_codebooks - 1
    sequence = torch.full((1, config.num_codebooks, steps + 1), config.pad)
    both = torch.stack([lanes, torch.zeros_like(lanes)])
    for step in range(steps):
        condition = Condition(prefix, both[:, : step + 1])
        logits = model.forward(sequence[:, :, : step + 1].expand(2, -1, -1), condition)[:, :, -1]
        numbers = uniform(torch.tensor(seed), torch.tensor(step), config.num_codebooks)
        drawn = draw(guide(logits, sampling.guidance)[0], sampling, numbers)
        drawn[step + 1 :] = config.pad
        sequence[0, :, step + 1] = drawn
    return undo_delay(sequence[:, :, 1:])
