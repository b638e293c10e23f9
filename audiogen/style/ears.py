"""The tagger's network: levels of ten seconds in, what can be told of them out.

Four branches with no weights in common, so that what is heard in one does not lean on another:

- timbre: convolutions over mel bands and semitones, to a vector every 1.28 s, from which style, moods, instruments and
  energy are read, and whose mean is the embedding;
- key: convolutions along the semitones, octaves folded, then convolutions around the circle of pitch classes. Moving
  the music by a semitone moves the answer by one (after Korzeniowski and Widmer 2018), whatever the weights;
- tempo: learned onset curves, their autocorrelation over lags that grow by equal ratios, convolutions along the lags.
  Playing faster moves the answer, whatever the weights (after Grosche et al. 2010);
- metre: read off the same lags at the beat.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from audiogen.audio.semitones import SEMITONES
from audiogen.config import Config
from audiogen.interfaces import INSTRUMENTS, MOODS, STYLES
from audiogen.style.hearing import BANDS, MEL_RATE

STEP_FRAMES = 16  # frames of semitones, 1.28 s
METRES = (3, 4)
KEYS = 24  # twelve major, then twelve minor
LAGS_AN_OCTAVE = 24
_SHORTEST_LAG_SECONDS = 0.15
_LAGS = 128
_SLOWEST_BPM = 45.0
TEMPO_CLASSES = 58
_OCTAVES = SEMITONES // 12
_BRIGHT_DB, _RANGE_DB, _SCALE_DB = 10.0, 70.0, 20.0


def tempo_classes() -> Tensor:
    """Beats a minute of each class, falling from 240.4 to 46.3 by 2.9 %, `[58]`."""
    return 60 / _lag_seconds()[_first_tempo() : _first_tempo() + TEMPO_CLASSES]


def _lag_seconds() -> Tensor:
    return _SHORTEST_LAG_SECONDS * 2 ** (torch.arange(_LAGS) / LAGS_AN_OCTAVE)


def _first_tempo() -> int:
    longest = round(LAGS_AN_OCTAVE * math.log2(60 / _SLOWEST_BPM / _SHORTEST_LAG_SECONDS))
    return longest - TEMPO_CLASSES


class EarsConfig(Config):
    """Widths of the network."""

    timbre: tuple[int, int, int, int] = (24, 48, 96, 128)
    pitch: tuple[int, int, int] = (24, 32, 64)
    key: int = 48
    onsets: int = 8
    tempo: int = 32
    embedding: int = 128
    dropout: float = 0.2


@dataclass(frozen=True)
class Opinions:
    """What the network says of windows, in logits. B windows of N steps of 1.28 s."""

    steps: Tensor
    """`[B, N, D]`"""
    style: Tensor
    """`[B, 10]`"""
    moods: Tensor
    """`[B, 16]`"""
    instruments: Tensor
    """`[B, N, 29]`"""
    attention: Tensor
    """how much each step's word on each instrument counts, `[B, N, 29]`"""
    energy: Tensor
    """`[B, N]`"""
    key: Tensor
    """`[B, 24]`"""
    tempo: Tensor
    """`[B, 58]`"""
    metre: Tensor
    """of each tempo class, if it were the tempo, `[B, 2, 58]`"""


class Ears(nn.Module):
    """Levels in dB against the loudest: mel `[B, 64, 4 T]`, semitones `[B, 84, T]`, T a multiple of 16 → `Opinions`."""

    def __init__(self, config: EarsConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or EarsConfig()
        self.timbre = _Timbre(config)
        self.key = _Key(config)
        self.tempo = _Tempo(config)
        width = config.embedding
        self.style = nn.Linear(width, len(STYLES))
        self.moods = nn.Linear(width, len(MOODS))
        self.instruments = nn.Linear(width, len(INSTRUMENTS))
        self.attention = nn.Linear(width, len(INSTRUMENTS))
        self.energy = nn.Linear(width, 1)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, mel: Tensor, semitones: Tensor) -> Opinions:
        mel, semitones = _scaled(mel), _scaled(semitones)
        steps = self.timbre(mel, semitones)
        heard = self.drop(steps)
        whole = self.drop(steps.mean(1))
        tempo, metre = self.tempo(mel)
        return Opinions(
            steps, self.style(whole), self.moods(whole), self.instruments(heard), 3 * torch.tanh(self.attention(heard)),
            self.energy(heard)[..., 0], self.key(semitones), tempo, metre,
        )  # fmt: skip


def instruments_present(logits: Tensor, attention: Tensor) -> Tensor:
    """Chance that each instrument plays somewhere: steps' chances weighted by attention (Kong et al. 2020, sec. 3.2).

    `[B, N, 29]` twice → `[B, 29]`.
    """
    return (logits.float().sigmoid() * attention.float().softmax(1)).sum(1)


def _scaled(levels: Tensor) -> Tensor:
    return (levels.clamp(-_RANGE_DB, _BRIGHT_DB) + _RANGE_DB / 2) / _SCALE_DB


def _layer(inputs: int, outputs: int, kernel: tuple[int, int], stride: tuple[int, int] = (1, 1)) -> nn.Sequential:
    padding = (kernel[0] // 2, kernel[1] // 2)
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


def _layers_1d(widths: Sequence[int], kernels: Sequence[int], dilations: Sequence[int]) -> nn.Sequential:
    parts: list[nn.Module] = []
    for inputs, outputs, kernel, dilation in zip(widths, widths[1:], kernels, dilations, strict=False):
        convolution = nn.Conv1d(inputs, outputs, kernel, padding=dilation * (kernel // 2), dilation=dilation)
        parts += [convolution, nn.BatchNorm1d(outputs), nn.ReLU()]
    return nn.Sequential(*parts)


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            _layer(width, width, (3, 3)), nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.inner(x))


class _Timbre(nn.Module):
    """mel `[B, 64, 4 T]`, semitones `[B, 84, T]` → `[B, T / 16, D]`."""

    def __init__(self, config: EarsConfig) -> None:
        super().__init__()
        a, b, c, d = config.timbre
        self.mel = nn.Sequential(
            _layer(1, a, (5, 5), (2, 2)), _layer(a, b, (3, 3), (2, 2)), _Residual(b),
            _layer(b, c, (3, 3), (2, 1)), _layer(c, d, (3, 3), (2, 2)),
        )  # fmt: skip
        e, f, g = config.pitch
        self.pitch = nn.Sequential(
            _layer(1, e, (5, 3)), nn.MaxPool2d((2, 1)), _layer(e, f, (5, 3), (1, 2)), _layer(f, g, (3, 3), (2, 1)),
            _layer(g, g, (3, 3), (3, 1)),
        )  # fmt: skip
        width = config.embedding
        self.from_mel = nn.Linear(d * (BANDS // 16), 2 * width)
        self.from_pitch = nn.Linear(g * (SEMITONES // 12), 2 * width, bias=False)
        self.times = nn.Conv1d(2 * width, 2 * width, 5, padding=2, groups=2 * width)
        self.mix = nn.Sequential(nn.BatchNorm1d(2 * width), nn.ReLU(), nn.Dropout(config.dropout))
        self.to_step = nn.Linear(4 * width, width)

    def forward(self, mel: Tensor, semitones: Tensor) -> Tensor:
        from_mel = self.from_mel(self.mel(mel[:, None]).flatten(1, 2).mT)
        frames = (from_mel + self.from_pitch(self.pitch(semitones[:, None]).flatten(1, 2).mT)).mT  # [B, 2 D, T / 2]
        frames = self.mix(frames + self.times(frames))
        grouped = frames.unflatten(2, (-1, STEP_FRAMES // 2))
        step: Tensor = self.to_step(torch.cat([grouped.mean(3), grouped.amax(3)], 1).mT)
        return step


class _Key(nn.Module):
    """semitones `[B, 84, T]` → logits of 24 keys."""

    def __init__(self, config: EarsConfig) -> None:
        super().__init__()
        first, second, _ = config.pitch
        self.spectral = nn.Sequential(_layer(1, first, (5, 1)), _layer(first, second, (5, 5), (1, 2)))
        self.along = _layers_1d((second, config.key), (13,), (1,))
        self.octaves = nn.Parameter(torch.full((config.key, _OCTAVES), 1 / _OCTAVES))
        self.around = nn.Conv1d(config.key, 2 * config.key, 12)
        self.out = nn.Conv1d(2 * config.key, 2, 1)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, semitones: Tensor) -> Tensor:
        x = self.spectral(semitones[:, None]).mean(3)  # [B, C, 84]
        x = self.along(x).unflatten(2, (_OCTAVES, 12))
        x = (x * self.octaves[..., None]).sum(2)  # [B, C, 12]
        x = torch.relu(self.around(torch.cat([x, x[..., :-1]], 2)))  # what lies 0…11 semitones above each class
        logits: Tensor = self.out(self.drop(x)).flatten(1)
        return logits


class _Tempo(nn.Module):
    """mel `[B, 64, 4 T]` → logits of the tempo `[B, 58]` and, for each tempo, of the metre `[B, 2, 58]`."""

    lags: Tensor

    def __init__(self, config: EarsConfig) -> None:
        super().__init__()
        self.onsets = nn.Sequential(
            nn.Conv1d(BANDS, 32, 5, padding=2), nn.BatchNorm1d(32), nn.ReLU(),
            nn.Conv1d(32, config.onsets, 5, padding=2),
        )  # fmt: skip
        wide = config.tempo
        self.along = _layers_1d((config.onsets, wide, wide, wide), (7, 9, 9), (1, 4, 12))
        self.out = nn.Conv1d(wide, 1, 1)
        self.habit = nn.Parameter(torch.zeros(TEMPO_CLASSES))
        self.metre = nn.Conv1d(wide, len(METRES), 1)
        self.register_buffer("lags", _lag_seconds() * MEL_RATE, persistent=False)

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(mel.device.type, enabled=False):  # a Fourier transform has no half precision
            x = self.along(self._autocorrelation(torch.relu(self.onsets(mel.float()))))
            x = x[..., _first_tempo() : _first_tempo() + TEMPO_CLASSES]
            return self.out(x)[:, 0] + self.habit, self.metre(x)

    def _autocorrelation(self, curves: Tensor) -> Tensor:
        """`[B, C, T]` → `[B, C, 128]`: 1 where a curve repeats itself after that lag, lags beyond the window 0."""
        frames = curves.shape[2]
        curves = curves - curves.mean(2, keepdim=True)
        spectrum = torch.fft.rfft(curves, 2 * frames)
        products = torch.fft.irfft(spectrum.real.square() + spectrum.imag.square(), 2 * frames)[..., :frames]
        products = products / torch.arange(frames, 0, -1, device=curves.device)  # the mean over those that overlap
        products = products / (products[..., :1] + 1e-4)
        below = self.lags.floor().long()
        share = self.lags - below
        reached = (below + 1 < frames * 0.9).float()  # of hardly any overlap the mean says nothing
        below = below.clamp_max(frames - 2)
        return (products[..., below] * (1 - share) + products[..., below + 1] * share) * reached
