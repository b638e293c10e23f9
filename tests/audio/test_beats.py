from __future__ import annotations

import numpy as np
import pytest
import torch

from audiogen.audio.beats import find_beats
from audiogen.interfaces import Waveform
from tests.audio.test_beatgrid import clicks

RATE = 22_050


def met(found: np.ndarray, truth: np.ndarray, within: float = 0.07) -> float:
    """F-measure of times that lie within 70 ms of one of the others (Davies et al. 2009)."""
    apart = np.abs(found[:, None] - truth) < within
    return 2 * min(apart.any(0).sum(), apart.any(1).sum()) / (len(found) + len(truth))


def of(sound: Waveform, asked: list[float] | None = None):  # type: ignore[no-untyped-def]
    def heard(start: float, length: float) -> Waveform:
        if asked is not None:
            asked.append(length)
        first = round(start * sound.sample_rate)
        return Waveform(sound.samples[:, first : first + round(length * sound.sample_rate)], sound.sample_rate)

    return heard


def test_beats_and_bars_of_an_even_piece_window_by_window() -> None:
    asked: list[float] = []
    found = find_beats(of(clicks(97.3, 4, seconds=50.0), asked), 50.0)
    truth = np.arange(0.3, 50.0, 60 / 97.3)
    assert found is not None and max(asked) == 30.0
    assert met(found.beats, truth) > 0.98 and met(found.downbeats, truth[::4]) > 0.95
    assert (np.diff(found.beats) > 0).all() and found.beats[0] >= 0 and found.beats[-1] < 50.0


def drifting(seconds: float) -> tuple[Waveform, np.ndarray]:
    """Clicks whose tempo rises from 100 to 104 a minute, every fourth one low."""
    per_second = np.cumsum((100 + 4 * np.arange(round(seconds * 1000)) / 1000 / seconds) / 60) / 1000
    beats = np.interp(np.arange(1, per_second[-1] - 1), per_second, np.arange(len(per_second)) / 1000)
    audio = 1e-3 * np.random.default_rng(0).standard_normal(round(seconds * RATE))
    time = np.arange(round(0.1 * RATE)) / RATE
    for beat, begin in enumerate(beats):
        low = beat % 4 == 0
        at = round(begin * RATE)
        audio[at : at + len(time)] += (
            (1.0 if low else 0.5) * np.sin(2 * np.pi * (90 if low else 900) * time) * np.exp(-30 * time)
        )
    return Waveform(torch.from_numpy(audio.astype(np.float32))[None], RATE), beats


def test_a_tempo_that_drifts_is_followed() -> None:
    sound, truth = drifting(75.0)
    found = find_beats(of(sound), 75.0)
    assert found is not None and met(found.beats, truth) > 0.95
    even = truth[0] + np.arange(len(truth)) * np.diff(truth).mean()
    assert met(even, truth) < 0.5  # which no even grid would be


def test_what_is_known_settles_octave_and_metre() -> None:
    sound, truth = clicks(87, 3, seconds=35.0), np.arange(0.3, 35.0, 60 / 87)
    found = find_beats(of(sound), 35.0, 174.0, 3)
    assert found is not None and np.diff(found.beats).mean() == pytest.approx(60 / 174, rel=0.01)
    found = find_beats(of(sound), 35.0, 87.0, 3)
    assert found is not None and met(found.downbeats, truth[::3]) > 0.9


def test_no_beats_in_silence_noise_or_a_moment() -> None:
    noise = np.random.default_rng(1).standard_normal((1, 20 * RATE)).astype(np.float32) * 0.1
    for samples, seconds in (
        (torch.from_numpy(noise), 20.0),
        (torch.zeros(1, 20 * RATE), 20.0),
        (noise[:, :RATE], 1.0),
    ):
        assert find_beats(of(Waveform(torch.as_tensor(samples), RATE)), seconds) is None
        assert find_beats(of(Waveform(torch.as_tensor(samples), RATE)), seconds, 120.0) is None
