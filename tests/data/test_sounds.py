from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from audiogen.data.sounds import clicks, noise, sound, speech, tones

RATE = 16_000


def test_a_sound_is_finite_within_its_levels_and_a_function_of_the_seed() -> None:
    peaks = []
    for seed in range(60):
        made = sound(np.random.default_rng(seed), RATE, RATE)
        assert made.shape == (2, RATE) and made.dtype == np.float32 and np.isfinite(made).all()
        peaks.append(20 * np.log10(np.abs(made).max()))
    assert -36.1 < min(peaks) < -25 and -10 < max(peaks) < -0.9
    again = sound(np.random.default_rng(59), RATE, RATE)
    assert np.array_equal(made, again)


@pytest.mark.parametrize(("kind", "tonal"), [(tones, True), (speech, False), (noise, False), (clicks, False)])
def test_tones_are_tonal_and_the_others_are_not(kind: Callable[..., np.ndarray], tonal: bool) -> None:
    """How much of the power lies in the strongest hundredth of the bins."""
    shares = []
    for seed in range(20):
        power = np.abs(np.fft.rfft(kind(np.random.default_rng(seed), RATE, RATE) * np.hanning(RATE))) ** 2
        shares.append(np.sort(power)[-len(power) // 100 :].sum() / power.sum())
    assert (np.median(shares) > 0.9) == tonal


def test_no_tone_lies_above_what_the_rate_can_hold() -> None:
    for seed in range(40):
        spectrum = np.abs(np.fft.rfft(tones(np.random.default_rng(seed), RATE, RATE) * np.hanning(RATE)))
        assert spectrum[-200:].max() < 1e-3 * spectrum.max()
