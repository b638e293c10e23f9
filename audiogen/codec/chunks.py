"""Audio coded in chunks that overlap, and still one column of codes a frame.

EnCodec at 48 kHz codes each second by itself, divided by its own loudness, and fades from one second into the next
(Défossez et al. 2022, §3.1). Its chunks share time, so they have more frames than the audio; and their scale is no
code. Here a row before all others, the side row, carries what has no column of its own: for each chunk the digits of
its scale, then the codes that its last frames have in the time of the next chunk, then zeros.

A chunk begins every `stride` frames; its first `stride` frames are columns. A digit is a number below the codebook
size; together they tell the logarithm of the scale over nine decades in at least a million steps, the coarsest digit
first. A last chunk shorter than its digits loses the fine ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

_STEPS = 2**20
_LEAST, _DECADES = 1e-8, 9


class ChunksToDecode(NamedTuple):
    """What a stream of chunks keeps."""

    columns: Tensor
    """of the chunk that is not there in full, `[B, k, n]`"""
    fading: Tensor | None
    """end of the chunk before, `[B, C, s]`"""


@dataclass(frozen=True)
class Chunks:
    """How chunks of `frames` frames, the last `overlap` of them shared with the next chunk, lie in columns of codes."""

    frames: int
    overlap: int
    channels: int
    hop_length: int
    num_codebooks: int
    codebook_size: int

    def __post_init__(self) -> None:
        if self.digits + self.num_codebooks * self.overlap > self.stride:
            raise ValueError(
                f"a chunk of {self.frames} frames cannot carry the {self.overlap} that it shares with the next one"
            )

    @property
    def stride(self) -> int:
        """frames from the beginning of a chunk to that of the next"""
        return self.frames - self.overlap

    @property
    def digits(self) -> int:
        """numbers below `codebook_size` that tell the scale"""
        return next(count for count in range(1, 21) if self.codebook_size**count >= _STEPS)

    # --- one chunk --------------------------------------------------------------------------------------------------

    def pack(self, codes: Tensor, scale: Tensor) -> Tensor:
        """Codes `[B, K, f]` and scale `[B]` of a chunk → columns `[B, 1 + K, min(f, stride)]`."""
        own, shared = codes[:, :, : self.stride], codes[:, :, self.stride :]
        told = torch.cat([self._digits_of(scale), shared.flatten(1)], 1)[:, : own.shape[2]]
        side = torch.nn.functional.pad(told, (0, own.shape[2] - told.shape[1]))
        return torch.cat([side[:, None], own], 1)

    def unpack(self, columns: Tensor, frames: int) -> tuple[Tensor, Tensor]:
        """Columns `[B, 1 + k, min(f, stride)]` of a chunk of f frames → its codes `[B, k, f]` and scale `[B]`."""
        side, own = columns[:, 0], columns[:, 1:]
        shared = side[:, self.digits :][:, : own.shape[1] * (frames - own.shape[2])]
        codes = torch.cat([own, shared.reshape(*own.shape[:2], frames - own.shape[2])], 2)
        return codes, self._scale_of(side[:, : self.digits])

    def _digits_of(self, scale: Tensor) -> Tensor:
        """`[B]` → int64 `[B, digits]`."""
        steps = self.codebook_size**self.digits - 1
        share = (scale.double() / _LEAST).log10() / _DECADES
        step = (share.clamp(0, 1) * steps).round().long()
        return torch.stack([step // self.codebook_size**place % self.codebook_size for place in self._places], 1)

    def _scale_of(self, digits: Tensor) -> Tensor:
        """int64 `[B, n]`, n ≤ digits → float32 `[B]`; digits that are missing are taken to be in the middle."""
        missing = digits.new_full((digits.shape[0], self.digits - digits.shape[1]), self.codebook_size // 2)
        powers = torch.tensor([self.codebook_size**place for place in self._places], device=digits.device)
        step = (torch.cat([digits, missing], 1) * powers).sum(1)
        share = step.double() / (self.codebook_size**self.digits - 1)
        return (_LEAST * 10 ** (_DECADES * share)).float()

    @property
    def _places(self) -> range:
        return range(self.digits - 1, -1, -1)

    # --- a stream of them -------------------------------------------------------------------------------------------

    def encode(
        self, samples: Tensor, state: Tensor | None, last: bool, chunk: Callable[[Tensor], tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """Samples `[B, C, t · hop_length]` → columns of the chunks completed `[B, 1 + K, n]` and the samples kept.

        `chunk` gives codes `[B, K, f]` and scale `[B]` of samples `[B, C, f · hop_length]`.
        """
        seen = samples if state is None else torch.cat([state, samples], 2)
        size = self.frames * self.hop_length
        done = [torch.zeros(len(seen), 1 + self.num_codebooks, 0, dtype=torch.long, device=seen.device)]
        while seen.shape[2] >= size or (last and seen.shape[2]):
            done.append(self.pack(*chunk(seen[:, :, :size])))
            seen = seen[:, :, self.stride * self.hop_length :]
        return torch.cat(done, 2), seen.clone()

    def decode(
        self, columns: Tensor, state: ChunksToDecode | None, last: bool, chunk: Callable[[Tensor, Tensor], Tensor]
    ) -> tuple[Tensor, ChunksToDecode]:
        """Columns `[B, 1 + k, n]` → audio of the chunks completed `[B, C, s]`, each faded into the next.

        `chunk` gives the audio `[B, C, f · hop_length]` of codes `[B, k, f]` and scale `[B]`.
        """
        seen = columns
        if state is not None:  # the last piece is empty, of any number of rows
            seen = torch.cat([state.columns, columns], 2) if columns.shape[2] else state.columns
        fading = None if state is None else state.fading
        step = self.stride * self.hop_length
        done = [torch.zeros(len(seen), self.channels, 0, device=seen.device)]
        while seen.shape[2] >= self.frames or (last and seen.shape[2]):
            frames = min(seen.shape[2], self.frames)
            audio = chunk(*self.unpack(seen[:, :, : min(frames, self.stride)], frames))
            if fading is not None:
                shared = fading.shape[2]
                rise = torch.arange(1, shared + 1, device=audio.device) / (shared + 1)
                audio = torch.cat([fading.lerp(audio[:, :, :shared], rise), audio[:, :, shared:]], 2)
            done.append(audio[:, :, :step])
            seen, fading = seen[:, :, self.stride :], audio[:, :, step:]
        return torch.cat(done, 2), ChunksToDecode(seen.clone(), None if fading is None else fading.clone())
