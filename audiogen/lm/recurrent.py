"""An LSTM in the Transformer's place: the classic baseline, whose memory of a stream is a handful of vectors.

Residual layers, each normalised before (Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000). The
prefix has no order in time: its tokens are heard as a set (Zaheer et al. 2017) and what they say joins every frame, so
a long clip does not forget its prompt and another prompt takes effect with the next frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from audiogen.config import Config


class RecurrentConfig(Config):
    """Sizes of the LSTM; these hold as many weights as the Transformer's."""

    dim: int = Field(default=384, gt=0)
    depth: int = Field(default=2, gt=0)
    hidden: int = Field(default=1024, gt=0)
    """cells a layer"""


@dataclass
class RecurrentState:
    """What the prefix says `[B, 1, D]`; outputs and cells `[B, 1, H]` a layer, the cells in float32: in bfloat16 a
    cell that forgets less than 1 in 256 a frame would forget nothing."""

    told: Tensor
    hidden: list[Tensor]
    cells: list[Tensor]


class Layer(nn.Module):
    """One layer of cells. Its weights are linear layers, as the optimiser knows them; the gates lie in PyTorch's order:
    input, forget, candidate, output. The forget gates begin open (Jozefowicz et al. 2015)."""

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(config.dim, eps=1e-6)
        self.inputs = nn.Linear(config.dim, 4 * config.hidden)
        self.back = nn.Linear(config.hidden, 4 * config.hidden, bias=False)
        self.out = nn.Linear(config.hidden, config.dim, bias=False)
        nn.init.zeros_(self.inputs.bias)
        nn.init.ones_(self.inputs.bias[config.hidden : 2 * config.hidden])

    def forward(self, x: Tensor) -> Tensor:
        """Frames `[B, T, D]` from an empty memory → what to add to them.

        In float32 under autocast too, so that training sees the cells that `step` has; on the CPU it takes no longer.
        """
        with torch.autocast(x.device.type, enabled=False):
            normed = self.norm(x).float()
            empty = normed.new_zeros(1, x.shape[0], self.back.in_features)
            weights = [part.float() for part in (self.inputs.weight, self.back.weight, self.inputs.bias)]
            parts = [*weights, torch.zeros_like(weights[-1])]  # the function wants a second bias
            learns = torch.is_grad_enabled()
            hidden, _, _ = torch.lstm(normed, (empty, empty), parts, True, 1, 0.0, learns, False, True)
        return self.out(hidden.to(x.dtype))

    def step(self, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One frame `[B, 1, D]`, output and cell `[B, 1, H]` of the last → what to add to it, output, cell."""
        take, keep, candidate, give = (self.inputs(self.norm(x)) + self.back(hidden)).float().chunk(4, -1)
        cell = keep.sigmoid() * cell + take.sigmoid() * candidate.tanh()
        hidden = (give.sigmoid() * cell.tanh()).to(x.dtype)
        return self.out(hidden), hidden, cell


class Recurrent(nn.Module):
    """Hidden states of frames under a prefix; `step` repeated equals `forward`. The same calls as `Transformer`."""

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        self.config = config
        self.hear, self.tell = nn.Linear(config.dim, config.dim), nn.Linear(config.dim, config.dim)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.depth))
        self.norm = nn.RMSNorm(config.dim, eps=1e-6)

    def _told(self, prefix: Tensor) -> Tensor:
        """Prefix `[B, L, D]` → what it says `[B, 1, D]`."""
        return self.tell(F.silu(self.hear(prefix)).mean(1, keepdim=True))

    def forward(self, x: Tensor, prefix: Tensor) -> Tensor:
        """Frames `[B, T, D]` from position 0, prefix `[B, L, D]` → hidden states `[B, T, D]`."""
        h = x.to(prefix.dtype) + self._told(prefix)  # under autocast the sum stays in float32
        for layer in self.layers:
            h = h + layer(h)
        return self.norm(h)

    def init_state(self, prefix: Tensor) -> RecurrentState:
        """Prefix `[B, L, D]` → state before the first frame."""
        shape, layers = (prefix.shape[0], 1, self.config.hidden), range(self.config.depth)
        cells = [prefix.new_zeros(shape, dtype=torch.float32) for _ in layers]
        return RecurrentState(self._told(prefix), [prefix.new_zeros(shape) for _ in layers], cells)

    def set_prefix(self, prefix: Tensor, state: RecurrentState) -> None:
        """Let another prefix speak from the next frame on; what was played stays in memory."""
        state.told = self._told(prefix)

    def step(self, x: Tensor, state: RecurrentState) -> Tensor:
        """One frame `[B, 1, D]` → hidden state `[B, 1, D]`; the state advances by one."""
        h = x + state.told
        for index, layer in enumerate(self.layers):
            added, state.hidden[index], state.cells[index] = layer.step(h, state.hidden[index], state.cells[index])  # type: ignore[operator]
            h = h + added
        return self.norm(h)
