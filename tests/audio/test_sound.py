from __future__ import annotations

import numpy as np
import pytest
import torch
from torchaudio.functional import lowpass_biquad

from audiogen.audio.sound import MONO_DB, measure_sound
from audiogen.interfaces import Waveform
from tests.tiny import notes

RATE = 48_000


def test_music_has_no_clicks_and_one_that_is_planted_is_found() -> None:
    music = notes(4.0, RATE)
    assert measure_sound(Waveform(music, RATE)).clicks == 0
    clicked = music.clone()
    clicked[0, 2 * RATE] += 0.5
    assert measure_sound(Waveform(clicked, RATE)).clicks >= 1


def test_width_of_mono_and_of_two_sides() -> None:
    music = notes(3.0, RATE)
    assert measure_sound(Waveform(music.mean(0, keepdim=True).expand(2, -1), RATE)).width_db == MONO_DB
    assert measure_sound(Waveform(music.mean(0, keepdim=True), RATE)).width_db == MONO_DB
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 2 * RATE)).astype(np.float32)) * 0.1
    assert measure_sound(Waveform(noise, RATE)).width_db == pytest.approx(0, abs=0.5)


def test_bandwidth_falls_with_a_low_pass() -> None:
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 2 * RATE)).astype(np.float32)) * 0.1
    dull = noise
    for _ in range(8):
        dull = lowpass_biquad(dull, RATE, 3000)
    assert measure_sound(Waveform(noise, RATE)).bandwidth_hz > 18_000
    assert measure_sound(Waveform(dull, RATE)).bandwidth_hz < 8000


def test_the_true_peak_lies_between_the_samples() -> None:
    time = np.arange(RATE) / RATE
    tone = np.sin(2 * np.pi * RATE / 4 * time + np.pi / 4) * 0.5  # its samples reach 0.354 only
    found = measure_sound(Waveform(torch.from_numpy(tone.astype(np.float32))[None], RATE))
    assert found.true_peak_db == pytest.approx(20 * np.log10(0.5), abs=0.1)


def test_how_it_ends() -> None:
    music = notes(4.0, RATE)
    faded = music * torch.linspace(1, 0, music.shape[1]) ** 2
    assert measure_sound(Waveform(faded, RATE)).ending_db < -20
    assert measure_sound(Waveform(music[:, : 2 * RATE], RATE)).ending_db > -15


def test_silence_gives_the_lowest_of_each() -> None:
    found = measure_sound(Waveform(torch.zeros(2, RATE), RATE))
    assert found.clicks == 0 and found.bandwidth_hz == 0 and found.width_db == MONO_DB and found.loudness_lufs < -90
