"""One stream of codes: the delay pattern, guidance, sampling and the model's state, advanced frame by frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audiogen.lm.model import MusicLM
from audiogen.lm.musicgen import MusicGen
from audiogen.lm.sampling import Sampling, draw, guide

LaneSource = Callable[[int, int], np.ndarray]
"""(first frame, number of frames) → score lanes float32 `[frames, N]`."""
PrefixSource = Callable[[int], Tensor]
"""(first frame of a window) → prefix `[2, L, D]`, with the prompt and without."""


class CodeStream:
    """Codes of one clip, in order. The same seed gives the same codes however they are asked for."""

    @torch.inference_mode()
    def __init__(
        self,
        model: MusicLM | MusicGen,
        prefix: Tensor,
        lanes: LaneSource,
        sampling: Sampling,
        seed: int | torch.Generator,
        prompt: Tensor | None = None,
        end: int | None = None,
    ) -> None:
        """`prefix` `[2, L, D]`: with the prompt and without; the second is not used when guidance is 1.

        `prompt`, codes `[K, n]` that are there already, is read and not given again; from frame `end` on the
        codebooks are silent, as the delay pattern of a whole clip has them.
        """
        config = model.config
        self._model: Any = model  # with a state of its own kind
        self._lanes, self._sampling = lanes, sampling
        self._rows = 1 if sampling.guidance == 1 else 2
        self._dtype = model.heads.weight.dtype
        self._generator = torch.Generator().manual_seed(seed) if isinstance(seed, int) else seed
        self._state = model.init_state(prefix[: self._rows].to(self._dtype))
        self._books, self._pad, self._delays = config.num_codebooks, config.pad, config.delays
        self._last = torch.full((self._books,), self._pad)
        self._delayed: list[Tensor] = []  # the last positions, as many as the longest delay: needed to undo it
        self._position = 0
        self._prompt, self._end = prompt, end
        if prompt is not None and prompt.shape[1]:
            self._read(prompt)

    def _read(self, prompt: Tensor) -> None:
        """Put the positions of which all codes are known into the state, all at once."""
        count = prompt.shape[1]
        delayed = torch.full((self._books, count), self._pad)
        for book, late in enumerate(self._delays):
            delayed[book, late:] = prompt[book, : max(0, count - late)]
        codes = torch.cat([self._last[:, None], delayed[:, :-1]], 1).expand(self._rows, -1, -1)
        lanes = torch.from_numpy(self._lanes(0, count)).to(self._dtype)
        self._model.step(codes, lanes.expand(self._rows, -1, -1), self._state)
        self._position, self._last = count, delayed[:, -1]

    @torch.inference_mode()
    def steer(self, prefix: Tensor, lanes: LaneSource) -> None:
        """Another prompt and score from the next frame on; what was played stays in memory. Of a `MusicLM` alone: a
        `WindowedStream` begins another window instead."""
        self._model.set_prefix(prefix[: self._rows].to(self._dtype), self._state)
        self._lanes = lanes

    @torch.inference_mode()
    def advance(self, frames: int) -> Tensor:
        """The next codes, int64 `[1, K, frames]`."""
        if frames <= 0:
            return torch.zeros(1, self._books, 0, dtype=torch.long)
        steps = frames + max(self._delays) - len(self._delayed)
        lanes = torch.from_numpy(self._lanes(self._position, steps)).to(self._dtype)
        for index in range(steps):
            self._delayed.append(self._step(lanes[index]))
        window = torch.stack(self._delayed, 1)  # [K, longest delay + frames]
        self._delayed = self._delayed[frames:]
        return torch.stack([window[book, late : late + frames] for book, late in enumerate(self._delays)])[None]

    def _step(self, lanes: Tensor) -> Tensor:
        """One position: `[N]` → delayed codes `[K]`."""
        both = torch.stack([lanes, torch.zeros_like(lanes)])[: self._rows, None]
        codes = self._last.expand(self._rows, -1)[:, :, None]
        logits = self._model.step(codes, both, self._state)[:, :, 0]
        if self._rows == 2:
            logits = guide(logits, self._sampling.guidance)
        drawn = draw(logits[0], self._sampling, self._generator)
        for book, late in enumerate(self._delays):
            frame = self._position - late
            if frame < 0 or (self._end is not None and frame >= self._end):
                drawn[book] = self._pad
            elif self._prompt is not None and frame < self._prompt.shape[1]:
                drawn[book] = self._prompt[book, frame]
        self._position += 1
        self._last = drawn
        return drawn


class WindowedStream:
    """Codes of one clip from a model of bounded positions, without end: Copet et al. 2023, as in the authors' code.

    When `window_frames` are full, the last `window_frames - stride_frames` of them begin the next window. The same
    seed gives the same codes however they are asked for; memory does not grow.
    """

    def __init__(
        self, model: MusicGen, prefix: PrefixSource, sampling: Sampling, seed: int, frames: int | None = None
    ) -> None:
        """`frames`: of the whole clip, when that is known; no more may be asked for."""
        self._model, self._prefix, self._sampling, self._total = model, prefix, sampling, frames
        self._generator = torch.Generator().manual_seed(seed)
        self._first = 0  # the frame of the clip with which the window begins
        self._codes = torch.zeros(model.config.num_codebooks, 0, dtype=torch.long)  # of the window so far
        self._stream = self._begin()

    def steer(self, prefix: PrefixSource) -> None:
        """Another prompt from the next frame on: a window that begins with what was played last."""
        self._prefix = prefix
        self._slide()

    def advance(self, frames: int) -> Tensor:
        """The next codes, int64 `[1, K, frames]`."""
        parts = [self._codes[None, :, :0]]
        while frames > 0:
            left = self._model.config.window_frames - self._codes.shape[1]
            if not left:
                self._slide()
                continue
            parts.append(self._stream.advance(min(frames, left)))
            self._codes = torch.cat([self._codes, parts[-1][0]], 1)
            frames -= min(frames, left)
        return torch.cat(parts, 2)

    def _slide(self) -> None:
        kept = self._model.config.window_frames - self._model.config.stride_frames
        dropped = max(0, self._codes.shape[1] - kept)
        self._first += dropped
        self._codes = self._codes[:, dropped:].clone()
        del self._stream  # its memory is given back before the next one takes as much
        self._stream = self._begin()

    def _begin(self) -> CodeStream:
        model, prefix = self._model, self._prefix(self._first)
        end = model.config.window_frames
        if self._total is not None:
            end = min(end, self._total - self._first)
        return CodeStream(model, prefix, _no_lanes, self._sampling, self._generator, self._codes, end)


def _no_lanes(first: int, frames: int) -> np.ndarray:
    return np.zeros((frames, 0), dtype=np.float32)
