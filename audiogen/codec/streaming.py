"""Streams over any causal codec: they hold the state and cut audio to frames; the codec itself stays stateless."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from audiogen.interfaces import AudiogenError

S = TypeVar("S")


class BlockEncoder(Generic[S]):
    """Collects samples until a frame is whole. Implements `audiogen.interfaces.StreamingEncoder`."""

    max_frames = 128
    """frames encoded at once: bounds memory whatever the length of the input, and what is at hand stays in the cache"""

    def __init__(
        self, step: Callable[[Tensor, S], tuple[Tensor, S]], state: S, batch_size: int, channels: int, *,
        hop_length: int, num_codebooks: int, device: torch.device,
    ) -> None:  # fmt: skip
        """`device`: where `step` works; samples may come from elsewhere, and the codes go back there."""
        self._step, self._state, self._device = step, state, device
        self._home = device
        self._shape, self._hop_length, self._num_codebooks = (batch_size, channels), hop_length, num_codebooks
        self._rest: Tensor | None = None

    @torch.inference_mode()
    def encode(self, samples: Tensor) -> Tensor:
        """`[B, C, s]`, any s → codes `[B, K, t]` of the frames completed; raises AudiogenError for bad samples."""
        if samples.ndim != 3 or tuple(samples.shape[:2]) != self._shape:
            raise AudiogenError(
                f"the codec expects audio of shape [batch {self._shape[0]}, channels {self._shape[1]}, samples], "
                f"got {list(samples.shape)}: convert the channels first"
            )
        if samples.numel() and not all(math.isfinite(end) for end in samples.aminmax()):
            raise AudiogenError("the audio has NaN or infinite samples: repair the file or leave that part out")
        self._home, given = samples.device, samples.to(self._device, torch.float32)
        seen = given if self._rest is None else torch.cat([self._rest, given], 2)
        whole = seen.shape[2] // self._hop_length
        parts = []
        for start in range(0, whole, self.max_frames):
            stop = min(start + self.max_frames, whole)
            codes, self._state = self._step(seen[:, :, start * self._hop_length : stop * self._hop_length], self._state)
            parts.append(codes)
        self._rest = seen[:, :, whole * self._hop_length :].clone()
        return torch.cat(parts, 2).to(self._home) if parts else self._no_codes()

    def flush(self) -> Tensor:
        """Pads the last frame with silence; `[B, K, t]`, t is 0 or 1."""
        if self._rest is None or self._rest.shape[2] == 0:
            return self._no_codes()
        missing = self._hop_length - self._rest.shape[2]
        return self.encode(torch.zeros(*self._shape, missing, device=self._home))

    def _no_codes(self) -> Tensor:
        return torch.zeros(self._shape[0], self._num_codebooks, 0, dtype=torch.long, device=self._home)


class FrameDecoder(Generic[S]):
    """Decodes codes as they come. Implements `audiogen.interfaces.StreamingDecoder`.

    `step` gives audio late by `skip_samples`: the first ones belong to the time before the start and are dropped,
    `finish` gives the same number at the end.
    """

    max_frames = 128

    def __init__(
        self, step: Callable[[Tensor, S], tuple[Tensor, S]], finish: Callable[[S], Tensor], state: S, batch_size: int,
        code_range: tuple[int, int], *, skip_samples: int, hop_length: int, device: torch.device,
    ) -> None:  # fmt: skip
        """`device`: where `step` works; codes may come from the CPU, and no GPU is waited for then."""
        self._step, self._finish, self._state = step, finish, state
        self._device = device
        self._batch_size, self._code_range = batch_size, code_range
        self._skip = skip_samples
        self.latency_frames = math.ceil(skip_samples / hop_length)
        self._started = False

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> Tensor:
        """int64 `[B, k, t]` → `[B, C, s]`; raises AudiogenError when codes do not fit the codec."""
        books, size = self._code_range
        if codes.ndim != 3 or codes.shape[0] != self._batch_size or not 1 <= codes.shape[1] <= books:
            raise AudiogenError(
                f"the codec decodes codes of shape [batch {self._batch_size}, 1 to {books} codebooks, frames], "
                f"got {list(codes.shape)}"
            )
        least, most = map(int, codes.aminmax()) if codes.numel() else (0, 0)
        if least < 0 or most >= size:
            raise AudiogenError(f"codes must lie in 0…{size - 1}, got {least}…{most}")
        if not codes.shape[2]:
            return self._finish(self._state)[:, :, :0]
        parts = []
        for start in range(0, codes.shape[2], self.max_frames):
            part = codes[:, :, start : start + self.max_frames].to(self._device, non_blocking=True)
            audio, self._state = self._step(part, self._state)
            parts.append(audio)
        audio = torch.cat(parts, 2)
        skipped = min(self._skip, audio.shape[2])
        self._skip, self._started = self._skip - skipped, True
        return audio[:, :, skipped:]

    @torch.inference_mode()
    def flush(self) -> Tensor:
        """What is still to come, `[B, C, s]`; empty when nothing was decoded."""
        rest = self._finish(self._state)
        return rest[:, :, self._skip :] if self._started else rest[:, :, :0]


class OfflineFromStreams:
    """A codec's `encode` and `decode`: offline is the concatenation of its streams."""

    def streaming_encoder(self, batch_size: int = 1) -> BlockEncoder[Any]:
        raise NotImplementedError

    def streaming_decoder(self, batch_size: int = 1) -> FrameDecoder[Any]:
        raise NotImplementedError

    @torch.inference_mode()
    def encode(self, samples: Tensor) -> Tensor:
        """`[B, C, S]` → codes int64 `[B, K, ceil(S / hop_length)]`; the last frame is padded with silence.

        Raises AudiogenError for another number of channels, no samples, or samples that are not finite.
        """
        if samples.ndim and not samples.shape[-1]:
            raise AudiogenError("the audio has no samples: give at least one")
        stream = self.streaming_encoder(len(samples))
        return torch.cat([stream.encode(samples), stream.flush()], 2)

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> Tensor:
        """Codes int64 `[B, k, T]`, 1 ≤ k ≤ K → `[B, C, T · hop_length]`. Raises AudiogenError for bad codes."""
        stream = self.streaming_decoder(codes.shape[0])
        return torch.cat([stream.decode(codes), stream.flush()], 2)
