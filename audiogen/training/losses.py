"""What the codec is trained on: losses that a listener would miss first, pitch before all.

Log-mel at several scales sees rhythm and timbre but is blind to pitch at the bottom, where a mel band is wider than a
semitone; long-window spectra below 5 kHz resolve semitones (docs/decisions/0002-codec.md tells what each is worth).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiogen.codec.oscillators import semitone_filters
from audiogen.codec.spectral import SpectralCodec
from audiogen.training.neurogram import NeurogramLikeness
from audiogen.training.power_spectrum import PowerSpectrum


def mel_filters(num_bins: int, num_mels: int, sample_rate: int) -> Tensor:
    """Triangular filters on the HTK mel scale that sum to at most one, `[num_bins, num_mels]`."""
    top = 2595.0 * torch.log10(torch.tensor(1 + sample_rate / 2 / 700.0))
    edges_hz = 700.0 * (10 ** (torch.linspace(0, float(top), num_mels + 2) / 2595.0) - 1)
    hz = torch.linspace(0, sample_rate / 2, num_bins)[:, None]
    low, centre, high = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    filters = torch.minimum((hz - low) / (centre - low), (high - hz) / (high - centre)).clamp_min(0)
    return filters / filters.sum(0).clamp_min(1.0)


class SpectralLoss(nn.Module):
    """Log-mel distance of mid and side; log-magnitude, spectral convergence and semitones of mid below 5 kHz; how
    unlike mid sounds in gammatone bands (`neurogram.py`); how far the whole is from being as loud.

    Half of the log-magnitude is shared out evenly over octaves: by bins alone, the four lowest would be a tenth of it.
    Semitones are compared as log(1 + 100 amplitude), so that what is loud counts and a band's phases do not.
    Spectral convergence: Arık et al. 2019, eq. 1; several scales: Yamamoto et al. 2020, eq. 5. The long windows run
    on mid decimated by `decimation`.
    """

    lowpass: Tensor
    mel_scales = ((512, 40), (1024, 80), (2048, 128))
    decimation = 4
    long_windows = (1024, 2048, 4096)
    quiet = 3e-4
    """amplitude of a sine that the long windows take for silence: -70 dB"""

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        for size, mels in self.mel_scales:
            self.register_buffer(f"mel_{size}", mel_filters(size // 2 + 1, mels, sample_rate), persistent=False)
            self.register_buffer(f"window_{size}", torch.hann_window(size), persistent=False)
        rate = sample_rate / self.decimation
        top_hz = min(5000.0, rate / 2)
        semitones_hz = 32.703 * 2 ** (torch.arange(int(12 * math.log2(top_hz / 32.703))) / 12)
        for size, part in zip(self.long_windows, reversed(semitones_hz.tensor_split(3)), strict=True):
            self.register_buffer(f"long_{size}", torch.hann_window(size), persistent=False)
            bins = min(int(top_hz * size / rate), size // 2 + 1)
            self.register_buffer(f"semitones_{size}", semitone_filters(part, size, rate)[:bins], persistent=False)
            octaves = 1 / (torch.arange(bins) + 40.0 * size / rate)
            shares = 0.5 / bins + 0.5 * octaves / octaves.sum()
            self.register_buffer(f"shares_{size}", shares, persistent=False)
        self.likeness = NeurogramLikeness(sample_rate)
        taps = 16 * self.decimation
        time = torch.arange(taps) - (taps - 1) / 2
        lowpass = torch.sinc(time * 0.85 / self.decimation) * torch.hann_window(taps, periodic=False)
        self.register_buffer("lowpass", (lowpass / lowpass.sum())[None, None], persistent=False)

    @property
    def least_samples(self) -> int:
        """The longest window and the filter before it."""
        return self.decimation * max(self.long_windows) + self.lowpass.shape[2]

    def forward(self, output: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Left/right `[B, 2, S]` float32 twice → the loss, and its parts for the log.

        Mid counts most; side tells the width, left and right tell on which side a sound is.
        """
        parts: dict[str, Tensor] = {}
        output, target = output.float(), target.float()
        mid, mid_target = output.mean(1), target.mean(1)
        side, side_target = (output[:, 0] - output[:, 1]) / 2, (target[:, 0] - target[:, 1]) / 2
        parts["mel_mid"], parts["level"] = self._mel(mid, mid_target, self.mel_scales)
        parts["mel_side"], level = self._mel(side, side_target, self.mel_scales[1:2])
        parts["mel_left_right"], _ = self._mel(output.flatten(0, 1), target.flatten(0, 1), self.mel_scales[1:2])
        parts["log_mid"], parts["convergence"], parts["constant_q"] = self._long(mid, mid_target)
        parts["unlike"] = self.likeness(mid, mid_target)
        power, wanted = (samples.square().mean((1, 2)) + 1e-7 for samples in (output, target))
        parts["loudness"] = (power.log() - wanted.log()).abs().mean() / 2
        mel = parts["mel_mid"] + 0.2 * parts["mel_side"] + 0.3 * parts["mel_left_right"]
        pitch = parts["log_mid"] + 0.5 * parts["convergence"] + 3.0 * parts["constant_q"]
        loss = mel + pitch + 0.4 * (parts["level"] + 0.5 * level) + 0.3 * parts["loudness"] + 1.5 * parts["unlike"]
        return loss, {name: value.detach() for name, value in parts.items()}

    def _mel(self, mine: Tensor, theirs: Tensor, scales: tuple[tuple[int, int], ...]) -> tuple[Tensor, Tensor]:
        """→ distance in each frame and band, and of the bands' power over the whole excerpt: what is unsure is played
        too softly by the first alone, since that is right more often than not."""
        total, level = mine.new_zeros(()), mine.new_zeros(())
        for size, _ in scales:
            window, filters = getattr(self, f"window_{size}"), getattr(self, f"mel_{size}")
            # the scale of power differs by window: 2.7e-3 · size is full scale noise; 1e-6 of that is the floor
            floor = 1e-6 * size
            wanted = PowerSpectrum.apply(theirs, window, size // 2 + 1) @ filters + floor
            got = PowerSpectrum.apply(mine, window, size // 2 + 1) @ filters + floor
            total = total + (got.log() - wanted.log()).abs().mean() / 2  # half: power to magnitude
            level = level + (got.mean(1).log() - wanted.mean(1).log()).abs().mean() / 2
        return total / len(scales), level / len(scales)

    def _long(self, mine: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        both = F.conv1d(torch.cat([mine, theirs])[:, None], self.lowpass, stride=self.decimation)[:, 0]
        mine, theirs = both.chunk(2)
        log_distance, convergence, semitones = (mine.new_zeros(()) for _ in range(3))
        for size in self.long_windows:
            window, shares, bands = (getattr(self, f"{name}_{size}") for name in ("long", "shares", "semitones"))
            bins = len(shares)
            floor = (self.quiet * size / 4) ** 2
            wanted, got = (PowerSpectrum.apply(samples, window, bins) + floor for samples in (theirs.detach(), mine))
            loudness = [torch.log1p((power @ bands).sqrt() * (400.0 / size)) for power in (wanted, got)]
            semitones = semitones + (loudness[1] - loudness[0]).abs().mean()
            wanted, got = wanted.sqrt(), got.sqrt()
            convergence = convergence + (_norm(got - wanted) / (_norm(wanted) + 1.0).detach()).mean()
            log_distance = log_distance + ((got.log() - wanted.log()).abs().mean((0, 1)) * shares).sum()
        count = len(self.long_windows)
        return log_distance / count, convergence / count, semitones / count


def tone_distances(
    codec: SpectralCodec, played: tuple[Tensor, ...], heard: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean distance of the oscillators from the tones heard: in semitones; in nepers; and by how many nepers what else
    is played there comes nearer to the tone than 20 dB. All are weighted by the root of the amplitude heard, within
    each excerpt: a single tone counts as much as a full chord.

    What is heard at a semitone counts where it holds for three frames, and is nothing when it is a neighbour's tone:
    noise does not hold, and long windows smear what begins. What a window hears lies at its middle, so longer ones are
    compared with earlier frames.
    """
    config, bank = codec.config, codec.pitch_bank
    distances, weights = [], []
    parts = zip(*(part.split(bank.parts, 2) for part in (*played, *heard)), strict=True)
    for size, (loudness, mine, beside, amplitude, theirs, clearness) in zip(bank.windows, parts, strict=True):
        drawn_at = config.late_samples - 2 * config.short_hop  # samples from a frame's middle to its codes' end
        behind = max(0, round((size / 2 - drawn_at) / config.hop_length))
        loudness, mine, beside = (part[:, : part.shape[1] - behind] for part in (loudness, mine, beside))
        amplitude, theirs, clearness = (part[:, behind:] for part in (amplitude, theirs, clearness))
        level = (amplitude + 3e-4).log()
        held = _steady(level, 0.1) & _steady(theirs, 0.15)
        own, clear = theirs.abs() < 0.5, amplitude.sqrt() * clearness.square()
        floor = torch.where(own, 1e-7, 3e-4)  # a silent oscillator that should sound must feel it
        away = ((loudness + floor).log() - (amplitude * own + 3e-4).log()).abs()
        muddied = ((beside + 3e-4).log() - level + math.log(10)).clamp_min(0)
        for kinds, distance in zip((held & own, held, held & own), ((mine - theirs).abs(), away, muddied), strict=True):
            distances.append((clear * kinds * distance).sum((1, 2)))
            weights.append((clear * kinds).sum((1, 2)))
    summed, shares = (torch.stack(told).unflatten(0, (-1, 3)).sum(0) for told in (distances, weights))
    mistuned, misweighed, muddied = (summed / (shares + 1e-3)).mean(1)
    return mistuned, misweighed, muddied


def _steady(x: Tensor, most: float) -> Tensor:
    """Where `[B, T, K]` moves by less than `most` from the frame before and to the one after."""
    step = F.pad(x.diff(dim=1).abs(), (0, 0, 1, 1), mode="replicate")
    return torch.maximum(step[:, 1:], step[:, :-1]) < most


def _norm(x: Tensor) -> Tensor:
    """Root of the summed squares over frames and bins, `[B]`."""
    return (x.square().sum((1, 2)) + 1e-8).sqrt()
