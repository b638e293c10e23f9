"""What is broken in a clip whatever it plays: silence, a loop that got stuck, clipping.

A language model of codes that gets stuck repeats the same few frames for seconds. Its codes then repeat, and so does
the sound, to within what a decoder's phases change; music repeats itself after beats and bars, and no two beats are
quite the same. Tried on 180 excerpts of 12 s from the starter catalogue: as rendered and through the codec of mini none
was called stuck; with 1 to 12 frames of their codes repeated for four seconds all were, for 4.2 to 4.8 s (5 to 95 %).
A model whose coarse codebooks alone are stuck, while the fine ones go on varying, is not found.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from audiogen.audio.mel import FRAME_RATE, log_mel
from audiogen.interfaces import Waveform

Part = Callable[[float, float], Waveform]
"""(start, length) in whole seconds → that part of a clip, or what there is of it."""

SILENCE_DB = -60.0
"""RMS of all channels, of full scale"""
START_SECONDS, END_SECONDS, EDGE_SHARE = 0.5, 4.5, 0.15
"""silence at the start and at the end that is meant: a breath, a last chord that died away. No more of it than this
share of the clip. The pieces of the starter catalogue end in up to 4.3 s of it"""
CLIPPED = 0.99
"""amplitude: at full scale, or bent towards it by the soft limit of a stream"""
LONGEST_LOOP_SECONDS = 0.48
"""the longest stuck loop: below a beat at 125 bpm, 12 frames of mini"""

_WINDOW_SECONDS = 0.05
_PIECE_SECONDS, _OVERLAP_SECONDS = 60, 4
_LONGEST_LAG = round(LONGEST_LOOP_SECONDS * FRAME_RATE)
_FAR_FRAMES = FRAME_RATE  # a second
_STUCK_FRAMES = 2 * FRAME_RATE
_LEAST_SECONDS = 3.1  # of audio that these need
_STUCK_DB = 1.1
_FLOOR_DB, _HEARD_DB = -80.0, -60.0  # power in one band of 64


@dataclass(frozen=True)
class Defects:
    """`silence_seconds`, the longest silence, what is meant at the edges taken off; `stuck_seconds`, the sum of all
    that lies in stuck loops of at least 3 s; `clipped_share` of the samples."""

    silence_seconds: float
    stuck_seconds: float
    clipped_share: float


def find_defects(part: Part, seconds: float) -> Defects:
    """Listen to a clip of `seconds`, minute by minute, so that memory does not grow with its length."""
    count = math.ceil(seconds / _PIECE_SECONDS)
    stuck = np.zeros((count * _PIECE_SECONDS + _OVERLAP_SECONDS) * FRAME_RATE, bool)
    levels, clipped, samples = [], 0, 0
    for start in range(0, count * _PIECE_SECONDS, _PIECE_SECONDS):
        piece = part(start, _PIECE_SECONDS + _OVERLAP_SECONDS)
        amplitudes = piece.samples.detach().float().cpu().numpy()[:, : _PIECE_SECONDS * piece.sample_rate]
        levels.append(_levels_db(amplitudes, round(_WINDOW_SECONDS * piece.sample_rate)))
        clipped += int((np.abs(amplitudes) >= CLIPPED).sum())
        samples += amplitudes.size
        if piece.seconds >= _LEAST_SECONDS:
            found = _stuck(log_mel(piece).numpy())
            stuck[start * FRAME_RATE :][: len(found)] |= found
    return Defects(
        _longest_silence(np.concatenate(levels) < SILENCE_DB),
        float(stuck.sum()) / FRAME_RATE,
        clipped / max(samples, 1),
    )


def _levels_db(samples: np.ndarray, width: int) -> np.ndarray:
    """Level of each window of `width` samples."""
    whole = samples[:, : samples.shape[1] // width * width].reshape(len(samples), -1, width)
    return 10 * np.log10(np.square(whole, dtype=np.float64).mean((0, 2)) + 1e-12)


def _longest_silence(silent: np.ndarray) -> float:
    seconds = len(silent) * _WINDOW_SECONDS
    if silent.all():
        return seconds
    starts, ends = np.flatnonzero(np.diff(silent, prepend=False, append=False)).reshape(-1, 2).T
    lengths = (ends - starts) * _WINDOW_SECONDS
    lengths[starts == 0] -= min(START_SECONDS, EDGE_SHARE * seconds)
    lengths[ends == len(silent)] -= min(END_SECONDS, EDGE_SHARE * seconds)
    return round(float(lengths.max(initial=0.0)), 3)


def _stuck(decibels: np.ndarray) -> np.ndarray:
    """Which frames of a mel spectrum `[bands, T]` lie in a stuck loop, bool `[T]`.

    A loop of some period is one where, over two seconds, the bands that are heard differ little from what they were a
    period before, and about a second before, a whole number of periods. The second comparison tells it from a held
    chord, which changes slowly. Frames in which nothing is heard say nothing; half of them at least must say something.
    """
    levels = np.maximum(decibels, _FLOOR_DB)
    heard = levels > _FLOOR_DB
    loud = decibels.max(0) > _HEARD_DB
    stuck = np.zeros(levels.shape[1], bool)
    window = np.ones(_STUCK_FRAMES) / _STUCK_FRAMES
    for lag in range(1, _LONGEST_LAG + 1):
        far = _FAR_FRAMES // lag * lag
        parts = [slice(far, None), slice(far - lag, -lag), slice(0, -far)]
        now, near, before = (levels[:, part] for part in parts)
        bands = np.logical_or.reduce([heard[:, part] for part in parts]).sum(0).clip(1)
        change = np.maximum(np.abs(now - near).sum(0), np.abs(now - before).sum(0)) / bands
        share = np.convolve(loud[far:], window, "valid")
        mean = np.convolve(change * loud[far:], window, "valid") / share.clip(0.5)
        for start in np.flatnonzero((mean < _STUCK_DB) & (share >= 0.5)):
            stuck[start : start + far + _STUCK_FRAMES] = True
    return stuck
