"""The codec's continuous path: audio to latents and back without the bottleneck's rounding, in blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from audiogen.codec.spectral import SpectralCodec
from audiogen.interfaces import AudiogenError

_BLOCK_FRAMES = 250


def encode_latents(codec: SpectralCodec, samples: Tensor, restore: bool = False) -> Iterator[Tensor]:
    """`[B, 2, S]` → latents `[B, t, D]` block by block, `ceil(S / hop_length)` frames in all: the last is padded with
    silence. With `restore` those of the music before a low sample rate cut it off. Raises AudiogenError, at the first
    block, for no samples and for values that are not finite.
    """
    if samples.ndim != 3 or samples.shape[1] != codec.channels or not samples.shape[2]:
        raise AudiogenError(f"latents are of audio [batch, {codec.channels}, samples], got {list(samples.shape)}")
    if not bool(torch.isfinite(samples).all()):
        raise AudiogenError("the audio has NaN or infinite samples: repair the file or leave that part out")
    padded = F.pad(samples, (0, -samples.shape[2] % codec.hop_length))
    state = codec.encoder_state(len(samples))
    for block in padded.split(_BLOCK_FRAMES * codec.hop_length, 2):
        with torch.inference_mode():
            latents, state = codec.encode_latents(block, state, restore)
        yield latents


def decode_latents(codec: SpectralCodec, latents: Iterable[Tensor]) -> Iterator[Tensor]:
    """Blocks of latents `[B, t, D]` → audio `[B, 2, s]` block by block, `T · hop_length` samples in all."""
    state, skip = None, codec.config.late_samples
    for block in latents:
        state = state or codec.decoder_state(len(block))
        with torch.inference_mode():
            audio, state = codec.decode_latents(block, state)
        yield audio[:, :, skip:]
        skip -= min(skip, audio.shape[2])
    if state is not None:
        with torch.inference_mode():
            rest = codec.finish(state)
        yield rest[:, :, skip:]
