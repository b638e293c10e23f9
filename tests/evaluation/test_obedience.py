from __future__ import annotations

import numpy as np
import pytest
import torch

from audiogen.evaluation.obedience import Asked, Measured, TempoRule, floor, key_met, obedience, tempo_met
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


def test_shares() -> None:
    asked = [Asked(120, D_MINOR), Asked(100, F_MAJOR)]
    result = obedience(asked, [Measured(60, D_MINOR), Measured(100, D_MINOR)])
    assert result.tempo == {"strict": 0.5, "octave": 1.0, "octave and 3:2": 1.0} and result.key == 0.5


def test_floor_never_judges_a_clip_by_its_own_prompt() -> None:
    asked = [Asked(120, D_MINOR), Asked(97, F_MAJOR), Asked(140, Key(0, "major"))]
    right = [Measured(a.tempo_bpm, a.key) for a in asked]
    assert obedience(asked, right).key == 1
    assert floor(asked, right).key == 0 and floor(asked, right).tempo["octave"] == 0
    same = [Asked(120, D_MINOR)] * 3
    assert floor(same, [Measured(120, D_MINOR)] * 3).key == 1


def test_nothing_to_judge_is_refused() -> None:
    with pytest.raises(ValueError, match="no clips"):
        obedience([], [])
    with pytest.raises(ValueError, match="two clips"):
        floor([Asked(120, D_MINOR)], [Measured(120, D_MINOR)])
    with pytest.raises(ValueError):
        obedience([Asked(120, D_MINOR)], [])


def test_measures_a_click_track() -> None:
    clicks = np.zeros(8 * 48_000, np.float32)
    burst = np.random.default_rng(0).normal(0, 0.3, 960) * np.exp(-np.arange(960) / 200)
    for start in range(0, len(clicks) - 960, 24_000):  # 120 bpm
        clicks[start : start + 960] += burst
    measured = Measured.of(Waveform(torch.from_numpy(clicks)[None], 48_000))
    assert tempo_met(120, measured.tempo_bpm, "octave")
    assert Measured.of(Waveform(torch.zeros(1, 48_000), 48_000)) == Measured(None, None)
