from __future__ import annotations

import numpy as np
import pytest
import torch

from audiogen.evaluation.form import boundary_f, measure_form
from audiogen.interfaces import Waveform
from audiogen.style.hearing import hear
from tests.tiny import RATE, notes


def shaped(parts: list[torch.Tensor]) -> Waveform:
    return Waveform(torch.cat(parts, 1), RATE)


def test_a_boundary_is_found_where_the_music_changes() -> None:
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 20 * RATE)).astype(np.float32)) * 0.05
    form = measure_form(hear(shaped([notes(20.0), notes(20.0, seed=1) * 0.3 + noise])))
    assert form is not None and any(abs(time - 20) < 1.5 for time in form.boundaries_seconds)
    assert boundary_f([20.0], form.boundaries_seconds) >= 2 / (1 + len(form.boundaries_seconds))


def test_loops_to_the_letter_and_drift() -> None:
    played = measure_form(hear(shaped([notes(32.0)])))
    looped = measure_form(hear(shaped([notes(8.0)] * 4)))
    assert played is not None and looped is not None
    assert played.repeated_share < 0.2 and looped.repeated_share > 0.6
    quieter = measure_form(hear(shaped([notes(20.0), 0.1 * notes(20.0, seed=1)])))
    assert quieter is not None and quieter.drift_db == pytest.approx(-20, abs=3)


def test_short_clips_have_no_form() -> None:
    assert measure_form(hear(Waveform(notes(10.0), RATE))) is None


def test_boundaries_are_used_once() -> None:
    assert boundary_f([10, 20], [11, 19.5]) == 1.0
    assert boundary_f([10, 12], [11]) == pytest.approx(2 / 3)
    assert boundary_f([10], []) == 0.0
    assert np.isnan(boundary_f([], [3.0]))
