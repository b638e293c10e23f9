"""Streams of codes: the delay pattern, what is known of it, and the state of the model, alone or many together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from audiogen.lm.engine import Engine, Turn
from audiogen.lm.sampling import Sampling

LaneSource = Callable[[int, int], np.ndarray]
"""(first frame, number of frames) → score lanes float32 `[frames, N]`."""
PrefixSource = Callable[[int], Tensor]
"""(first frame of a window) → prefix `[2, L, D]`, with the prompt and without."""


class CodeStream:
    """Codes of one clip, in order. The same seed gives the same codes however they are asked for."""

    @torch.inference_mode()
    def __init__(
        self,
        engine: Engine,
        prefix: Tensor,
        lanes: LaneSource,
        sampling: Sampling,
        seed: int,
        prompt: Tensor | None = None,
        end: int | None = None,
        first_draw: int = 0,
    ) -> None:
        """`prefix` `[2, L, D]`: with the prompt and without; the second is not used when guidance is 1.

        `prompt`, codes `[K, n]` that are there already, is read and not given again; from frame `end` on the
        codebooks are silent, as the delay pattern of a whole clip has them. `first_draw` of the seed's random numbers
        is the first that is used.
        """
        config = engine.config
        self.engine, self._lanes, self._sampling, self._seed = engine, lanes, sampling, seed
        self._rows = 1 if sampling.guidance == 1 else 2
        self._state = engine.begin(prefix[: self._rows])
        self._books, self._pad, self._delays = config.num_codebooks, config.pad, torch.tensor(config.delays)
        self._latest = int(self._delays.max())
        self._last = torch.full((self._books,), self._pad)
        self._delayed = torch.zeros(0, self._books, dtype=torch.long)  # positions of which some codes are still to go
        self._position, self._first_draw = 0, first_draw
        self._prompt, self._end = torch.zeros(self._books, 0, dtype=torch.long) if prompt is None else prompt, end
        count = self._prompt.shape[1]
        if count:
            turn = self.ask(count)
            engine.read(turn)
            self._position, self._last = count, turn.forced[-1]

    @property
    def next_draw(self) -> int:
        """The first random number that this stream has not used."""
        return self._first_draw + self._position

    @torch.inference_mode()
    def steer(self, prefix: Tensor, lanes: LaneSource) -> None:
        """Another prompt and score from the next frame on; what was played stays in memory. Of a `MusicLM` alone: a
        `WindowedStream` begins another window instead."""
        self.engine.steer(prefix[: self._rows], self._state)
        self._lanes = lanes

    def advance(self, frames: int) -> Tensor:
        """The next codes, int64 `[1, K, frames]`."""
        return advance_together([self], frames)[0]

    # --- what `advance_together` needs --------------------------------------------------------------------------------

    def needed(self, frames: int) -> int:
        """Positions that are missing until the next `frames` frames are whole."""
        return frames + self._latest - len(self._delayed) if frames > 0 else 0

    def ask(self, steps: int) -> Turn:
        """The next `steps` positions."""
        frames = torch.arange(self._position, self._position + steps)[:, None] - self._delays
        forced = torch.full((steps, self._books), -1)
        count = self._prompt.shape[1]
        if self._position - self._latest < count:
            known = (frames >= 0) & (frames < count)
            books = torch.arange(self._books).expand(steps, -1)
            forced[known] = self._prompt[books[known], frames[known]]
        silent = frames < 0 if self._end is None else (frames < 0) | (frames >= self._end)
        forced[silent] = self._pad
        return Turn(
            self._state, self._last, self._lanes(self._position, steps), forced, self._sampling, self._seed,
            self._first_draw + self._position,
        )  # fmt: skip

    def take(self, codes: Tensor) -> None:
        """What came of the positions asked for, `[steps, K]`."""
        self._position += len(codes)
        self._last = codes[-1]
        self._delayed = torch.cat([self._delayed, codes])

    def pop(self, frames: int) -> Tensor:
        """Whole frames, int64 `[1, K, frames]`."""
        rows = torch.arange(frames)[:, None] + self._delays
        whole = self._delayed.gather(0, rows) if frames > 0 else self._delayed[:0]
        self._delayed = self._delayed[max(0, frames) :].clone()
        return whole.T[None]


class WindowedStream:
    """Codes of one clip from a model of bounded positions, without end: Copet et al. 2023, as in the authors' code.

    When `window_frames` are full, the last `window_frames - stride_frames` of them begin the next window. The same
    seed gives the same codes however they are asked for; memory does not grow.
    """

    def __init__(
        self,
        engine: Engine,
        prefix: PrefixSource,
        sampling: Sampling,
        seed: int,
        frames: int | None = None,
        begun: Tensor | None = None,
    ) -> None:
        """`frames`: of the whole clip, when that is known; no more may be asked for. `begun`: codes `[K, n]` of its
        first frames, which are there already and are not given again; n is at most what a window begins with."""
        self.engine, self._config = engine, engine.config
        self._prefix, self._sampling, self._seed, self._total = prefix, sampling, seed, frames
        self._first = 0  # the frame of the clip with which the window begins
        self._ready = torch.zeros(1, self._config.num_codebooks, 0, dtype=torch.long)
        self._codes = self._ready[0] if begun is None else begun  # of the window so far
        self._wanted = 0
        self._stream = self._begin(0)

    def steer(self, prefix: PrefixSource) -> None:
        """Another prompt from the next frame on: a window that begins with what was played last."""
        self._prefix = prefix
        self._slide()

    def advance(self, frames: int) -> Tensor:
        """The next codes, int64 `[1, K, frames]`."""
        return advance_together([self], frames)[0]

    # --- what `advance_together` needs --------------------------------------------------------------------------------

    def needed(self, frames: int) -> int:
        """Positions that are missing until the next `frames` frames are whole, or the window is full."""
        missing = frames - self._ready.shape[2]
        if missing <= 0:
            return 0
        if self._codes.shape[1] == self._config.window_frames:
            self._slide()
        self._wanted = min(missing, self._config.window_frames - self._codes.shape[1])
        return self._stream.needed(self._wanted)

    def ask(self, steps: int) -> Turn:
        """The next `steps` positions."""
        return self._stream.ask(steps)

    def take(self, codes: Tensor) -> None:
        """What came of the positions asked for, `[steps, K]`."""
        self._stream.take(codes)
        if not self._stream.needed(self._wanted):
            whole = self._stream.pop(self._wanted)
            self._codes = torch.cat([self._codes, whole[0]], 1)
            self._ready = torch.cat([self._ready, whole], 2)

    def pop(self, frames: int) -> Tensor:
        """Whole frames, int64 `[1, K, frames]`."""
        whole, self._ready = self._ready[:, :, :frames], self._ready[:, :, frames:].clone()
        return whole

    def _slide(self) -> None:
        kept = self._config.window_frames - self._config.stride_frames
        dropped = max(0, self._codes.shape[1] - kept)
        self._first += dropped
        self._codes = self._codes[:, dropped:].clone()
        drawn = self._stream.next_draw
        del self._stream  # its memory is given back before the next one takes as much
        self._stream = self._begin(drawn)

    def _begin(self, drawn: int) -> CodeStream:
        end = self._config.window_frames
        if self._total is not None:
            end = min(end, self._total - self._first)
        prefix = self._prefix(self._first)
        return CodeStream(self.engine, prefix, _no_lanes, self._sampling, self._seed, self._codes, end, drawn)


@torch.inference_mode()
def advance_together(streams: Sequence[CodeStream | WindowedStream], frames: int | Sequence[int]) -> list[Tensor]:
    """The next codes of each stream, int64 `[1, K, frames]`, in one batch; each gets what it would get alone.

    `frames` may be told for each. All streams must be of one engine.
    """
    wanted = [frames] * len(streams) if isinstance(frames, int) else list(frames)
    while True:
        needs = [stream.needed(count) for stream, count in zip(streams, wanted, strict=True)]
        steps = min((need for need in needs if need), default=0)
        if not steps:
            return [stream.pop(count) for stream, count in zip(streams, wanted, strict=True)]
        behind = [stream for stream, need in zip(streams, needs, strict=True) if need]
        made = behind[0].engine.run([stream.ask(steps) for stream in behind])
        for stream, codes in zip(behind, made, strict=True):
            stream.take(codes)


def _no_lanes(first: int, frames: int) -> np.ndarray:
    return np.zeros((frames, 0), dtype=np.float32)
