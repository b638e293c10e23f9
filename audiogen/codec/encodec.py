"""EncodecCodec: EnCodec (Défossez et al. 2022) in its three public sizes, as a stream, with foreign weights or our own.

- 24 kHz mono: causal; the first audio waits for 7 frames (what the decoder's first convolution reflects at the start).
- 32 kHz mono (the codec of MusicGen, Copet et al. 2023): looks ahead. `stereo_from_mono` codes left and right each by
  itself, in rows left 0, right 0, left 1, right 1, ...
- 48 kHz stereo: codes a second at a time, divided by its loudness. The codes have a row more than codebooks, the side
  row, before the others (`audiogen.codec.chunks`). Within a chunk the audio is the reference's; the joins differ: there
  a chunk begins every 148.5 frames and fades into the next for 10 ms, so that chunks do not begin where frames do; here
  one begins every 148 frames and fades for 13.3 ms, linearly too. Codes cut out of a stream decode rightly only when
  they begin where a chunk does.

The last frame is padded with silence; the reference reflects every layer's last samples instead. Equal otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from audiogen.codec import transformers_encodec as theirs
from audiogen.codec.chunks import Chunks
from audiogen.codec.quantizer import Bottled, Reconstruction, ResidualVectorQuantizer
from audiogen.codec.seanet import SEANetConfig, State, seanet_decoder, seanet_encoder
from audiogen.codec.streaming import BlockEncoder, FrameDecoder, OfflineFromStreams
from audiogen.config import Config
from audiogen.storage import Storage, fill_module, fingerprint, load_weights, save_weights

S = TypeVar("S")


class EncodecConfig(Config):
    """Sizes of an EncodecCodec; the default is the 24 kHz one."""

    sample_rate: PositiveInt = 24_000
    network: SEANetConfig = SEANetConfig()
    num_codebooks: int = Field(32, ge=1, le=128)
    """of the quantiser; the codes' rows may be more"""
    codebook_size: int = Field(1024, ge=2, le=65_536)
    stereo_from_mono: bool = False
    """two channels, each coded by itself"""
    chunk_frames: PositiveInt | None = None
    """code this many frames at a time, divided by their loudness; None: all is one stream"""
    overlap_frames: NonNegativeInt = 0
    """frames that a chunk shares with the next one"""

    @property
    def chunks(self) -> Chunks | None:
        if self.chunk_frames is None:
            return None
        return Chunks(
            self.chunk_frames, self.overlap_frames, self.network.channels, self.network.hop_length,
            self.num_codebooks, self.codebook_size,
        )  # fmt: skip

    def model_post_init(self, context: Any, /) -> None:
        chunked = self.chunks is not None
        if self.network.time_group_norm and not chunked:
            raise ValueError("time_group_norm hears a whole signal before it says anything: it needs chunk_frames")
        if self.stereo_from_mono and (chunked or self.network.channels != 1):
            raise ValueError("stereo_from_mono takes a network of one channel and no chunk_frames")


class LookaheadEncoder(BlockEncoder[S]):
    """A `BlockEncoder` whose codes come later than their frames: `finish` gives the ones held back."""

    def __init__(
        self, step: Callable[[Tensor, S], tuple[Tensor, S]], finish: Callable[[S], Tensor], state: S, batch_size: int,
        channels: int, *, hop_length: int, num_codebooks: int, device: torch.device,
    ) -> None:  # fmt: skip
        super().__init__(
            step, state, batch_size, channels, hop_length=hop_length, num_codebooks=num_codebooks, device=device
        )
        self._finish = finish

    @torch.inference_mode()
    def flush(self) -> Tensor:
        """Pads the last frame with silence; `[B, K, t]`: it and those held back."""
        codes = super().flush()
        return codes if self._state is None else torch.cat([codes, self._finish(self._state).to(self._home)], 2)


class EncodecCodec(OfflineFromStreams, nn.Module):
    """EnCodec. Implements `audiogen.interfaces.Codec`."""

    def __init__(self, config: EncodecConfig) -> None:
        super().__init__()
        self.config, self.chunks = config, config.chunks
        self.sample_rate, self.hop_length = config.sample_rate, config.network.hop_length
        self.codebook_size = config.codebook_size
        sides = 2 if config.stereo_from_mono else 1
        self.channels = sides * config.network.channels
        self.num_codebooks = sides * config.num_codebooks + (self.chunks is not None)
        self.encoder, self.decoder = seanet_encoder(config.network), seanet_decoder(config.network)
        self.quantizer = ResidualVectorQuantizer(config.num_codebooks, config.codebook_size, config.network.latent_dim)

    # --- training ---------------------------------------------------------------------------------------------------

    def latents_of(self, samples: Tensor) -> Tensor:
        """A whole excerpt `[B, C, T · hop_length]` → latents before quantising `[B, T, D]`.

        With stereo_from_mono both sides of each item, `[2B, T, D]`; of chunked codecs the excerpt is one chunk.
        """
        mono = samples.flatten(0, 1)[:, None] if self.config.stereo_from_mono else samples
        if self.chunks is not None:
            mono = mono / _loudness(mono)[:, None, None]
        return self.encoder(mono, None, True)[0].transpose(1, 2)

    def forward(self, samples: Tensor, levels: Tensor) -> Reconstruction:
        """Reconstruct `[B, C, T · hop_length]` through the first `levels` `[B]` rows of codes, for training.

        Until the codebooks have started, nothing is quantised.
        """
        latents = self.latents_of(samples)
        if self.config.stereo_from_mono:
            levels = torch.stack([(levels + 1) // 2, levels // 2], 1).flatten()
        elif self.chunks is not None:
            levels = levels - 1
        if bool(self.quantizer.started):
            bottled = self.quantizer(latents, levels)
        else:
            codes = latents.new_zeros(len(latents), self.config.num_codebooks, latents.shape[1], dtype=torch.long)
            bottled = Bottled(latents, codes, latents.float().square().mean())
        made = self.decoder(bottled.latents.transpose(1, 2), None, True)[0]
        if self.chunks is not None:
            made = made * _loudness(samples)[:, None, None]
        return Reconstruction(made.reshape(samples.shape), bottled)

    # --- the next piece of a stream ---------------------------------------------------------------------------------

    def _encode(self, samples: Tensor, state: State, last: bool = False) -> tuple[Tensor, State]:
        """`[B, C, t · hop_length]` → codes that are determined `[B, K, n]`."""
        if self.chunks is not None:
            return self.chunks.encode(samples, state, last, self._encode_chunk)
        mono = samples.flatten(0, 1)[:, None] if self.config.stereo_from_mono else samples
        latents, state = self.encoder(mono, state, last)
        codes = self.quantizer.encode(latents.transpose(1, 2))
        if self.config.stereo_from_mono:  # [B · side, level, n] to [B, level · side, n]
            codes = codes.unflatten(0, (-1, 2)).transpose(1, 2).flatten(1, 2)
        return codes, state

    def _decode(self, codes: Tensor, state: State, last: bool = False) -> tuple[Tensor, State]:
        """`[B, k, t]` → samples that are determined `[B, C, s]`."""
        if self.chunks is not None:
            return self.chunks.decode(codes, state, last, self._decode_chunk)
        if self.config.stereo_from_mono:
            latents = torch.stack([self._latents(codes[:, side::2]) for side in (0, 1)], 1).flatten(0, 1)
        else:
            latents = self._latents(codes)
        samples, state = self.decoder(latents, state, last)
        return samples.reshape(codes.shape[0], self.channels, -1), state

    def _encode_chunk(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        scale = _loudness(samples)
        latents, _ = self.encoder(samples / scale[:, None, None], None, True)
        return self.quantizer.encode(latents.transpose(1, 2)), scale

    def _decode_chunk(self, codes: Tensor, scale: Tensor) -> Tensor:
        samples, _ = self.decoder(self._latents(codes), None, True)
        return samples * scale[:, None, None]

    def _latents(self, codes: Tensor) -> Tensor:
        """Codes `[B, k, n]`, of no codebook too, → `[B, D, n]`."""
        if not codes.shape[1]:
            return self.quantizer.codebooks.new_zeros(len(codes), self.config.network.latent_dim, codes.shape[2])
        return self.quantizer.decode(codes).transpose(1, 2)

    # --- weights ----------------------------------------------------------------------------------------------------

    @property
    def fingerprint(self) -> str:
        """Hash of what decides the codes: encoder and codebooks. Prepared codes are keyed by it."""
        return fingerprint((n, v) for n, v in self.state_dict().items() if n.startswith("encoder.") or _is_books(n))

    def save(self, folder: str | Path, storage: Storage) -> None:
        """Write a model folder; the moving averages of training are left out."""
        kept = {n: v for n, v in self.state_dict().items() if not n.startswith("quantizer.") or _is_books(n)}
        save_weights(folder, "encodec_codec", self.config.model_dump(mode="json"), kept, storage)

    @classmethod
    def load(cls, folder: str | Path) -> EncodecCodec:
        """Read what `save` wrote. Raises AudiogenError naming what is missing or does not fit."""
        config, tensors = load_weights(folder, "encodec_codec")
        return cls._filled(EncodecConfig.build(config, f"{folder}/config.json"), tensors, str(folder))

    @classmethod
    def from_transformers(
        cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor], source: str = "EnCodec"
    ) -> EncodecCodec:
        """From the contents of a config.json and tensors under the names of transformers or of the `encodec` package.

        Of a MusicGen the part `audio_encoder` is taken, for two channels if that one was made for two. Raises
        AudiogenError naming `source` and what is missing, too much, misshapen, not finite, or of another kind.
        """
        own = EncodecConfig.build(theirs.sizes(config, source), source)
        start = theirs.prefix(config)
        tensors = {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
        books = (own.num_codebooks, own.codebook_size, own.network.latent_dim)
        return cls._filled(own, theirs.renamed(tensors, books, source), source)

    @classmethod
    def read_transformers(cls, folder: str | Path) -> EncodecCodec:
        """Read config.json and safetensors of facebook/encodec_{24,32,48}khz or a MusicGen; see `from_transformers`."""
        config, tensors = theirs.read_folder(Path(folder))
        return cls.from_transformers(config, tensors, str(folder))

    @classmethod
    def _filled(cls, config: EncodecConfig, tensors: dict[str, Tensor], source: str) -> EncodecCodec:
        codec = cls(config)
        training = {n: v for n, v in codec.state_dict().items() if n.startswith("quantizer.") and not _is_books(n)}
        fill_module(codec, training | tensors, source)
        codec.quantizer.started.fill_(True)
        return codec.eval().requires_grad_(False)

    # --- the protocol -----------------------------------------------------------------------------------------------

    def streaming_encoder(self, batch_size: int = 1) -> LookaheadEncoder[State]:
        def finish(state: State) -> Tensor:
            none = self.quantizer.codebooks.new_zeros(batch_size, self.channels, 0)
            return self._encode(none, state, last=True)[0]

        return LookaheadEncoder(
            self._encode, finish, None, batch_size, self.channels,
            hop_length=self.hop_length, num_codebooks=self.num_codebooks, device=self.quantizer.codebooks.device,
        )  # fmt: skip

    def streaming_decoder(self, batch_size: int = 1) -> FrameDecoder[State]:
        def finish(state: State) -> Tensor:
            if state is None:
                return self.quantizer.codebooks.new_zeros(batch_size, self.channels, 0)
            none = self.quantizer.codebooks.new_zeros(batch_size, self.num_codebooks, 0, dtype=torch.long)
            return self._decode(none, state, last=True)[0]

        stream: FrameDecoder[State] = FrameDecoder(
            self._decode, finish, None, batch_size, (self.num_codebooks, self.codebook_size),
            skip_samples=0, hop_length=self.hop_length, device=self.quantizer.codebooks.device,
        )  # fmt: skip
        stream.latency_frames = self._latency_frames
        return stream

    @property
    def _latency_frames(self) -> int:
        """The most that audio ever lies behind the codes, at the start or later."""
        if self.chunks is not None:
            return self.chunks.frames - 1
        first = 1
        while not self.decoder.ready(first):
            first += 1
        return max(first - 1, math.ceil(first - self.decoder.ready(first) / self.hop_length))


def _is_books(name: str) -> bool:
    return name == "quantizer.codebooks"


def _loudness(samples: Tensor) -> Tensor:
    """RMS of the mean of the channels, `[B, C, S]` → `[B]`."""
    return samples.mean(1).square().mean(1).sqrt() + 1e-8
