"""A bank of oscillators, one a semitone: what the codec hears of pitch, and how its decoder holds a tone.

A decoder that turns constant codes into constant STFT frames can only sound multiples of its frame rate: to hold a tone
of any other frequency the phase must move from frame to frame, and nothing in the codes says how far it has come.
Here each semitone has an oscillator whose phase the stream carries along (sinusoidal modelling: McAulay and Quatieri
1986; additive synthesis in the STFT domain: Rodet and Depalle 1992). Codes say how loud each is and how far from its
semitone; phase is neither coded nor learned.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_REACH = 3
"""bins on either side of a tone that its spectrum is drawn into: the main lobe and the first side lobes"""


def semitone_filters(centres_hz: Tensor, size: int, sample_rate: float) -> Tensor:
    """Triangles over the bins of a window of `size`, one a semitone, as wide as a semitone or as a bin can tell apart:
    float32 `[size // 2 + 1, len(centres_hz)]`."""
    hz = torch.arange(size // 2 + 1) * sample_rate / size
    width = torch.maximum(centres_hz * (2 ** (1 / 12) - 1), torch.tensor(1.5 * sample_rate / size))
    return (1 - (hz[:, None] - centres_hz).abs() / width).clamp_min(0).float()


class PitchBank(nn.Module):
    """What is heard at each semitone: amplitude and distance of the frequency from the semitone's own.

    A third of the semitones each are heard in windows of two, one and half a `window`: long at the bottom, where
    semitones lie close, short at the top, where notes are.
    """

    semitone_hz: Tensor

    def __init__(self, centres_hz: Tensor, window: int, sample_rate: int) -> None:
        super().__init__()
        self.windows = (2 * window, window, window // 2)
        self.shift = sample_rate // 500
        """samples between the two spectra whose phases tell the frequency: 2 ms, so ±250 Hz can be told"""
        self.parts = [len(part) for part in centres_hz.tensor_split(3)]
        for index, (size, part) in enumerate(zip(self.windows, centres_hz.tensor_split(3), strict=True)):
            weights = semitone_filters(part, size, sample_rate)
            kept = int(weights.sum(1).nonzero().max()) + 1
            turn = -2 * math.pi * part * self.shift / sample_rate
            self.register_buffer(f"hann_{index}", torch.hann_window(size), persistent=False)
            self.register_buffer(f"weights_{index}", weights[:kept], persistent=False)
            self.register_buffer(
                f"turn_{index}", torch.polar(torch.ones_like(turn), turn).to(torch.complex64), persistent=False
            )
        self.register_buffer("semitone_hz", (centres_hz * math.log(2) / 12).float(), persistent=False)
        self._to_hz = sample_rate / (2 * math.pi * self.shift)

    @property
    def past_samples(self) -> int:
        """samples before the end of a frame that are looked at"""
        return self.windows[0] + self.shift

    def forward(self, seen: Tensor, frames: int, hop: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Mid `[B, past_samples + (frames - 1) · hop]` → amplitude, deviation, clearness, each `[B, frames, K]`, and
        the spectrum of `window`, complex64 `[B, frames, window / 2 + 1]`.

        Amplitude is that of a sine (full scale 1); deviation is in semitones, within ±1; clearness 0…1 tells whether
        one tone alone is heard there (the frequencies of several blur); where it is 0 the deviation means nothing.
        """
        amplitude, deviation_hz, clearness, spectra = [], [], [], []
        for index, size in enumerate(self.windows):
            hann, weights = getattr(self, f"hann_{index}"), getattr(self, f"weights_{index}")
            start = self.past_samples - size
            whole, earlier = (
                torch.fft.rfft(seen[:, start - back :].unfold(1, size, hop)[:, :frames] * hann)
                for back in (0, self.shift)
            )
            spectra.append(whole)
            now, before = whole[..., : len(weights)], earlier[..., : len(weights)]
            cross = torch.view_as_real(now * before.conj()).transpose(-1, -2) @ weights  # [B, frames, 2, K]
            power = now.abs().square() @ weights
            turned = torch.complex(cross[..., 0, :], cross[..., 1, :]) * getattr(self, f"turn_{index}")
            amplitude.append(power.sqrt() * (4 / size))
            deviation_hz.append(turned.angle() * self._to_hz)
            clearness.append(turned.abs() / (power + 1e-9))
        deviation = (torch.cat(deviation_hz, 2) / self.semitone_hz).clamp(-1, 1)
        return torch.cat(amplitude, 2), deviation, torch.cat(clearness, 2).clamp(max=1), spectra[1]


class OscillatorBank(nn.Module):
    """Tones drawn into STFT frames, their phases carried from frame to frame.

    Phases are float64 and the frequencies that advance them must be too: the sum over hours is then the same to 1e-8
    however the stream is cut.
    """

    centres_hz: Tensor
    away: Tensor
    columns: Tensor

    def __init__(self, centres_hz: Tensor, sample_rate: int, window: int, hop: int) -> None:
        super().__init__()
        self.sample_rate, self.window, self.hop = sample_rate, window, hop
        self.register_buffer("centres_hz", centres_hz, persistent=False)
        columns = torch.arange(2 * _REACH)[:, None]
        self.register_buffer("columns", columns, persistent=False)
        self.register_buffer("away", columns + (1.0 - _REACH), persistent=False)

    def _apply(self, fn: object, recurse: bool = True) -> OscillatorBank:
        centres_hz = self.centres_hz  # float64 whatever the weights become
        super()._apply(fn, recurse)  # type: ignore[arg-type]
        self.centres_hz = centres_hz.to(self.centres_hz.device)
        return self

    def first_phases(self, batch_size: int) -> Tensor:
        """Phases before the first frame, in turns, float64 `[B, K]`, spread so that no peak piles up."""
        count = len(self.centres_hz)
        golden = torch.arange(count, dtype=torch.float64, device=self.centres_hz.device) * ((5**0.5 - 1) / 2)
        return golden.frac().expand(batch_size, count)

    def forward(
        self, free: Tensor, amplitude: Tensor, width: Tensor, deviation: Tensor, phases: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Draw tones into frames of mid and side. The `window` around a frame's middle holds them constant.

        `free` complex64 `[B, F, 2, n]`: what else the lowest n bins hold; `amplitude` `[B, F, K]` in mid; `width`
        complex64 `[B, F, K]`: side is so many times mid; `deviation` float64 `[B, F, K]` in semitones, within ±1;
        `phases` float64 `[B, K]` of the frame before, in turns. → complex64 `[B, F, 2, window / 2 + 1]` for irfft, and
        the phases of the last frame.
        """
        hz = torch.exp2(deviation / 12) * self.centres_hz
        turns = (phases[:, None] + (hz * (self.hop / self.sample_rate)).frac().cumsum(1)).frac()
        mid = torch.polar(amplitude, (turns * (2 * math.pi)).float())
        tones = torch.stack([mid, mid * width], 2)[:, :, :, None]
        place = (hz * (self.window / self.sample_rate)).float()
        floor = place.floor()
        beyond = (place - floor).clamp(1e-4, 1 - 1e-4)  # of a bin; neither end, where the fraction below is 0 / 0
        away = self.away - beyond[:, :, None]  # [B, F, 2 · _REACH, K]
        # Hann window's spectrum sin(πa) / (2πa (1 - a²)), times (-1)^bin: the shift from its middle to its start. Both
        # signs change from bin to bin, so that the sine is the same in all of them
        sine = torch.sin(math.pi * beyond) * (floor % 2 - 0.5) * (self.window / (2 * math.pi))
        lobe = sine[:, :, None] / torch.addcmul(away, away.square(), away, value=-1)
        drawn = (tones * lobe[:, :, None]).flatten(3)
        columns = (floor.long()[:, :, None] + self.columns).flatten(2)[:, :, None].expand_as(drawn)
        zero = _REACH - 1  # the column of bin 0: below it lies what the lowest tones reach beyond it
        edges = free.new_zeros(*free.shape[:3], self.window // 2 + 1 + _REACH - free.shape[3])
        canvas = torch.cat([edges[..., :zero], free, edges], 3)
        canvas[..., zero].mul_(0.5)  # it is its own conjugate
        canvas.scatter_add_(3, columns, drawn)
        spectra = canvas[..., zero : zero + self.window // 2 + 1]
        spectra[..., :_REACH].add_(canvas[..., :_REACH].flip(3).conj())
        return spectra, turns[:, -1]
