from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tiny import notes
from torch import Tensor

from audiogen.training.losses import SpectralLoss, mel_filters, tone_distances


def test_mel_filters_cover_the_band_once() -> None:
    filters = mel_filters(1025, 80, 48_000)
    assert filters.shape == (1025, 80) and float(filters.min()) == 0
    assert bool((filters.sum(0) > 0).all()) and bool((filters.sum(0) <= 1 + 1e-5).all())
    centres = filters.argmax(0)
    assert bool((centres[1:] > centres[:-1]).all())


@pytest.fixture(scope="module")
def loss() -> SpectralLoss:
    return SpectralLoss(48_000)


def tone(hz: float, seconds: float = 1.5) -> Tensor:
    time = torch.arange(round(seconds * 48_000)) / 48_000
    wave = sum(0.1 / partial * torch.sin(2 * np.pi * hz * partial * time) for partial in range(1, 5))
    return torch.stack([wave, 0.8 * wave])[None]


def test_the_same_costs_nothing_and_more_noise_costs_more(loss: SpectralLoss) -> None:
    target = notes(1.5, 48_000)[None]
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
    costs = [float(loss(target + level * noise, target)[0]) for level in (0.0, 0.001, 0.01, 0.1)]
    assert costs[0] == pytest.approx(0, abs=1e-3) and costs == sorted(costs) and costs[1] > 0.01


def test_a_semitone_at_the_bottom_is_heard(loss: SpectralLoss) -> None:
    """The trap of the first trial: mel bands alone hardly tell a low note from its neighbour."""
    _, wrong = loss(tone(82.4), tone(77.8))
    later = tone(77.8, 1.6)[:, :, 300:72_300]  # another phase, the same note
    _, right = loss(later, tone(77.8))
    assert float(wrong["convergence"]) > 0.5 and float(right["convergence"]) < 0.1
    assert float(wrong["log_mid"]) > 3 * float(right["log_mid"])


def test_a_side_that_is_lost_costs(loss: SpectralLoss) -> None:
    target = notes(1.5, 48_000)[None]
    narrow = target.mean(1, keepdim=True).expand(-1, 2, -1)
    _, parts = loss(narrow, target)
    assert float(parts["mel_side"]) > 0.3 and float(parts["mel_mid"]) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("silent", ["output", "target", "both"])
def test_silence_gives_finite_gradients(loss: SpectralLoss, silent: str) -> None:
    output, target = notes(1.5, 48_000)[None], notes(1.5, 48_000)[None]
    output = (output * (silent == "target")).requires_grad_()
    cost, _ = loss(output, target * (silent == "output"))
    cost.backward()
    assert bool(cost.isfinite()) and output.grad is not None and bool(output.grad.isfinite().all())


def test_sound_that_comes_and_goes_is_not_made_softer(loss: SpectralLoss) -> None:
    """Hits at unknown times: nearest to most frames is silence, but the level of the excerpt then costs."""
    target = torch.zeros(1, 2, 72_000)
    target[:, :, ::9000] = 0.5
    _, silent = loss(torch.zeros_like(target), target)
    _, elsewhere = loss(target.roll(4500, 2), target)
    assert float(elsewhere["level"]) < 0.1 * float(silent["level"])


@pytest.mark.parametrize("low", [True, False])
def test_low_notes_weigh_as_much_as_high_ones(loss: SpectralLoss, low: bool) -> None:
    """A wrong partial at 80 Hz against one at 4 kHz, each a semitone off: the former is in few bins, and heard."""
    hz = 82.4 if low else 3951.0
    time = torch.arange(72_000) / 48_000
    right, wrong = (0.1 * torch.sin(2 * np.pi * f * time).expand(1, 2, -1) for f in (hz, hz * 2 ** (1 / 12)))
    _, parts = loss(wrong, right)
    assert float(parts["log_mid"]) > 0.02


def test_a_tone_off_its_pitch_is_mistuned_by_as_much() -> None:
    """The bank hears a tone 30 cents above a semitone; oscillators told so are right, others are 0.3 away."""
    from tiny import CODEC, RATE, codec

    made = codec()
    which = 33
    hz = float(CODEC.centres_hz[which]) * 2 ** (0.3 / 12)
    tone = 0.3 * torch.sin(2 * math.pi * hz * torch.arange(2 * RATE) / RATE).expand(1, 2, -1)
    frames = tone.shape[2] // CODEC.hop_length
    with torch.no_grad():
        heard = made._encode(tone[:, :, : frames * CODEC.hop_length], made.encoder_state(1))[2]
        right, wrong = (
            tone_distances(made, (alone, torch.full_like(alone, deviation), 0 * alone), heard)
            for alone, deviation in ((heard[0] * (heard[1].abs() < 0.5), 0.3), (heard[0], 0.0))
        )
        halved, muddy = (
            tone_distances(made, (heard[0] * part * (heard[1].abs() < 0.5), heard[1], heard[0] * mud), heard)
            for part, mud in ((0.5, 0.01), (1.0, 0.3))
        )
    assert float(right[0]) < 0.1 and float(wrong[0]) == pytest.approx(0.3, abs=0.1)
    assert float(right[1]) < 0.1 and float(wrong[1]) > 0.5  # the neighbours hear it too, and shall be silent
    assert 0.1 < float(halved[1]) < math.log(2)  # that for the tone, nothing for the neighbours
    assert float(halved[2]) < 0.1 and float(muddy[2]) == pytest.approx(math.log(3.0), abs=0.1)
