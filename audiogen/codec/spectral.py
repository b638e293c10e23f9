"""SpectralCodec: STFT in, inverse STFT out, causal, integer codes between.

The encoder hears loudness, never phase: short spectra (log-magnitude of mid and side) at 100 Hz, and at 25 Hz a long
spectrum and a bank of semitones. The decoder draws STFT frames at 100 Hz as a sum of three things, overlapped and
added: tones of an oscillator bank, whose phases the stream carries along; noise, given magnitudes with phases from a
fixed table; and free bins, magnitude and phase (cf. Siuzdak 2023, Vocos, §3.3), for what starts sharply (deterministic
plus stochastic plus transient: Serra and Smith 1990; Verma and Meng 2000).

Nothing looks ahead. Decoded audio comes late by `lookahead_frames`, which lets the codes of a moment tell what
followed it, and by the overlap of three short hops (30 ms).
"""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiogen.codec.layers import ConvNeXtStack, State
from audiogen.codec.oscillators import OscillatorBank, PitchBank
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
    long_window: int = 8192
    """samples of the spectrum that resolves semitones; the bank of semitones listens with half and twice as many too"""
    long_hz: float = 4000.0
    """the long spectrum is kept below this"""
    lowest_hz: float = 32.703
    """the lowest oscillator: C1"""
    num_oscillators: int = 96
    """one a semitone: eight octaves"""
    pitch_dim: int = 256
    """width of the small network that tells the oscillators' frequencies"""
    noise_bands: int = 64
    noise_frames: int = 512
    """frames of the table of noise phases, after which it repeats (5 s)"""
    lookahead_frames: int = 1
    """decoded audio is late by this many frames beside its overlap"""
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
    def long_bins(self) -> int:
        return int(self.long_hz * self.long_window / self.sample_rate)

    @property
    def late_samples(self) -> int:
        """how far decoded audio lies behind the codes"""
        return self.lookahead_frames * self.hop_length + 3 * self.short_hop

    @property
    def centres_hz(self) -> Tensor:
        """of the oscillators, float64 `[K]`"""
        return self.lowest_hz * 2 ** (torch.arange(self.num_oscillators, dtype=torch.float64) / 12)

    def model_post_init(self, context: Any, /) -> None:
        if self.hop_length % self.short_hop:
            raise ValueError(f"hop_length {self.hop_length} must be a multiple of short_hop {self.short_hop}")
        highest_hz = float(self.centres_hz[-1]) * 2 ** (1 / 12)
        if max(self.top_hz, self.long_hz, highest_hz) > self.sample_rate / 2:
            raise ValueError(
                f"top_hz, long_hz and the highest oscillator must lie below half of sample_rate {self.sample_rate}"
            )
        if self.long_window < self.hop_length:
            raise ValueError(f"long_window {self.long_window} must be at least hop_length {self.hop_length}")


class EncoderState(NamedTuple):
    """Past samples (mid, side) `[B, 2, past]` and the stacks' states."""

    samples: Tensor
    fast: State
    slow: State


class DecoderState(NamedTuple):
    """Where a stream of audio stands."""

    slow: State
    fast: State
    latents: Tensor
    """of the last frame, `[B, 1, D]`"""
    deviation: Tensor
    """of the oscillators in the last frame, semitones, float64 `[B, 1, K]`"""
    phases: Tensor
    """of the oscillators in the last short frame, float64 `[B, K]`"""
    frame: int
    """short frames so far: the place in the table of noise phases"""
    overlap: Tensor
    """the unfinished sum `[B, 2, 3, short_hop]`"""


class Reconstruction(NamedTuple):
    """What training sees: audio `[B, 2, T · hop_length - late_samples]`, aligned with the input's start; the
    quantiser's word; and how far the oscillators are from the tones that the encoder heard, in nepers and semitones."""

    samples: Tensor
    quantized: Quantized
    mistuned: Tensor
    misweighed: Tensor


class SpectralCodec(nn.Module):
    """The default codec, 48 kHz stereo. Implements `audiogen.interfaces.Codec`."""

    analysis: Tensor
    long_analysis: Tensor
    noise: Tensor
    bands: Tensor

    def __init__(self, config: SpectralCodecConfig) -> None:
        super().__init__()
        self.config = config
        self.sample_rate, self.channels = config.sample_rate, config.channels
        self.hop_length, self.num_codebooks = config.hop_length, config.num_codebooks
        self.codebook_size = config.codebook_size
        oscillators = config.num_oscillators
        self.register_buffer("analysis", torch.hann_window(config.window), persistent=False)
        self.register_buffer("long_analysis", torch.hann_window(config.long_window), persistent=False)
        self.register_buffer("noise", _noise(config.noise_frames, config.bins), persistent=False)
        self.register_buffer("bands", _bands(config.noise_bands, config.bins), persistent=False)
        self.pitch_bank = PitchBank(config.centres_hz, config.long_window, config.sample_rate)
        self.oscillators = OscillatorBank(config.centres_hz, config.sample_rate, config.window, config.short_hop)
        self.enc_in = nn.Linear(2 * config.bins, config.fast_dim)
        self.enc_fast = ConvNeXtStack(config.fast_dim, config.encoder_fast_depth, config.fast_expansion)
        self.enc_slower = nn.Linear(config.rate_ratio * config.fast_dim, config.slow_dim)
        self.enc_long = nn.Linear(config.long_bins + 2 * oscillators, config.slow_dim)
        self.enc_slow = ConvNeXtStack(config.slow_dim, config.encoder_slow_depth, config.slow_expansion)
        self.enc_out = nn.Sequential(nn.LayerNorm(config.slow_dim), nn.Linear(config.slow_dim, config.latent_dim))
        self.quantizer = ResidualVectorQuantizer(config.num_codebooks, config.codebook_size, config.latent_dim)
        self.dec_in = nn.Linear(config.latent_dim, config.slow_dim)
        self.dec_slow = ConvNeXtStack(config.slow_dim, config.decoder_slow_depth, config.slow_expansion)
        self.dec_faster = nn.Linear(config.slow_dim, config.rate_ratio * config.fast_dim)
        self.dec_fast = ConvNeXtStack(config.fast_dim, config.decoder_fast_depth, config.fast_expansion)
        self.dec_norm = nn.LayerNorm(config.fast_dim)
        self._head_sizes = [4 * config.bins, 2 * config.noise_bands, 3 * oscillators]
        self.dec_out = nn.Linear(config.fast_dim, sum(self._head_sizes))
        sizes = (2 * config.latent_dim, config.pitch_dim, config.pitch_dim, oscillators)
        self.dec_pitch = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))

    # --- training and the parts that streams share ------------------------------------------------------------------

    def encoder_state(self, batch_size: int) -> EncoderState:
        past = self.analysis.new_zeros(batch_size, 2, self.pitch_bank.past_samples - self.hop_length)
        return EncoderState(past, self.enc_fast.init_state(batch_size), self.enc_slow.init_state(batch_size))

    def decoder_state(self, batch_size: int) -> DecoderState:
        config = self.config
        return DecoderState(
            slow=self.dec_slow.init_state(batch_size),
            fast=self.dec_fast.init_state(batch_size),
            latents=self.analysis.new_zeros(batch_size, 1, config.latent_dim),
            deviation=self.analysis.new_zeros(batch_size, 1, config.num_oscillators, dtype=torch.float64),
            phases=self.oscillators.first_phases(batch_size),
            frame=0,
            overlap=self.analysis.new_zeros(batch_size, 2, 3, config.short_hop),
        )

    def encode_latents(self, samples: Tensor, state: EncoderState) -> tuple[Tensor, EncoderState]:
        """Left/right `[B, 2, T · hop_length]` → latents before quantising `[B, T, D]`."""
        latents, state, _ = self._encode(samples, state)
        return latents, state

    def _encode(self, samples: Tensor, state: EncoderState) -> tuple[Tensor, EncoderState, tuple[Tensor, ...]]:
        """... and what the bank of semitones heard."""
        config = self.config
        left, right = samples[:, 0], samples[:, 1]
        seen = torch.cat([state.samples, torch.stack([(left + right) / 2, (left - right) / 2], 1)], 2)
        past = state.samples.shape[2]
        with torch.autocast(samples.device.type, enabled=False):
            seen = seen.float()
            short = seen[:, :, past - 3 * config.short_hop :]
            magnitude = torch.fft.rfft(short.unfold(2, config.window, config.short_hop) * self.analysis).abs()
            fast_in = _log(magnitude[..., : config.bins]).transpose(1, 2).flatten(2)
            mid = seen[:, 0]
            frames = mid[:, past + self.hop_length - config.long_window :].unfold(
                1, config.long_window, self.hop_length
            )
            long = torch.fft.rfft(frames * self.long_analysis)[..., : config.long_bins].abs()
            amplitude, deviation, clearness = heard = self.pitch_bank(mid, frames.shape[1], self.hop_length)
            slow_in = torch.cat([_log(long), _log(1000 * amplitude), deviation * clearness], 2)
        x, fast = self.enc_fast(self.enc_in(fast_in), state.fast)
        x = self.enc_slower(x.unflatten(1, (-1, config.rate_ratio)).flatten(2)) + self.enc_long(slow_in)
        x, slow = self.enc_slow(x, state.slow)
        return self.enc_out(x), EncoderState(seen[:, :, samples.shape[2] :], fast, slow), heard

    def decode_latents(self, latents: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """Latents `[B, T, D]` → left/right `[B, 2, T · hop_length]`, late by `late_samples`."""
        stereo, state, _ = self._decode(latents, state)
        return stereo, state

    def _decode(self, latents: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState, tuple[Tensor, Tensor]]:
        """... and amplitude and deviation of the oscillators at the frame rate, each `[B, T, K]`."""
        config = self.config
        x, slow = self.dec_slow(self.dec_in(latents), state.slow)
        x, fast = self.dec_fast(self.dec_faster(x).unflatten(2, (config.rate_ratio, -1)).flatten(1, 2), state.fast)
        free, noise, tones = self.dec_out(self.dec_norm(x)).float().split(self._head_sizes, 2)
        with torch.autocast(latents.device.type, enabled=False):
            known, deviation = self._deviation(latents, state)
            loudness, *across = tones.unflatten(2, (3, -1)).unbind(2)
            width = torch.complex(*(1.5 * part.tanh() for part in across))
            amplitude = (loudness.clamp(max=6.0) - 6.0).exp()
            drawn, phases = self.oscillators(
                amplitude * torch.stack([torch.ones_like(width), width]), deviation, state.phases
            )
            magnitude, phase = free.unflatten(2, (2, 2, config.bins)).permute(2, 3, 0, 1, 4)  # each [2, B, F, bins]
            magnitude = magnitude.clamp(max=7.0).exp()
            spectra = torch.complex(magnitude * phase.cos(), magnitude * phase.sin())  # half as dear as polar
            count = spectra.shape[2]
            place = torch.arange(state.frame, state.frame + count, device=x.device) % config.noise_frames
            hiss = (noise.unflatten(2, (2, -1)) @ self.bands - 1.0).clamp(max=7.0).exp()  # [B, F, 2, bins]
            spectra = spectra + hiss.permute(2, 0, 1, 3) * self.noise[:, None, place]
            tonal = min(self.oscillators.bins, config.bins)
            spectra = torch.cat([spectra[..., :tonal] + drawn[..., :tonal], spectra[..., tonal:]], 3)
            frames = (torch.fft.irfft(spectra, n=config.window) * (self.analysis / 1.5)).transpose(0, 1)
            hops = frames.unflatten(3, (4, config.short_hop))  # frame j, part p adds to block j + p
            blocks = torch.cat([state.overlap, hops.new_zeros(*hops.shape[:2], count, config.short_hop)], 2)
            for part in range(4):
                blocks[:, :, part : part + count] += hops[:, :, :, part]
            done = blocks[:, :, :count].flatten(2)
            mid, side = done[:, 0], done[:, 1]
        stereo = torch.stack([mid + side, mid - side], 1)
        following = DecoderState(
            slow, fast, latents[:, -1:], known[:, -1:], phases, state.frame + count, blocks[:, :, count:]
        )
        return stereo, following, (amplitude.unflatten(1, (-1, config.rate_ratio)).mean(2), known.float())

    def _deviation(self, latents: Tensor, state: DecoderState) -> tuple[Tensor, Tensor]:
        """The oscillators' distance from their semitones, float64 `[B, T, K]`, and the same at the short hop's rate.

        In float64 from the codebooks' sums on, since phases add up what is told here for as long as the stream runs.
        """
        x = torch.cat([torch.cat([state.latents, latents[:, :-1]], 1), latents], 2).double()
        for index, layer in enumerate(self.dec_pitch):
            x = F.gelu(x, approximate="tanh") if index else x
            x = F.linear(x, layer.weight.double(), layer.bias.double())  # type: ignore[union-attr, operator, arg-type]
        known = 0.6 * torch.tanh(x)
        before = torch.cat([state.deviation, known[:, :-1]], 1)[:, :, None]
        ratio = self.config.rate_ratio
        share = torch.arange(1, ratio + 1, dtype=torch.float64, device=x.device)[:, None] / ratio
        return known, (before + (known[:, :, None] - before) * share).flatten(1, 2)

    def forward(self, samples: Tensor, levels: Tensor) -> Reconstruction:
        """Reconstruct `[B, 2, T · hop_length]` through `levels` `[B]` codebooks, for training.

        Phases and noise begin anywhere, so that the network cannot learn the beginning of a stream by heart.
        """
        batch, config = samples.shape[0], self.config
        latents, _, heard = self._encode(samples, self.encoder_state(batch))
        quantized = self.quantizer(latents, levels) if bool(self.quantizer.started) else self._unquantized(latents)
        state = self.decoder_state(batch)
        phases = torch.rand_like(state.phases) * (2 * math.pi)
        state = state._replace(phases=phases, frame=int(torch.randint(config.noise_frames, ())))
        late, _, played = self._decode(quantized.latents, state)
        return Reconstruction(late[:, :, config.late_samples :], quantized, *self._tones(played, heard))

    def _tones(self, played: tuple[Tensor, ...], heard: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Mean distance of the oscillators from the tones heard: in semitones, weighted by amplitude, and in nepers.

        What is heard at a semitone counts where it is one clear tone, and is nothing when that tone is a neighbour's.
        What a window hears lies at its middle, so longer windows are compared with earlier frames.
        """
        config, bank = self.config, self.pitch_bank
        distances, weights = [], []
        parts = zip(*(part.split(bank.parts, 2) for part in (*played, *heard)), strict=True)
        for size, (loudness, mine, amplitude, theirs, clearness) in zip(bank.windows, parts, strict=True):
            drawn_at = config.late_samples - 2 * config.short_hop  # samples from a frame's middle to its codes' end
            behind = max(0, round((size / 2 - drawn_at) / self.hop_length))
            loudness, mine = (part[:, : part.shape[1] - behind] for part in (loudness, mine))
            amplitude, theirs, clearness = (part[:, behind:] for part in (amplitude, theirs, clearness))
            own, clear = theirs.abs() < 0.6, clearness.square()
            tuning = amplitude.sqrt() * clear * own
            away = ((loudness + 1e-3).log() - (amplitude * own + 1e-3).log()).abs()
            distances.append(torch.stack([(tuning * (mine - theirs).abs()).sum(), (clear * away).sum()]))
            weights.append(torch.stack([tuning.sum(), clear.sum()]))
        mistuned, misweighed = sum(distances) / (sum(weights) + 1e-6)  # type: ignore[call-overload, misc]
        return mistuned, misweighed

    def _unquantized(self, latents: Tensor) -> Quantized:
        codes = latents.new_zeros(latents.shape[0], self.num_codebooks, latents.shape[1], dtype=torch.long)
        return Quantized(latents, codes, latents.float().square().mean())

    def _finish(self, state: DecoderState) -> Tensor:
        """The last `late_samples`: nothing is known of what would have followed."""
        unknown = state.latents.new_zeros(len(state.latents), self.config.lookahead_frames, self.config.latent_dim)
        rest = state.overlap.new_zeros(len(state.latents), 2, 0)
        if self.config.lookahead_frames:
            rest, state = self.decode_latents(unknown, state)
        mid, side = state.overlap.flatten(2).unbind(1)
        return torch.cat([rest, torch.stack([mid + side, mid - side], 1)], 2)

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
            skip_samples=self.config.late_samples, hop_length=self.hop_length,
        )  # fmt: skip


def _log(magnitude: Tensor) -> Tensor:
    """Log-magnitude scaled to about ±2 for music at −16 LUFS."""
    return (magnitude + 1e-3).log() * (1.0 / math.log(10.0))


def _noise(frames: int, bins: int) -> Tensor:
    """Phases as unit numbers, complex64 `[2, frames, bins]`: the same on every machine."""
    turns = np.random.default_rng(0).random((2, frames, bins), dtype=np.float32)
    return torch.polar(torch.ones(turns.shape), torch.from_numpy(turns) * (2 * math.pi))


def _bands(count: int, bins: int) -> Tensor:
    """Linear interpolation from bands, equally far apart on a mel-like scale, to bins: `[count, bins]`."""
    scale = torch.log1p(torch.arange(bins) * (30.0 / bins))
    place = scale / scale[-1] * (count - 1)
    return (1 - (torch.arange(count)[:, None] - place).abs()).clamp_min(0)
