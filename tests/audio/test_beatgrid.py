from __future__ import annotations

import numpy as np
import pytest
import torch

from audiogen.audio.beatgrid import BeatGrid, beat_grid
from audiogen.interfaces import Waveform

RATE = 22_050


def clicks(bpm: float, beats_per_bar: int, start: float = 0.3, seconds: float = 30.0) -> Waveform:
    """Short tones on every beat, a low one on the first of each bar, and another held note from bar to bar."""
    audio = np.zeros(round(seconds * RATE))
    for beat, begin in enumerate(np.arange(start, seconds - 0.5, 60 / bpm)):
        time = np.arange(round(0.1 * RATE)) / RATE
        first = beat % beats_per_bar == 0
        tone = np.sin(2 * np.pi * (90 if first else 900) * time) * np.exp(-30 * time) * (1.0 if first else 0.5)
        at = round(begin * RATE)
        held = audio[at:]
        held += (
            0.1
            * np.sin(2 * np.pi * (220, 262, 330)[beat // beats_per_bar % 3] * np.arange(len(held)) / RATE)
            * (np.arange(len(held)) < 60 / bpm * RATE)
        )
        audio[at : at + len(time)] += tone
    rng = np.random.default_rng(0)
    return Waveform(torch.from_numpy((audio + 1e-3 * rng.standard_normal(len(audio))).astype(np.float32))[None], RATE)


@pytest.mark.parametrize("bpm", [72.0, 97.3, 124.0])
def test_tempo_beat_and_bar_of_clicks(bpm: float) -> None:
    grid = beat_grid(clicks(bpm, 4))
    assert grid is not None and grid.beats_per_bar == 4
    assert abs(grid.tempo_bpm / bpm - 1) < 0.002
    bars = (grid.downbeat_seconds - 0.3) * bpm / 60 / 4
    assert abs(bars - round(bars)) * 4 * 60 / bpm < 0.03


def test_a_waltz_has_three_beats_a_bar() -> None:
    grid = beat_grid(clicks(110, 3))
    assert grid is not None and grid.beats_per_bar == 3


def test_the_octave_that_is_asked_for() -> None:
    sound = clicks(87, 4)
    double = beat_grid(sound, (168, 180))
    assert double is not None and abs(double.tempo_bpm - 174) < 0.5


def test_no_beat_in_silence_noise_or_a_moment() -> None:
    noise = torch.from_numpy(np.random.default_rng(1).standard_normal((1, 20 * RATE)).astype(np.float32)) * 0.1
    assert beat_grid(Waveform(noise, RATE)) is None
    assert beat_grid(Waveform(torch.zeros(1, 20 * RATE), RATE)) is None
    assert beat_grid(clicks(120, 4, seconds=3.0)) is None


def test_the_grid_runs_on_for_ever() -> None:
    grid = BeatGrid(120.0, 0.25, 4)
    assert np.allclose(grid.beats_seconds(0, 1.5), [0.25, 0.75, 1.25])
    assert np.allclose(grid.downbeats_seconds(100, 105), [100.25, 102.25, 104.25])
    assert np.allclose(grid.downbeats_seconds(-2, 0.25), [-1.75])
