"""Causal building blocks with explicit state: offline is the same call with a fresh state.

Tensors are channel-last, `[B, T, D]`, so that the linear layers, where the time goes, need no transposition.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

State = list[Tensor]
"""One tensor a layer, in the order of the layers; owned by the caller."""


class CausalConvNeXt(nn.Module):
    """ConvNeXt block (Liu et al. 2022, fig. 4) with a depthwise convolution that sees only the past.

    Its state is the last `kernel_size - 1` input frames, `[B, kernel_size - 1, D]`.
    """

    def __init__(self, dim: int, hidden: int, kernel_size: int = 7) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.mix = nn.Conv1d(dim, dim, kernel_size, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, hidden)
        self.down = nn.Linear(hidden, dim)
        self.scale = nn.Parameter(torch.full((dim,), 0.1))

    def init_state(self, batch_size: int) -> Tensor:
        return self.scale.new_zeros(batch_size, self.kernel_size - 1, self.mix.in_channels)

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """`[B, T, D]` and the state → output of the same shape and the next state."""
        seen = torch.cat([past.to(x.dtype), x], dim=1)
        y = self.mix(seen.transpose(1, 2)).transpose(1, 2)
        y = self.down(F.gelu(self.up(self.norm(y)), approximate="tanh"))
        return torch.addcmul(x, self.scale, y), seen[:, seen.shape[1] - self.kernel_size + 1 :]


class ConvNeXtStack(nn.Module):
    """A row of blocks at one frame rate."""

    def __init__(self, dim: int, depth: int, expansion: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(CausalConvNeXt(dim, dim * expansion) for _ in range(depth))

    def init_state(self, batch_size: int) -> State:
        return [block.init_state(batch_size) for block in self.blocks]  # type: ignore[operator]

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """`[B, T, D]` and one state tensor a block → the same."""
        following: State = []
        for block, past in zip(self.blocks, state, strict=True):
            x, new = block(x, past)
            following.append(new)
        return x, following
