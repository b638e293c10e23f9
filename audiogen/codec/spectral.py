"""SpectralCodec: STFT in, inverse STFT out, causal, integer codes between.

The encoder sees two short spectra (mid and side, log-magnitude; below `phase_hz` also the compressed complex spectrum
of mid) at 100 Hz and one long spectrum that resolves semitones at 25 Hz. The decoder gives magnitude and phase of
mid and side at 100 Hz (cf. Siuzdak 2023, Vocos, §3.3), overlapped and added. Every STFT frame ends where its hop
ends, so nothing looks ahead; the overlap of three short hops (30 ms) is the whole latency of decoding.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from audiogen.codec.layers import ConvNeXtStack, State
from audiogen.codec.quantizer import Quantized, ResidualVectorQuantizer
from audiogen.codec.streaming import BlockEncoder, FrameDecoder
from audiogen.config import Config
from audiogen.interfaces import AudiogenError
from audiogen.storage import Storage, fill_module, fingerprint, load_weights, save_weights


class SpectralCodecConfig(Config):
    """Sizes of a SpectralCodec. Derived sizes are properties."""

    sample_rate: int = 48_000
    hop_length: int = 1920
    """samples a frame: 25 Hz at 48 kHz"""
    short_hop: int = 480
    """samples between short STFT frames; divides hop_length"""
    long_window: int = 7680
    """samples of the spectrum that resolves semitones"""
    long_hz: float = 4000.0
    """the long spectrum is kept below this"""
    phase_hz: float = 5000.0
    """the encoder sees phase below this"""
    top_hz: float = 20_000.0
    """nothing is coded above this"""
    fast_dim: int = 320
    """width at the short hop's rate"""
    slow_dim: int = 384
    """width at the frame rate"""
    encoder_fast_depth: int = 2
    encoder_slow_depth: int = 3
    decoder_slow_depth: int = 3
    decoder_fast_depth: int = 5
    fast_expansion: int = 3
    slow_expansion: int = 3
    latent_dim: int = 96
    num_codebooks: int = 12
    codebook_size: int = 1024

    @property
    def channels(self) -> int:
        return 2

    @property
    def window(self) -> int:
        """samples of a short STFT frame: four short hops"""
        return 4 * self.short_hop

    @property
    def bins(self) -> int:
        """bins of a short spectrum below top_hz"""
        return int(self.top_hz * self.window / self.sample_rate)

    @property
    def rate_ratio(self) -> int:
        return self.hop_length // self.short_hop

    @property
    def phase_bins(self) -> int:
        return int(self.phase_hz * self.window / self.sample_rate)

    @property
    def long_bins(self) -> int:
        return int(self.long_hz * self.long_window / self.sample_rate)

    def model_post_init(self, context: Any, /) -> None:
        if self.hop_length % self.short_hop:
            raise ValueError(f"hop_length {self.hop_length} must be a multiple of short_hop {self.short_hop}")
        if max(self.top_hz, self.phase_hz, self.long_hz) > self.sample_rate / 2:
            raise ValueError(f"top_hz, phase_hz and long_hz must lie below half of sample_rate {self.sample_rate}")
        if self.long_window < self.hop_length:
            raise ValueError(f"long_window {self.long_window} must be at least hop_length {self.hop_length}")


class EncoderState(NamedTuple):
    """Past samples (mid, side) `[B, 2, long_window - hop_length]` and the stacks' states."""

    samples: Tensor
    fast: State
    slow: State


class DecoderState(NamedTuple):
    """Stacks' states and the unfinished overlap `[B, 2, 3, short_hop]`."""

    slow: State
    fast: State
    overlap: Tensor


class SpectralCodec(nn.Module):
    """The default codec, 48 kHz stereo. Implements `audiogen.interfaces.Codec`."""

    analysis: Tensor
    long_analysis: Tensor

    def __init__(self, config: SpectralCodecConfig) -> None:
        super().__init__()
        self.config = config
        self.sample_rate, self.channels = config.sample_rate, config.channels
        self.hop_length, self.num_codebooks = config.hop_length, config.num_codebooks
        self.codebook_size = config.codebook_size
        features = 2 * config.bins + 2 * config.phase_bins
        self.register_buffer("analysis", torch.hann_window(config.window), persistent=False)
        self.register_buffer("long_analysis", torch.hann_window(config.long_window), persistent=False)
        self.enc_in = nn.Linear(features, config.fast_dim)
        self.enc_fast = ConvNeXtStack(config.fast_dim, config.encoder_fast_depth, config.fast_expansion)
        self.enc_slower = nn.Linear(config.rate_ratio * config.fast_dim, config.slow_dim)
        self.enc_long = nn.Linear(config.long_bins, config.slow_dim)
        self.enc_slow = ConvNeXtStack(config.slow_dim, config.encoder_slow_depth, config.slow_expansion)
        self.enc_out = nn.Sequential(nn.LayerNorm(config.slow_dim), nn.Linear(config.slow_dim, config.latent_dim))
        self.quantizer = ResidualVectorQuantizer(config.num_codebooks, config.codebook_size, config.latent_dim)
        self.dec_in = nn.Linear(config.latent_dim, config.slow_dim)
        self.dec_slow = ConvNeXtStack(config.slow_dim, config.decoder_slow_depth, config.slow_expansion)
        self.dec_faster = nn.Linear(config.slow_dim, config.rate_ratio * config.fast_dim)
        self.dec_fast = ConvNeXtStack(config.fast_dim, config.decoder_fast_depth, config.fast_expansion)
        self.dec_norm = nn.LayerNorm(config.fast_dim)
        self.dec_out = nn.Linear(config.fast_dim, 4 * config.bins)

    # --- training and the parts that streams share ------------------------------------------------------------------

    def encoder_state(self, batch_size: int) -> EncoderState:
        past = self.analysis.new_zeros(batch_size, 2, self.config.long_window - self.hop_length)
        return EncoderState(past, self.enc_fast.init_state(batch_size), self.enc_slow.init_state(batch_size))

    def decoder_state(self, batch_size: int) -> DecoderState:
        overlap = self.analysis.new_zeros(batch_size, 2, 3, self.config.short_hop)
        return DecoderState(self.dec_slow.init_state(batch_size), self.dec_fast.init_state(batch_size), overlap)

    def encode_latents(self, samples: Tensor, state: EncoderState) -> tuple[Tensor, EncoderState]:
        """Left/right `[B, 2, T · hop_length]` → latents before quantising `[B, T, D]`."""
        config = self.config
        left, right = samples[:, 0], samples[:, 1]
        seen = torch.cat([state.samples, torch.stack([(left + right) / 2, (left - right) / 2], 1)], 2)
        with torch.autocast(samples.device.type, enabled=False):
            short = seen[:, :, state.samples.shape[2] - 3 * config.short_hop :].float()
            spectra = torch.fft.rfft(short.unfold(2, config.window, config.short_hop) * self.analysis)
            magnitude = spectra[..., : config.bins].abs()
            low = spectra[:, 0, :, : config.phase_bins]
            turned = torch.view_as_real(low / (low.abs() + 1e-4).sqrt()).flatten(2)
            fast_in = torch.cat([_log(magnitude[:, 0]), _log(magnitude[:, 1]), turned], 2)
            frames = seen[:, 0].float().unfold(1, config.long_window, self.hop_length)
            long = torch.fft.rfft(frames * self.long_analysis)[..., : config.long_bins].abs()
            slow_in = _log(long)
        x, fast = self.enc_fast(self.enc_in(fast_in), state.fast)
        x = self.enc_slower(x.unflatten(1, (-1, config.rate_ratio)).flatten(2)) + self.enc_long(slow_in)
        x, slow = self.enc_slow(x, state.slow)
        return self.enc_out(x), EncoderState(seen[:, :, samples.shape[2] :], fast, slow)

    def decode_latents(self, latents: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """Latents `[B, T, D]` → left/right `[B, 2, T · hop_length]`, late by three short hops."""
        config = self.config
        x, slow = self.dec_slow(self.dec_in(latents), state.slow)
        x, fast = self.dec_fast(self.dec_faster(x).unflatten(2, (config.rate_ratio, -1)).flatten(1, 2), state.fast)
        head = self.dec_out(self.dec_norm(x)).float()
        with torch.autocast(latents.device.type, enabled=False):
            magnitude, phase = head.unflatten(2, (2, 2, config.bins)).permute(2, 0, 3, 1, 4)  # each [B, 2, F, bins]
            spectra = torch.polar(magnitude.clamp(max=7.0).exp(), phase)
            frames = torch.fft.irfft(spectra, n=config.window) * (self.analysis / 1.5)
            hops = frames.unflatten(3, (4, config.short_hop))  # frame j, part p adds to block j + p
            count = hops.shape[2]
            blocks = torch.cat([state.overlap, hops.new_zeros(*hops.shape[:2], count, config.short_hop)], 2)
            for part in range(4):
                blocks[:, :, part : part + count] += hops[:, :, :, part]
            done = blocks[:, :, :count].flatten(2)
            mid, side = done[:, 0], done[:, 1]
        stereo = torch.stack([mid + side, mid - side], 1)
        return stereo, DecoderState(slow, fast, blocks[:, :, count:])

    def forward(self, samples: Tensor, levels: Tensor) -> tuple[Tensor, Quantized]:
        """Reconstruct `[B, 2, T · hop_length]` through `levels` `[B]` codebooks, for training.

        The output is aligned with the input; its last three short hops are unfinished, as at the end of a stream.
        """
        latents, _ = self.encode_latents(samples, self.encoder_state(samples.shape[0]))
        quantized = self.quantizer(latents, levels) if bool(self.quantizer.started) else self._unquantized(latents)
        late, state = self.decode_latents(quantized.latents, self.decoder_state(samples.shape[0]))
        rest = self._finish(state)
        return torch.cat([late[:, :, 3 * self.config.short_hop :], rest], 2), quantized

    def _unquantized(self, latents: Tensor) -> Quantized:
        codes = latents.new_zeros(latents.shape[0], self.num_codebooks, latents.shape[1], dtype=torch.long)
        return Quantized(latents, codes, latents.float().square().mean())

    def _finish(self, state: DecoderState) -> Tensor:
        mid, side = state.overlap.flatten(2).unbind(1)
        return torch.stack([mid + side, mid - side], 1)

    # --- weights ----------------------------------------------------------------------------------------------------

    @property
    def fingerprint(self) -> str:
        """Hash of what decides the codes: encoder and codebooks. Prepared codes are keyed by it."""
        state = self.state_dict()
        return fingerprint((n, v) for n, v in state.items() if n.startswith("enc_") or n == "quantizer.codebooks")

    def save(self, folder: str | Path, storage: Storage) -> None:
        """Write a model folder; the moving averages of training are left out."""
        kept = {n: v for n, v in self.state_dict().items() if not n.startswith("quantizer.") or n.endswith("codebooks")}
        save_weights(folder, "spectral_codec", self.config.model_dump(mode="json"), kept, storage)

    @classmethod
    def load(cls, folder: str | Path) -> SpectralCodec:
        """Read what `save` wrote. Raises AudiogenError naming what is missing or does not fit."""
        config, tensors = load_weights(folder, "spectral_codec")
        codec = cls(SpectralCodecConfig.build(config, f"{folder}/config.json"))
        training = {n: v for n, v in codec.state_dict().items() if n not in tensors and n.startswith("quantizer.")}
        fill_module(codec, training | tensors, folder)
        codec.quantizer.started.fill_(True)
        return codec.eval().requires_grad_(False)

    # --- the protocol -----------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def encode(self, samples: Tensor) -> Tensor:
        """`[B, 2, S]` → codes int64 `[B, K, ceil(S / hop_length)]`; the last frame is padded with silence.

        Raises AudiogenError for another number of channels, no samples, or samples that are not finite.
        """
        if samples.ndim and not samples.shape[-1]:
            raise AudiogenError("the audio has no samples: give at least one")
        stream = self.streaming_encoder(len(samples))
        return torch.cat([stream.encode(samples), stream.flush()], 2)

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> Tensor:
        """Codes int64 `[B, k, T]`, 1 ≤ k ≤ K → `[B, 2, T · hop_length]`. Raises AudiogenError for bad codes."""
        stream = self.streaming_decoder(codes.shape[0])
        return torch.cat([stream.decode(codes), stream.flush()], 2)

    def streaming_encoder(self, batch_size: int = 1) -> BlockEncoder[EncoderState]:
        def step(samples: Tensor, state: EncoderState) -> tuple[Tensor, EncoderState]:
            latents, state = self.encode_latents(samples, state)
            return self.quantizer.encode(latents), state

        return BlockEncoder(
            step, self.encoder_state(batch_size), batch_size, self.channels,
            hop_length=self.hop_length, num_codebooks=self.num_codebooks,
        )  # fmt: skip

    def streaming_decoder(self, batch_size: int = 1) -> FrameDecoder[DecoderState]:
        def step(codes: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
            return self.decode_latents(self.quantizer.decode(codes), state)

        return FrameDecoder(
            step, self._finish, self.decoder_state(batch_size), batch_size, (self.num_codebooks, self.codebook_size),
            skip_samples=3 * self.config.short_hop, hop_length=self.hop_length,
        )  # fmt: skip


def _log(magnitude: Tensor) -> Tensor:
    """Log-magnitude scaled to about ±2 for music at −16 LUFS."""
    return (magnitude + 1e-3).log() * (1.0 / math.log(10.0))
