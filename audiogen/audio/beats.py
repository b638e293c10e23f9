"""Beats and bars of a whole recording, whose tempo may drift: even grids of half minutes, joined.

Every window's grid (`beatgrid`) counts half beats, as it may hear the off-beats for beats. Neighbours are brought to
one count, and from the middle of one to the middle of the next the count goes over from the one's to the other's. Half
beats lie where it is whole; which of them begin bars, the windows vote.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from audiogen.audio.beatgrid import BeatGrid, beat_grid
from audiogen.interfaces import Waveform

_WINDOW_SECONDS, _HOP_SECONDS = 30.0, 15.0
_TRIED = 3  # windows to find the tempo in, which is what takes time
_DRIFT = 1.06  # of the tempo, either way
_AGREED = 0.2  # of a half beat, between neighbours
_STEP_SECONDS = 0.01


class Beats(NamedTuple):
    """Times in seconds, ascending, `[N]` and `[M]`."""

    beats: np.ndarray
    downbeats: np.ndarray


class _Window(NamedTuple):
    middle: float
    downbeat: float
    step: float
    """seconds of a half beat"""
    metre: int
    number: int
    """how many half beats are counted at `downbeat`"""

    def counted(self, seconds: float) -> float:
        return (seconds - self.downbeat) / self.step + self.number


def find_beats(
    heard: Callable[[float, float], Waveform],
    seconds: float,
    tempo_bpm: float | None = None,
    beats_per_bar: int | None = None,
) -> Beats | None:
    """Beats of a recording of `seconds`, of which `heard(start, length)` gives a part; in memory is one window.

    What is known of tempo and metre may be told, else they are found. None where most windows have no steady beat, or
    none that goes on from one to the next. Time grows with the length.
    """
    starts = np.arange(0.0, max(seconds - _WINDOW_SECONDS, 0.0), _HOP_SECONDS)
    starts = np.append(starts, max(seconds - _WINDOW_SECONDS, 0.0))
    if tempo_bpm is None:
        tried = starts[np.unique(np.linspace(0, len(starts) - 1, _TRIED).round().astype(int))]
        grids = [beat_grid(heard(start, _WINDOW_SECONDS), None, beats_per_bar) for start in tried]
        tempos = sorted(grid.tempo_bpm for grid in grids if grid is not None)
        if 2 * len(tempos) < len(tried):
            return None
        tempo_bpm = tempos[len(tempos) // 2]
    near = (tempo_bpm / _DRIFT, tempo_bpm * _DRIFT)
    joined: list[_Window] = []
    for start in starts:
        grid = beat_grid(heard(start, _WINDOW_SECONDS), near, beats_per_bar)
        if grid is not None and (window := _after(joined, start, min(_WINDOW_SECONDS, seconds), grid)) is not None:
            joined.append(window)
    return _times(joined, seconds) if 2 * len(joined) > len(starts) else None


def _after(joined: list[_Window], start: float, length: float, grid: BeatGrid) -> _Window | None:
    """The grid of a window, its count going on from the last of `joined`; None where it does not."""
    window = _Window(start + length / 2, start + grid.downbeat_seconds, 30.0 / grid.tempo_bpm, grid.beats_per_bar, 0)
    if not joined:
        return window
    between = (joined[-1].middle + window.middle) / 2
    ahead = joined[-1].counted(between) - window.counted(between)
    return window._replace(number=round(ahead)) if abs(ahead - round(ahead)) < _AGREED else None


def _times(windows: list[_Window], seconds: float) -> Beats:
    times = np.arange(0.0, seconds + _STEP_SECONDS, _STEP_SECONDS)
    middles = np.array([window.middle for window in windows])
    counts = np.array([[window.counted(0.0), 1 / window.step] for window in windows])
    passed = np.interp(times, middles, np.arange(len(windows)))
    left = passed.astype(int)
    share, right = passed - left, np.minimum(left + 1, len(windows) - 1)
    count = sum(part * (counts[own, 0] + times * counts[own, 1]) for part, own in ((1 - share, left), (share, right)))
    metre = Counter(window.metre for window in windows).most_common(1)[0][0]
    first = Counter(window.number % (2 * metre) for window in windows if window.metre == metre).most_common(1)[0][0]
    whole = np.arange(np.ceil(count[0]), np.floor(count[-1]) + 1)
    found = np.interp(whole, count, times)
    inside, place = found < seconds, (whole - first) % (2 * metre)
    return Beats(found[inside & (place % 2 == 0)], found[inside & (place == 0)])
