from __future__ import annotations

import math

import numpy as np
import pytest

from audiogen.data.augment import LONGER, Augmentation, augmented

RATE, SAMPLES = 48_000, 48_000
NONE = Augmentation(changed=0, cut=0, other_sounds=0)


def sine(hz: float) -> np.ndarray:
    time = np.arange(math.ceil(SAMPLES * LONGER)) / RATE
    return np.stack([0.3 * np.sin(2 * np.pi * hz * time), 0.1 * np.sin(2 * np.pi * hz * time)]).astype(np.float32)


def loudest_hz(samples: np.ndarray) -> float:
    power = np.abs(np.fft.rfft(samples * np.hanning(samples.shape[-1]), 8 * SAMPLES))
    return float(power.argmax()) / 8


def test_unchanged_is_what_it_was() -> None:
    heard, played = augmented(sine(440), SAMPLES, RATE, np.random.default_rng(0), NONE)
    assert np.array_equal(heard, sine(440)[:, :SAMPLES]) and np.array_equal(played, heard)


def test_changed_moves_pitch_by_fractions_of_a_semitone_and_level() -> None:
    semitones, levels = [], []
    for seed in range(40):
        settings = NONE.model_copy(update={"changed": 1.0})
        heard, played = augmented(sine(440), SAMPLES, RATE, np.random.default_rng(seed), settings)
        assert heard.shape == (2, SAMPLES) and heard.dtype == np.float32 and np.array_equal(heard, played)
        louder = played[np.abs(played).max(1).argmax()]
        semitones.append(12 * math.log2(loudest_hz(louder) / 440))
        levels.append(20 * math.log10(float(louder.std()) / 0.212))
    assert -2.1 < min(semitones) < -1.5 and 1.5 < max(semitones) < 2.1
    assert len({round(10 * (semitone % 1)) for semitone in semitones}) > 6
    assert min(levels) < -15 and max(levels) > -3


def test_a_cut_is_heard_and_half_of_them_are_played() -> None:
    noise = np.random.default_rng(1).standard_normal((2, math.ceil(SAMPLES * LONGER))).astype(np.float32) * 0.1
    settings = NONE.model_copy(update={"cut": 1.0})
    edges, dull = [], 0
    for seed in range(16):
        heard, played = augmented(noise, SAMPLES, RATE, np.random.default_rng(seed), settings)
        spectra = [np.abs(np.fft.rfft(part[0])) for part in (heard, played)]
        kept = np.nonzero(spectra[0] > 1e-2 * spectra[0].max())[0].max() * RATE / SAMPLES
        edges.append(kept)
        below = slice(0, int(0.9 * kept))
        np.testing.assert_allclose(spectra[0][below], spectra[1][below], atol=1e-2)
        if np.array_equal(heard, played):
            dull += 1
        else:
            assert spectra[1][-1000:].mean() > 0.5 * spectra[1].mean()
    assert 3 < dull < 13
    assert min(edges) > 3500 and max(edges) < 8500 and max(edges) - min(edges) > 500


def test_other_sounds_replace_the_music_and_nothing_is_clipped() -> None:
    settings = Augmentation(changed=1, cut=1, other_sounds=1)
    for seed in range(20):
        pair = augmented(sine(440) * 3, SAMPLES, RATE, np.random.default_rng(seed), settings)
        assert np.isfinite(pair).all() and np.abs(pair).max() <= 1.0
    first = [augmented(sine(440), SAMPLES, RATE, np.random.default_rng(5), settings) for _ in range(2)]
    assert np.array_equal(*first)


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_shares_are_kept(share: float) -> None:
    settings = NONE.model_copy(update={"changed": share})
    same = sum(
        np.array_equal(
            augmented(sine(440), SAMPLES, RATE, np.random.default_rng(seed), settings)[1], sine(440)[:, :SAMPLES]
        )
        for seed in range(60)
    )
    assert abs(same / 60 - (1 - share)) < 0.2
