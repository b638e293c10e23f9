"""Causal building blocks with explicit state: offline is the same call with a fresh state.

Tensors are channel-last, `[B, T, D]`, so that the linear layers, where the time goes, need no transposition.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiogen.codec.few import FewRowsBlock

State = list[Tensor]
"""One tensor a layer, in the order of the layers; owned by the caller."""

_FEW = 4096
"""up to so many values the number of operations decides how long they take, not the arithmetic"""


def gelu(x: Tensor) -> Tensor:
    """GELU in its tanh form (Hendrycks and Gimpel 2016, §2), without gradient: x · sigmoid(√(8/π) (x + 0.044715 x³)).

    On a CPU PyTorch's own takes three times as long as these four passes, and rounds otherwise by 1e-7.
    """
    if x.is_cuda or x.numel() <= _FEW:
        return F.gelu(x, approximate="tanh")
    slope = x.new_full((), math.sqrt(8 / math.pi))
    return torch.addcmul(slope, x, x, value=0.044715 * math.sqrt(8 / math.pi)).mul_(x).sigmoid_().mul_(x)


def depthwise(seen: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A convolution of each dimension with its own taps, on a CPU without gradient: `[B, T + k - 1, D]`, `[D, 1, k]`,
    `[D]` → `[B, T, D]`."""
    if seen.numel() <= _FEW:
        return (seen.unfold(1, weight.shape[2], 1) * weight[:, 0]).sum(3) + bias
    image = seen.transpose(1, 2)[:, :, None]  # to a 2-d convolution this is channel-last; a 1-d one would transpose it
    kernel = weight[:, :, None].contiguous(memory_format=torch.channels_last)
    return F.conv2d(image, kernel, bias, groups=len(weight))[:, :, 0].transpose(1, 2)


class CausalConvNeXt(nn.Module):
    """ConvNeXt block (Liu et al. 2022, fig. 4) with a depthwise convolution that sees only the past.

    Its state is the last `kernel_size - 1` input frames, `[B, kernel_size - 1, D]`. A `quick` block, as in a decoder,
    takes the quickest way where no gradient is asked for, and the last bits differ; one in an encoder does not, since a
    code may hang on the last bit.
    """

    def __init__(self, dim: int, hidden: int, kernel_size: int = 7, quick: bool = False) -> None:
        super().__init__()
        self.kernel_size, self.quick = kernel_size, quick
        self.mix = nn.Conv1d(dim, dim, kernel_size, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, hidden)
        self.down = nn.Linear(hidden, dim)
        self.scale = nn.Parameter(torch.full((dim,), 0.1))
        self._few: FewRowsBlock | None = None

    def settle(self) -> None:
        """The weights stay as they are now: a single frame may take a quicker way."""
        self._few = FewRowsBlock(self.mix, self.norm, self.up, self.down, self.scale)

    def init_state(self, batch_size: int) -> Tensor:
        return self.scale.new_zeros(batch_size, self.kernel_size - 1, self.mix.in_channels)

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """`[B, T, D]` and the state → output of the same shape and the next state."""
        seen = torch.cat([past.to(x.dtype), x], dim=1)
        if self.quick and not (seen.is_cuda or torch.is_grad_enabled()):
            following = seen[:, seen.shape[1] - self.kernel_size + 1 :]
            if self._few and (made := self._few(seen, x.shape[1])) is not None:
                return made, following
            assert self.mix.bias is not None
            y = self.down(gelu(self.up(self.norm(depthwise(seen, self.mix.weight, self.mix.bias)))))
        else:
            y = self.mix(seen.transpose(1, 2)).transpose(1, 2)
            y = self.down(F.gelu(self.up(self.norm(y)), approximate="tanh"))
        return torch.addcmul(x, self.scale, y), seen[:, seen.shape[1] - self.kernel_size + 1 :]


class ConvNeXtStack(nn.Module):
    """A row of blocks at one frame rate."""

    def __init__(self, dim: int, depth: int, expansion: int, quick: bool = False) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(CausalConvNeXt(dim, dim * expansion, quick=quick) for _ in range(depth))

    def init_state(self, batch_size: int) -> State:
        return [block.init_state(batch_size) for block in self.blocks]  # type: ignore[operator]

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """`[B, T, D]` and one state tensor a block → the same."""
        following: State = []
        for block, past in zip(self.blocks, state, strict=True):
            x, new = block(x, past)
            following.append(new)
        return x, following
