"""SpectralCodec: STFT in, inverse STFT out, causal, integer codes between.

The encoder hears loudness, never phase: short spectra (log-magnitude of mid and side) at 100 Hz, and at 25 Hz a long
spectrum and a bank of semitones. The decoder draws STFT frames at 100 Hz as a sum of two things, overlapped and
added: tones of an oscillator bank, whose phases the stream carries along (deterministic plus residual: Serra and Smith
1990); and free bins, magnitude and phase (cf. Siuzdak 2023, Vocos, §3.3), for noise and for what starts sharply.

Nothing looks ahead. Decoded audio comes late by `lookahead_frames`, which lets the codes of a moment tell what
followed it, and by the overlap of three short hops (30 ms).
"""

from __future__ import annotations

import math
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiogen.codec.few import FewRows
from audiogen.codec.gaussian import GaussianBottleneck
from audiogen.codec.graph import GraphedStep
from audiogen.codec.layers import ConvNeXtStack, State
from audiogen.codec.oscillators import OscillatorBank, PitchBank
from audiogen.codec.quantizer import Bottled, Reconstruction, ResidualVectorQuantizer
from audiogen.codec.streaming import BlockEncoder, FrameDecoder, OfflineFromStreams
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
    direct: bool = True
    """what is heard of tones goes straight into the latents too, and from there to the oscillators; the encoder is told
    a deviation only at the semitone where a tone stands out. False before 0.7"""
    lookahead_frames: int = 1
    """decoded audio is late by this many frames beside its overlap"""
    top_hz: float = 20_000.0
    """nothing is coded above this"""
    fast_dim: int = 320
    """width at the short hop's rate"""
    slow_dim: int = 384
    """width at the frame rate"""
    encoder_fast_depth: int = 3
    encoder_slow_depth: int = 1
    decoder_slow_depth: int = 2
    decoder_fast_depth: int = 6
    fast_expansion: int = 3
    slow_expansion: int = 3
    bottleneck: Literal["quantizer", "gaussian"] = "quantizer"
    """integer codes, or a continuous latent: a mean and a variance for each dimension and frame"""
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
    """of the oscillators in the last short frame, turns, float64 `[B, K]`"""
    overlap: Tensor
    """the unfinished sum of mid and side `[B, 3, 2, short_hop]`"""


class SpectralCodec(OfflineFromStreams, nn.Module):
    """The default codec, 48 kHz stereo. Implements `audiogen.interfaces.Codec`."""

    analysis: Tensor

    def __init__(self, config: SpectralCodecConfig) -> None:
        super().__init__()
        self.config = config
        self.sample_rate, self.channels = config.sample_rate, config.channels
        self.hop_length, self.num_codebooks = config.hop_length, config.num_codebooks
        self.codebook_size = config.codebook_size
        oscillators = config.num_oscillators
        self.register_buffer("analysis", torch.hann_window(config.window), persistent=False)
        self.pitch_bank = PitchBank(config.centres_hz, config.long_window, config.sample_rate)
        self.oscillators = OscillatorBank(config.centres_hz, config.sample_rate, config.window, config.short_hop)
        self.enc_in = nn.Linear(2 * config.bins, config.fast_dim)
        self.restoring = nn.Parameter(torch.zeros(config.fast_dim))
        self.enc_fast = ConvNeXtStack(config.fast_dim, config.encoder_fast_depth, config.fast_expansion)
        self.enc_slower = nn.Linear(config.rate_ratio * config.fast_dim, config.slow_dim)
        self.enc_long = nn.Linear(config.long_bins + 2 * oscillators, config.slow_dim)
        self.enc_slow = ConvNeXtStack(config.slow_dim, config.encoder_slow_depth, config.slow_expansion)
        self.quantizer: ResidualVectorQuantizer | GaussianBottleneck
        if config.bottleneck == "quantizer":
            self.quantizer = ResidualVectorQuantizer(config.num_codebooks, config.codebook_size, config.latent_dim)
        else:
            self.quantizer = GaussianBottleneck(config.latent_dim)
        self.enc_out = nn.Sequential(
            nn.LayerNorm(config.slow_dim), nn.Linear(config.slow_dim, self.quantizer.input_dim)
        )
        self.dec_in = nn.Linear(config.latent_dim, config.slow_dim)
        self.dec_slow = ConvNeXtStack(config.slow_dim, config.decoder_slow_depth, config.slow_expansion, quick=True)
        self.dec_faster = nn.Linear(config.slow_dim, config.rate_ratio * config.fast_dim)
        self.dec_fast = ConvNeXtStack(config.fast_dim, config.decoder_fast_depth, config.fast_expansion, quick=True)
        self.dec_norm = nn.LayerNorm(config.fast_dim)
        self._few: dict[str, FewRows] = {}
        self._head_sizes = [4 * config.bins, oscillators, 2 * oscillators]
        self.dec_out = nn.Linear(config.fast_dim, sum(self._head_sizes))
        sizes = (2 * config.latent_dim, config.pitch_dim, config.pitch_dim, oscillators)
        self.dec_pitch = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        if config.direct:
            self.enc_direct = nn.Linear(2 * oscillators, self.quantizer.input_dim, bias=False)
            self.dec_direct = nn.Linear(config.latent_dim, oscillators, bias=False)
            for layer in (self.enc_direct, self.dec_direct):
                nn.init.zeros_(layer.weight)

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
            overlap=self.analysis.new_zeros(batch_size, 3, 2, config.short_hop),
        )

    def encode_latents(
        self, samples: Tensor, state: EncoderState, restore: bool = False
    ) -> tuple[Tensor, EncoderState]:
        """Left/right `[B, 2, T · hop_length]` → latents `[B, T, D]`: before quantising, or the Gaussian's means.

        With `restore` those of the music before a low sample rate cut it off.
        """
        asked = samples.new_full((len(samples),), float(restore)) if restore else None
        latents, state, _ = self._encode(samples, state, asked)
        return latents[..., : self.config.latent_dim], state

    def _encode(
        self, samples: Tensor, state: EncoderState, restore: Tensor | None = None
    ) -> tuple[Tensor, EncoderState, tuple[Tensor, ...]]:
        """... and what the bank of semitones heard. `restore` `[B]`: 1 where it is asked for, else 0."""
        config = self.config
        left, right = samples[:, 0], samples[:, 1]
        seen = torch.cat([state.samples, torch.stack([(left + right) / 2, (left - right) / 2], 1)], 2)
        past = state.samples.shape[2]
        with torch.autocast(samples.device.type, enabled=False):
            seen = seen.float()
            short = seen[:, :, past - 3 * config.short_hop :]
            spectra = torch.fft.rfft(short.unfold(2, config.window, config.short_hop) * self.analysis)
            fast_in = _log(spectra[..., : config.bins].abs()).transpose(1, 2).flatten(2)
            mid, frames = seen[:, 0], samples.shape[2] // self.hop_length
            *heard, long = self.pitch_bank(mid, frames, self.hop_length)
            amplitude, deviation, clearness = heard
            long = long[..., : config.long_bins].abs()
            tuning = deviation * clearness
            if config.direct:  # a tone leaks into semitones around it, as clear there and a whole semitone off
                highest = F.max_pool1d(amplitude, 5, 1, 2)
                tuning = 2 * tuning * (amplitude / (highest + 1e-5)).square() * amplitude / (amplitude + 1e-3)
            tones = torch.cat([_log(1000 * amplitude), tuning], 2)
            slow_in = torch.cat([_log(long), tones], 2)
        x = self.enc_in(fast_in)
        if restore is not None:
            x = x + restore[:, None, None] * self.restoring
        x, fast = self.enc_fast(x, state.fast)
        x = self.enc_slower(x.unflatten(1, (-1, config.rate_ratio)).flatten(2)) + self.enc_long(slow_in)
        x, slow = self.enc_slow(x, state.slow)
        latents = self.enc_out(x) + self.enc_direct(tones) if config.direct else self.enc_out(x)
        return latents, EncoderState(seen[:, :, samples.shape[2] :], fast, slow), tuple(heard)

    def decode_latents(self, latents: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """Latents `[B, T, D]` → left/right `[B, 2, T · hop_length]`, late by `late_samples`."""
        stereo, state, _ = self._decode(latents, state)
        return stereo, state

    def _decode(self, latents: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState, tuple[Tensor, ...]]:
        """... and of the oscillators the amplitude `[B, T · rate_ratio, K]` and the deviation `[B, T, K]`, of the free
        bins the magnitude in mid `[B, T · rate_ratio, bins]`."""
        config = self.config
        enter, faster, out = (
            self._few.get(name) or getattr(self, name) for name in ("dec_in", "dec_faster", "dec_out")
        )
        x, slow = self.dec_slow(enter(latents), state.slow)
        x, fast = self.dec_fast(faster(x).unflatten(2, (config.rate_ratio, -1)).flatten(1, 2), state.fast)
        free, loudness, across = out(self.dec_norm(x)).float().split(self._head_sizes, 2)
        if config.direct:
            loudness = loudness + self.dec_direct(latents).float().repeat_interleave(config.rate_ratio, 1)
        with torch.autocast(latents.device.type, enabled=False):
            known, deviation = self._deviation(latents, state)
            width = torch.complex(*(1.5 * across.tanh()).chunk(2, 2))
            amplitude = (loudness.clamp(max=6.0) - 6.0).exp()
            magnitude, phase = free.unflatten(2, (2, 2, config.bins)).unbind(2)  # each [B, F, 2, bins]
            magnitude = magnitude.clamp(max=7.0).exp_()
            noise = torch.complex(magnitude * phase.cos(), magnitude * phase.sin())  # half as dear as polar
            # what spectra say of a frequency, through phases that have come a long way, is noise
            spectra, phases = self.oscillators(noise, amplitude, width, deviation.detach(), state.phases)
            hops = torch.fft.irfft(spectra, n=config.window).unflatten(3, (4, config.short_hop))
            count = hops.shape[1]
            blocks = F.pad(state.overlap, (0, 0, 0, 0, 0, count))
            for part, window in enumerate((self.analysis / 1.5).unflatten(0, (4, -1))):
                blocks[:, part : part + count].addcmul_(hops[:, :, :, part], window)  # frame j adds to block j + part
            mid, side = blocks[:, :count].unbind(2)
            stereo = torch.stack([mid + side, mid - side], 1).flatten(2)
        following = DecoderState(slow, fast, latents[:, -1:], known[:, -1:], phases, blocks[:, count:])
        return stereo, following, (amplitude, known, magnitude[:, :, 0])

    def _deviation(self, latents: Tensor, state: DecoderState) -> tuple[Tensor, Tensor]:
        """The oscillators' distance from their semitones, float64 `[B, T, K]`, and the same at the short hop's rate.

        In float64 from the codebooks' sums on, since phases add up what is told here for as long as the stream runs.
        """
        seen = torch.cat([state.latents, latents], 1)
        x = torch.cat([seen[:, :-1], latents], 2).double()
        for index, layer in enumerate(self.dec_pitch):
            x = F.gelu(x, approximate="tanh") if index else x
            x = F.linear(x, layer.weight.double(), layer.bias.double())  # type: ignore[union-attr, operator, arg-type]
        known = 0.6 * torch.tanh(x)
        before = torch.cat([state.deviation, known[:, :-1]], 1)
        ratio = self.config.rate_ratio
        share = torch.linspace(1 / ratio, 1, ratio, dtype=torch.float64, device=x.device)[:, None]
        return known, torch.lerp(before[:, :, None], known[:, :, None], share).flatten(1, 2)

    def latents_of(self, samples: Tensor) -> Tensor:
        """A whole excerpt `[B, 2, T · hop_length]` → latents `[B, T, D]`."""
        return self.encode_latents(samples, self.encoder_state(len(samples)))[0]

    def forward(self, samples: Tensor, levels: Tensor, restore: Tensor | None = None) -> Reconstruction:
        """Reconstruct `[B, 2, T · hop_length]` through `levels` `[B]` codebooks, for training; where `restore` `[B]` is
        1 what was cut off too.

        Phases begin anywhere, so that the network cannot learn the beginning of a stream by heart.
        """
        batch, config = samples.shape[0], self.config
        latents, _, heard = self._encode(samples, self.encoder_state(batch), restore)
        bottled = self.quantizer(latents, levels) if bool(self.quantizer.started) else self._unquantized(latents)
        state = self.decoder_state(batch)
        state = state._replace(phases=torch.rand_like(state.phases))
        late, _, (amplitude, deviation, free) = self._decode(bottled.latents, state)
        place = (config.centres_hz * (config.window / config.sample_rate)).round().long().to(free.device)
        around = F.avg_pool1d(free.square(), 3, 1, 1)[..., place]  # a sine fills half of its bin in each neighbour
        beside = (2 * around + 1e-12).sqrt() * (4 / config.window)
        loud, beside = (part.unflatten(1, (-1, config.rate_ratio)).mean(2) for part in (amplitude, beside))
        played = (loud, deviation.float(), beside)
        return Reconstruction(late[:, :, config.late_samples :], bottled, played, heard)

    def _unquantized(self, latents: Tensor) -> Bottled:
        codes = latents.new_zeros(latents.shape[0], self.num_codebooks, latents.shape[1], dtype=torch.long)
        return Bottled(latents, codes, latents.float().square().mean())

    def finish(self, state: DecoderState) -> Tensor:
        """The last samples, `[B, 2, late_samples]`: nothing is known of what would have followed."""
        unknown = state.latents.new_zeros(len(state.latents), self.config.lookahead_frames, self.config.latent_dim)
        rest = state.overlap.new_zeros(len(state.latents), 2, 0)
        if self.config.lookahead_frames:
            rest, state = self.decode_latents(unknown, state)
        mid, side = state.overlap.unbind(2)
        return torch.cat([rest, torch.stack([mid + side, mid - side], 1).flatten(2)], 2)

    @property
    def codebooks(self) -> Tensor:
        """`[K, V, D]`. Raises AudiogenError for a Gaussian bottleneck, which has none."""
        if isinstance(self.quantizer, GaussianBottleneck):
            raise AudiogenError("this codec has a Gaussian bottleneck and no codebooks: give one that has")
        return self.quantizer.codebooks

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
        codec = cls(SpectralCodecConfig.build({"direct": False} | config, f"{folder}/config.json"))
        training = {n: v for n, v in codec.state_dict().items() if n not in tensors and n.startswith("quantizer.")}
        training["restoring"] = codec.restoring  # weights of 0.6 and before have none
        fill_module(codec, training | tensors, folder)
        codec.quantizer.started.fill_(True)
        codec.dec_pitch.double()  # as it is computed
        codec.eval().requires_grad_(False)
        for block in (*codec.dec_slow.blocks, *codec.dec_fast.blocks):
            block.settle()  # type: ignore[operator]
        codec._few = {name: FewRows(getattr(codec, name)) for name in ("dec_in", "dec_faster", "dec_out")}
        return codec

    # --- the protocol -----------------------------------------------------------------------------------------------

    def streaming_encoder(self, batch_size: int = 1) -> BlockEncoder[EncoderState]:
        def step(samples: Tensor, state: EncoderState) -> tuple[Tensor, EncoderState]:
            latents, state = self.encode_latents(samples, state)
            return self.quantizer.encode(latents), state

        return BlockEncoder(
            step, self.encoder_state(batch_size), batch_size, self.channels,
            hop_length=self.hop_length, num_codebooks=self.num_codebooks, device=self.analysis.device,
        )  # fmt: skip

    def _decode_codes(self, codes: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        return self.decode_latents(self.quantizer.decode(codes), state)

    @cached_property
    def _graphed(self) -> GraphedStep:
        return GraphedStep(self._decode_codes)

    def streaming_decoder(self, batch_size: int = 1) -> FrameDecoder[DecoderState]:
        return FrameDecoder(
            self._graphed if self.analysis.is_cuda else self._decode_codes, self.finish,
            self.decoder_state(batch_size), batch_size, (self.num_codebooks, self.codebook_size),
            skip_samples=self.config.late_samples, hop_length=self.hop_length, device=self.analysis.device,
        )  # fmt: skip


def _log(magnitude: Tensor) -> Tensor:
    """Log-magnitude scaled to about ±2 for music at −16 LUFS."""
    return (magnitude + 1e-3).log() * (1.0 / math.log(10.0))
