from __future__ import annotations

import numpy as np
import pytest
import torch

from audiogen.audio.measured import Measured, TempoRule, key_closeness, key_met, tempo_met
from audiogen.interfaces import Key, Waveform

D_MINOR, F_MAJOR = Key(2, "minor"), Key(5, "major")


@pytest.mark.parametrize(
    ("measured", "rule", "met"),
    [
        (120, "strict", True), (124.7, "strict", True), (125.5, "strict", False), (115.3, "strict", True),
        (60, "strict", False), (60, "octave", True), (240, "octave", True), (180, "octave", False),
        (180, "octave and 3:2", True), (80, "octave and 3:2", True), (150, "octave and 3:2", False),
        (360, "octave and 3:2", False), (None, "octave and 3:2", False),
    ],
)  # fmt: skip
def test_tempo_rules(measured: float | None, rule: TempoRule, met: bool) -> None:
    assert tempo_met(120, measured, rule) is met


def test_key_needs_tonic_and_mode() -> None:
    assert key_met(D_MINOR, Key(2, "minor"))
    assert not key_met(D_MINOR, F_MAJOR) and not key_met(D_MINOR, Key(2, "major")) and not key_met(D_MINOR, None)


@pytest.mark.parametrize(
    ("asked", "measured", "mark"),
    [
        ("C major", "C major", 1.0), ("C major", "G major", 0.5), ("C major", "F major", 0.5),
        ("C major", "A minor", 0.3), ("A minor", "C major", 0.3), ("C major", "C minor", 0.2),
        ("C major", "D major", 0.0), ("C major", "E minor", 0.0), ("C major", "Eb minor", 0.0),
    ],
)  # fmt: skip
def test_near_keys_have_marks_of_their_own(asked: str, measured: str, mark: float) -> None:
    assert key_closeness(Key.parse(asked), Key.parse(measured)) == mark


def test_no_key_heard_is_far() -> None:
    assert key_closeness(D_MINOR, None) == 0


def test_measures_a_click_track() -> None:
    clicks = np.zeros(8 * 48_000, np.float32)
    burst = np.random.default_rng(0).normal(0, 0.3, 960) * np.exp(-np.arange(960) / 200)
    for start in range(0, len(clicks) - 960, 24_000):  # 120 bpm
        clicks[start : start + 960] += burst
    measured = Measured.of(Waveform(torch.from_numpy(clicks)[None], 48_000))
    assert tempo_met(120, measured.tempo_bpm, "octave")
    assert Measured.of(Waveform(torch.zeros(1, 48_000), 48_000)) == Measured(None, None)
