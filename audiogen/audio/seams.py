"""How much sound changes at one moment, beside how much it changes at others: whether a seam shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from audiogen.audio.mel import FRAME_RATE, log_mel
from audiogen.interfaces import AudiogenError, Waveform

SIDE_SECONDS = 0.2
"""what is compared: so much before a moment, and so much after it"""
AROUND_SECONDS = 20.0
"""the moments that a seam stands beside: so far to both sides"""
LEAST_SECONDS = 2.0
"""of music on both sides"""

_SIDE = round(SIDE_SECONDS * FRAME_RATE)
_WINDOW = 4  # frames that overlap one moment; they belong to neither side
_FLOOR_DB = -80.0


@dataclass(frozen=True)
class Seam:
    """Steps at a moment in dB, of the level and of 64 mel bands on average; and the share of the moments around it,
    from 0 to 1, at which the step is smaller."""

    level_db: float
    spectrum_db: float
    level_rank: float
    spectrum_rank: float


def seam(waveform: Waveform, seconds: float) -> Seam:
    """Measure the moment at `seconds`. Raises AudiogenError where less than `LEAST_SECONDS` lie before or after it."""
    decibels = log_mel(waveform).clamp_min(_FLOOR_DB).numpy()
    at = round(seconds * FRAME_RATE) - _WINDOW // 2
    near = round(LEAST_SECONDS * FRAME_RATE) - _WINDOW // 2
    if not near <= at <= decibels.shape[1] - near:
        raise AudiogenError(
            f"a seam at {seconds:g} s of {waveform.seconds:g} s: {LEAST_SECONDS:g} s are needed on both sides"
        )
    first, last = max(0, at - round(AROUND_SECONDS * FRAME_RATE)), at + round(AROUND_SECONDS * FRAME_RATE)
    level, spectrum = _steps(decibels[:, first:last])
    here = at - first - _SIDE - _WINDOW // 2
    others = np.abs(np.arange(len(level)) - here) > FRAME_RATE // 2
    return Seam(
        float(level[here]),
        float(spectrum[here]),
        float((level[others] < level[here]).mean()),
        float((spectrum[others] < spectrum[here]).mean()),
    )


def _steps(decibels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Between the means of `_SIDE` frames before and after each moment: of the level, and of the bands."""
    sums = np.cumsum(np.pad(decibels, ((0, 0), (1, 0))), axis=1)
    means = (sums[:, _SIDE:] - sums[:, :-_SIDE]) / _SIDE
    apart = _SIDE + _WINDOW
    bands = np.abs(means[:, apart:] - means[:, :-apart]).mean(0)
    power = 10 ** (decibels / 10)
    sums = np.cumsum(np.pad(power.sum(0), (1, 0)))
    levels = 10 * np.log10((sums[_SIDE:] - sums[:-_SIDE]) / _SIDE)
    return np.abs(levels[apart:] - levels[:-apart]), bands
