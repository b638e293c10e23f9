from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from audiogen.codec.oscillators import OscillatorBank, PitchBank

RATE, WINDOW, HOP = 48_000, 1920, 480
CENTRES = 32.703 * 2 ** (torch.arange(96, dtype=torch.float64) / 12)


@pytest.fixture(scope="module")
def bank() -> OscillatorBank:
    return OscillatorBank(CENTRES, RATE, WINDOW, HOP)


def played(bank: OscillatorBank, gains: Tensor, deviation: Tensor) -> Tensor:
    """Frames overlapped and added, `[C, B, S]`, the ramp at each end cut off."""
    drawn, _ = bank(gains, deviation, bank.first_phases(gains.shape[1]))
    spectra = torch.nn.functional.pad(drawn, (0, WINDOW // 2 + 1 - drawn.shape[-1]))
    frames = torch.fft.irfft(spectra, n=WINDOW) * (torch.hann_window(WINDOW) / 1.5)
    count = frames.shape[2]
    out = torch.zeros(*frames.shape[:2], (count + 3) * HOP)
    for index in range(count):
        out[..., index * HOP : index * HOP + WINDOW] += frames[:, :, index]
    return out[..., WINDOW:-WINDOW]


@pytest.mark.parametrize(("which", "deviation"), [(0, 0.0), (9, -0.4), (33, 0.5), (60, 0.3), (95, -0.1)])
def test_a_tone_is_one_sine_of_the_told_frequency_and_amplitude(
    bank: OscillatorBank, which: int, deviation: float
) -> None:
    frames = 200
    gains = torch.zeros(2, 1, frames, 96, dtype=torch.complex64)
    gains[0, ..., which], gains[1, ..., which] = 0.1, 0.05j
    mid, side = played(bank, gains, torch.full((1, frames, 96), deviation, dtype=torch.float64))[:, 0].double()
    hz = float(CENTRES[which]) * 2 ** (deviation / 12)
    time = torch.arange(len(mid), dtype=torch.float64) / RATE
    waves = torch.stack([torch.cos(2 * math.pi * hz * time), torch.sin(2 * math.pi * hz * time)], 1)
    heard = []
    for channel, amplitude in ((mid, 0.1), (side, 0.05)):
        fitted = torch.linalg.lstsq(waves, channel[:, None]).solution
        rest = channel - (waves @ fitted)[:, 0]
        assert float(10 * (rest.square().mean() / channel.square().mean()).log10()) < -40
        assert float(fitted.norm()) == pytest.approx(amplitude, rel=0.01)
        heard.append(math.atan2(-float(fitted[1, 0]), float(fitted[0, 0])))
    assert math.remainder(heard[1] - heard[0] - math.pi / 2, 2 * math.pi) == pytest.approx(0, abs=0.01)


def test_phases_are_the_same_however_the_stream_is_cut(bank: OscillatorBank) -> None:
    """A minute, with frequencies that never stand still."""
    frames = 6000
    random = torch.Generator().manual_seed(0)
    deviation = torch.rand(1, frames, 96, generator=random, dtype=torch.float64) - 0.5
    gains = torch.zeros(1, 1, frames, 96, dtype=torch.complex64)
    whole = bank(gains, deviation, bank.first_phases(1))[1]
    phases = bank.first_phases(1)
    for part in deviation.split([1, 99, 2900, 3000], 1):
        phases = bank(gains[:, :, : part.shape[1]], part, phases)[1]
    assert float(torch.exp(1j * (whole - phases)).sub(1).abs().max()) < 1e-9


@pytest.mark.parametrize("hz", [35.0, 41.3, 110.0, 200.5, 441.0, 1000.0, 3010.0, 7000.0])
def test_the_bank_hears_how_high_and_how_loud_a_tone_is(hz: float) -> None:
    listener = PitchBank(CENTRES, 8192, RATE)
    time = torch.arange(listener.past_samples + 4 * 1920) / RATE
    amplitude, deviation, clearness = listener(0.1 * torch.sin(2 * math.pi * hz * time)[None], 5, 1920)
    assert amplitude.shape == deviation.shape == clearness.shape == (1, 5, 96)
    loudest = int(amplitude[0, 2].argmax())
    cents = 1200 * math.log2(float(CENTRES[loudest]) * 2 ** (float(deviation[0, 2, loudest]) / 12) / hz)
    assert abs(cents) < (12 if hz < 41 else 2)
    assert float(amplitude[0, 2, loudest]) == pytest.approx(0.1, rel=0.3)
    assert float(clearness[0, 2, loudest]) > 0.99


def test_noise_is_not_clear_and_silence_is_silent() -> None:
    listener = PitchBank(CENTRES, 8192, RATE)
    samples = torch.randn(1, listener.past_samples + 9 * 1920, generator=torch.Generator().manual_seed(0))
    amplitude, deviation, clearness = listener(samples, 10, 1920)
    assert float(clearness[..., -12:].median()) < 0.7
    assert bool(deviation.abs().le(1).all()) and bool(amplitude.gt(0).all())
    amplitude, deviation, clearness = listener(torch.zeros_like(samples), 10, 1920)
    assert not amplitude.any() and not clearness.any() and bool(deviation.abs().le(1).all())
