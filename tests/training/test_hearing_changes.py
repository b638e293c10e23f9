from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from audiogen.interfaces import Waveform
from audiogen.style.hearing import decibels, hear
from audiogen.training.hearing_changes import UNCHANGED, Change, changed, draw_change
from tests import tiny

RANDOM = np.random.default_rng(0)


def tone(hz: float) -> Waveform:
    time = torch.arange(6 * 48_000) / 48_000
    return Waveform(0.3 * sum(torch.sin(2 * torch.pi * hz * part * time) / part for part in (1, 2, 3))[None], 48_000)


def test_unchanged_is_what_was_heard() -> None:
    heard = hear(Waveform(tiny.notes(6.0), tiny.RATE))
    mel, semitones = changed(heard, 8, 32, -20.0, UNCHANGED, RANDOM)
    np.testing.assert_allclose(mel, decibels(heard.cut(8, 32).mel) + 20, atol=1e-4)
    np.testing.assert_allclose(semitones, decibels(heard.cut(8, 32).semitones) + 20, atol=1e-4)


@pytest.mark.parametrize("up", [-3, 2])
def test_semitones_up_are_what_higher_music_is_heard_as(up: int) -> None:
    """Against the same tone played higher."""
    moved = changed(hear(tone(440)), 10, 32, 0.0, replace(UNCHANGED, semitones=up), RANDOM)
    played = changed(hear(tone(440 * 2 ** (up / 12))), 10, 32, 0.0, UNCHANGED, RANDOM)
    for ours, theirs in zip(moved, played, strict=True):
        assert np.abs(ours.mean(1).argmax() - theirs.mean(1).argmax()) <= 1
    loud = played[1][:, 16] > -50
    np.testing.assert_allclose(moved[1][loud, 16], played[1][loud, 16], atol=4.0)


def test_faster_is_what_a_faster_pulse_is_heard_as() -> None:
    def pulses(bpm: float) -> Waveform:
        time = torch.arange(10 * 16_000) / 16_000
        noise = torch.randn(len(time), generator=torch.Generator().manual_seed(1))
        return Waveform((noise * torch.exp(-40 * (time % (60 / bpm))))[None], 16_000)

    def period(mel: np.ndarray) -> int:
        curve = mel.mean(0) - mel.mean()
        repeats = np.correlate(curve, curve, "full")[len(curve) :]
        return int(repeats[15:].argmax()) + 16

    slow = hear(pulses(100.0))
    assert period(changed(slow, 4, 80, 0.0, UNCHANGED, RANDOM)[0]) in (29, 30, 31)
    faster, _ = changed(slow, 4, 80, 0.0, replace(UNCHANGED, tempo_ratio=1.25), RANDOM)
    assert faster.shape == (64, 320) and period(faster) in (23, 24, 25)


def test_past_the_end_is_silence_and_noise_fills_it() -> None:
    heard = hear(Waveform(tiny.notes(4.0), tiny.RATE))
    quiet, _ = changed(heard, 40, 32, 0.0, UNCHANGED, RANDOM)
    assert (quiet[:, -40:] == -120).all()
    noisy, _ = changed(heard, 40, 32, 0.0, replace(UNCHANGED, noise_db=-50.0), RANDOM)
    assert -75 < noisy[:, -40:].mean() < -60


def test_colour_is_added_where_it_is_told() -> None:
    heard = hear(Waveform(tiny.notes(4.0), tiny.RATE))
    colour = np.where(np.linspace(0, 9, 37) > 5, -30.0, 0.0)
    plain, bent = (
        changed(heard, 0, 32, 0.0, replace(UNCHANGED, colour_db=c), RANDOM) for c in (UNCHANGED.colour_db, colour)
    )
    np.testing.assert_allclose((bent[1] - plain[1])[80], -30, atol=1e-3)
    np.testing.assert_allclose((bent[1] - plain[1])[20], 0, atol=1e-3)


def test_draws_vary_and_follow_the_seed() -> None:
    drawn = [draw_change(np.random.default_rng(seed)) for seed in range(60)]
    again = draw_change(np.random.default_rng(7))
    assert again.semitones == drawn[7].semitones and np.array_equal(again.colour_db, drawn[7].colour_db)
    assert {change.semitones for change in drawn} == set(range(-3, 4))
    assert {change.noise_db is None for change in drawn} == {True, False}
    assert all(0.9 <= change.tempo_ratio <= 1.11 for change in drawn)
    assert isinstance(drawn[0], Change)
