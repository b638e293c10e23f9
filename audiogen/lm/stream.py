"""One stream of codes: the delay pattern, guidance, sampling and the model's state, advanced frame by frame."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from audiogen.lm.model import MusicLM
from audiogen.lm.sampling import Sampling, draw, guide

LaneSource = Callable[[int, int], np.ndarray]
"""(first frame, number of frames) → score lanes float32 `[frames, N]`."""


class CodeStream:
    """Codes of one clip, in order. The same seed gives the same codes however they are asked for."""

    @torch.inference_mode()
    def __init__(self, model: MusicLM, prefix: Tensor, lanes: LaneSource, sampling: Sampling, seed: int) -> None:
        """`prefix` `[2, L, D]`: with the prompt and without; the second is not used when guidance is 1."""
        config = model.config
        self._model, self._lanes, self._sampling = model, lanes, sampling
        self._rows = 1 if sampling.guidance == 1 else 2
        self._dtype = model.heads.weight.dtype
        self._generator = torch.Generator().manual_seed(seed)
        self._state = model.init_state(prefix[: self._rows].to(self._dtype))
        self._books, self._pad = config.num_codebooks, config.pad
        self._last = torch.full((self._books,), self._pad)
        self._delayed: list[Tensor] = []  # the last K - 1 positions: what is needed to undo the delay
        self._position = 0

    @torch.inference_mode()
    def steer(self, prefix: Tensor, lanes: LaneSource) -> None:
        """Another prompt and score from the next frame on; what was played stays in memory."""
        self._model.set_prefix(prefix[: self._rows].to(self._dtype), self._state)
        self._lanes = lanes

    @torch.inference_mode()
    def advance(self, frames: int) -> Tensor:
        """The next codes, int64 `[1, K, frames]`."""
        first = not self._position
        steps = frames + (self._books - 1 if first else 0)
        if frames <= 0:
            return torch.zeros(1, self._books, 0, dtype=torch.long)
        lanes = torch.from_numpy(self._lanes(self._position, steps)).to(self._dtype)
        for index in range(steps):
            self._delayed.append(self._step(lanes[index]))
        window = torch.stack(self._delayed, 1)  # [K, K - 1 + frames]
        self._delayed = self._delayed[frames:]
        return torch.stack([window[book, book : book + frames] for book in range(self._books)])[None]

    def _step(self, lanes: Tensor) -> Tensor:
        """One position: `[N]` → delayed codes `[K]`."""
        both = torch.stack([lanes, torch.zeros_like(lanes)])[: self._rows, None]
        codes = self._last.expand(self._rows, -1)[:, :, None]
        logits = self._model.step(codes, both, self._state)[:, :, 0]
        if self._rows == 2:
            logits = guide(logits, self._sampling.guidance)
        drawn = draw(logits[0], self._sampling, self._generator)
        for book in range(self._position + 1, self._books):  # codebook k starts at position k
            drawn[book] = self._pad
        self._position += 1
        self._last = drawn
        return drawn
