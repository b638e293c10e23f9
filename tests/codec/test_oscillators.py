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


def played(bank: OscillatorBank, amplitude: Tensor, width: Tensor, deviation: Tensor) -> Tensor:
    """Mid and side of frames overlapped and added, `[2, S]`, the ramp at each end cut off."""
    free = torch.zeros(1, amplitude.shape[1], 2, 800, dtype=torch.complex64)
    spectra, _ = bank(free, amplitude, width, deviation, bank.first_phases(1))
    assert spectra.shape == (1, amplitude.shape[1], 2, WINDOW // 2 + 1)
    frames = torch.fft.irfft(spectra, n=WINDOW)[0] * (torch.hann_window(WINDOW) / 1.5)
    out = torch.zeros(2, (len(frames) + 3) * HOP)
    for index, frame in enumerate(frames):
        out[:, index * HOP : index * HOP + WINDOW] += frame
    return out[:, WINDOW:-WINDOW]


@pytest.mark.parametrize(("which", "deviation"), [(0, 0.0), (9, -0.4), (33, 0.5), (60, 0.3), (95, -0.1)])
def test_a_tone_is_one_sine_of_the_told_frequency_and_amplitude(
    bank: OscillatorBank, which: int, deviation: float
) -> None:
    amplitude = torch.zeros(1, 200, 96)
    amplitude[..., which] = 0.1
    width = torch.full(amplitude.shape, 0.5j, dtype=torch.complex64)
    mid, side = played(bank, amplitude, width, torch.full(amplitude.shape, deviation, dtype=torch.float64)).double()
    hz = float(CENTRES[which]) * 2 ** (deviation / 12)
    time = torch.arange(len(mid), dtype=torch.float64) / RATE
    waves = torch.stack([torch.cos(2 * math.pi * hz * time), torch.sin(2 * math.pi * hz * time)], 1)
    heard = []
    for channel, expected in ((mid, 0.1), (side, 0.05)):
        fitted = torch.linalg.lstsq(waves, channel[:, None]).solution
        rest = channel - (waves @ fitted)[:, 0]
        assert float(10 * (rest.square().mean() / channel.square().mean()).log10()) < -40
        assert float(fitted.norm()) == pytest.approx(expected, rel=0.01)
        heard.append(math.atan2(-float(fitted[1, 0]), float(fitted[0, 0])))
    assert math.remainder(heard[1] - heard[0] - math.pi / 2, 2 * math.pi) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(("which", "deviation"), [(0, -1.0), (0, 0.0), (2, 0.77), (40, 0.3), (95, 1.0)])
def test_a_tone_is_the_spectrum_of_a_windowed_sine(bank: OscillatorBank, which: int, deviation: float) -> None:
    """The lowest bins too, where what a tone reaches below zero comes back; what the bins held before is added to."""
    amplitude, phases = torch.zeros(1, 1, 96), bank.first_phases(1)
    amplitude[..., which] = 0.1
    free = torch.zeros(1, 1, 2, 700, dtype=torch.complex64)
    free[..., 0], free[..., 5] = 2.0, 3.0 - 1.0j
    far = torch.full(amplitude.shape, deviation, dtype=torch.float64)
    drawn, turns = bank(free, amplitude, torch.ones(1, 1, 96, dtype=torch.complex64), far, phases)
    hz = float(CENTRES[which]) * 2 ** (deviation / 12)
    start = float(phases[0, which]) + hz * HOP / RATE  # in turns, at the middle of the window
    assert math.remainder(float(turns[0, which]) - start, 1) == pytest.approx(0, abs=1e-9)
    time = (torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2) / RATE
    wave = 0.1 * torch.cos(2 * math.pi * (hz * time + start)) * torch.hann_window(WINDOW, dtype=torch.float64)
    expected = torch.nn.functional.pad(free[0, 0, 0], (0, WINDOW // 2 + 1 - 700)) + torch.fft.rfft(wave)
    assert torch.equal(drawn[0, 0, 0], drawn[0, 0, 1])  # side as loud as mid
    # the loudest bin is 48; what lies more than three bins from a tone is left out
    torch.testing.assert_close(drawn[0, 0, 0].to(expected.dtype), expected, atol=0.5, rtol=0)


def test_phases_are_the_same_however_the_stream_is_cut(bank: OscillatorBank) -> None:
    """A minute, with frequencies that never stand still."""
    frames = 6000
    random = torch.Generator().manual_seed(0)
    deviation = torch.rand(1, frames, 96, generator=random, dtype=torch.float64) - 0.5

    def last(part: Tensor, phases: Tensor) -> Tensor:
        nothing = torch.zeros(1, part.shape[1], 2, 8, dtype=torch.complex64)
        return bank(nothing, torch.zeros(part.shape), torch.zeros(part.shape).cfloat(), part, phases)[1]

    whole = last(deviation, bank.first_phases(1))
    phases = bank.first_phases(1)
    for part in deviation.split([1, 99, 2900, 3000], 1):
        phases = last(part, phases)
    assert float(torch.exp(2j * math.pi * (whole - phases)).sub(1).abs().max()) < 1e-9


@pytest.mark.parametrize("hz", [35.0, 41.3, 110.0, 200.5, 441.0, 1000.0, 3010.0, 7000.0])
def test_the_bank_hears_how_high_and_how_loud_a_tone_is(hz: float) -> None:
    listener = PitchBank(CENTRES, 8192, RATE)
    time = torch.arange(listener.past_samples + 4 * 1920) / RATE
    sine = 0.1 * torch.sin(2 * math.pi * hz * time)[None]
    amplitude, deviation, clearness, spectrum = listener(sine, 5, 1920)
    window = sine[:, -4 * 1920 - 8192 : -4 * 1920] * torch.hann_window(8192)
    torch.testing.assert_close(spectrum[:, 0], torch.fft.rfft(window), atol=1e-3, rtol=0)
    assert amplitude.shape == deviation.shape == clearness.shape == (1, 5, 96)
    loudest = int(amplitude[0, 2].argmax())
    cents = 1200 * math.log2(float(CENTRES[loudest]) * 2 ** (float(deviation[0, 2, loudest]) / 12) / hz)
    assert abs(cents) < (12 if hz < 41 else 2)
    assert float(amplitude[0, 2, loudest]) == pytest.approx(0.1, rel=0.3)
    assert float(clearness[0, 2, loudest]) > 0.99


def test_noise_is_not_clear_and_silence_is_silent() -> None:
    listener = PitchBank(CENTRES, 8192, RATE)
    samples = torch.randn(1, listener.past_samples + 9 * 1920, generator=torch.Generator().manual_seed(0))
    amplitude, deviation, clearness, _ = listener(samples, 10, 1920)
    assert float(clearness[..., -12:].median()) < 0.7
    assert bool(deviation.abs().le(1).all()) and bool(amplitude.gt(0).all())
    amplitude, deviation, clearness, _ = listener(torch.zeros_like(samples), 10, 1920)
    assert not amplitude.any() and not clearness.any() and bool(deviation.abs().le(1).all())
