"""The form of minutes of music: where something new begins, what is repeated to the letter, what drifts.

Everything is read from what the tagger hears (`audiogen.style.hearing`), 12.5 frames a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from audiogen.style.hearing import MEL_A_FRAME, SEMITONE_RATE, Heard, decibels

HIT_SECONDS = 3.0
"""how near a boundary must be to count as found (MIREX, structural segmentation)"""
LEAST_SECONDS = 25.0
"""of music, for its form to be looked at"""

_STEP = 6  # frames: the self-similarity matrix has about two rows a second
_KERNEL_SECONDS = 12.0  # to each side of a boundary
_APART_SECONDS = 6.0
_SALIENT = 1.0  # standard deviations above the mean
_SAME_DB = 1.0
_HELD_SECONDS = 4.0
_SHORTEST_LAG_SECONDS = 1.0
_FLOOR_DB = -60.0  # of the loudest
_THIRD = 3


@dataclass(frozen=True)
class Form:
    """`boundaries_seconds`; the mean `novelty` at them; `repeated_share`, of the frames that repeat what was a second
    or more before, to within 1 dB for four seconds; `drift_db`, the level of the last third over that of the first."""

    boundaries_seconds: tuple[float, ...]
    novelty: float
    repeated_share: float
    drift_db: float


def measure_form(heard: Heard) -> Form | None:
    """None for less than 25 s."""
    if heard.seconds < LEAST_SECONDS:
        return None
    times, novelty = _novelty(heard)
    found = _peaks(times, novelty)
    heights = [float(novelty[np.searchsorted(times, time)]) for time in found]
    return Form(tuple(found), float(np.mean(heights)) if heights else 0.0, _repeated(heard), _drift_db(heard))


def boundary_f(planned: Sequence[float], found: Sequence[float]) -> float:
    """F measure of boundaries found within 3 s of those planned, each used once; NaN when none is planned."""
    if not len(planned):
        return float("nan")
    left, hits = sorted(found), 0
    for time in sorted(planned):
        near = [other for other in left if abs(other - time) <= HIT_SECONDS]
        if near:
            hits += 1
            left.remove(min(near, key=lambda other: abs(other - time)))
    return 2 * hits / (len(planned) + len(found))


def _features(heard: Heard) -> np.ndarray:
    """Mel levels and chroma in steps of half a second, each of unit spread, `[76, N]`."""
    level = heard.loudest_db()
    mel = np.maximum(decibels(heard.mel) - level, _FLOOR_DB)
    semitones = np.maximum(decibels(heard.semitones) - level, _FLOOR_DB)
    count = heard.frames // _STEP
    mel = mel[:, : count * _STEP * MEL_A_FRAME].reshape(len(mel), count, -1).mean(2)
    semitones = semitones[:, : count * _STEP].reshape(len(semitones), count, _STEP).mean(2)
    chroma = semitones.reshape(-1, 12, count).mean(0)
    parts = [part - part.mean(1, keepdims=True) for part in (mel, chroma)]
    return np.concatenate([part / (part.std() * np.sqrt(len(part)) + 1e-9) for part in parts])


def _novelty(heard: Heard) -> tuple[np.ndarray, np.ndarray]:
    """Times in seconds and the novelty there: a checkerboard with soft edges run along the diagonal of the
    self-similarity matrix (Foote 2000)."""
    features = _features(heard)
    features = features / (np.linalg.norm(features, axis=0) + 1e-9)
    same = features.T @ features
    reach = round(_KERNEL_SECONDS * SEMITONE_RATE / _STEP)
    place = (np.arange(2 * reach) + 0.5) / reach - 1
    taper = np.exp(-2 * np.square(place))
    kernel = np.outer(np.sign(place) * taper, np.sign(place) * taper)
    kernel /= np.abs(kernel).sum()
    padded = np.pad(same, reach, mode="reflect") if len(same) > reach else np.pad(same, reach)
    count = len(same)
    values = np.array([float((padded[i : i + 2 * reach, i : i + 2 * reach] * kernel).sum()) for i in range(count)])
    return np.arange(count) * _STEP / SEMITONE_RATE, values


def _peaks(times: np.ndarray, novelty: np.ndarray) -> list[float]:
    """Local maxima that stand out, at least 6 s from each other and from both ends."""
    apart = round(_APART_SECONDS * SEMITONE_RATE / _STEP)
    inner = novelty[apart:-apart] if len(novelty) > 2 * apart else novelty[:0]
    if not len(inner):
        return []
    threshold = inner.mean() + _SALIENT * inner.std()
    return [
        float(times[i])
        for i in range(apart, len(novelty) - apart)
        if novelty[i] > threshold and novelty[i] == novelty[i - apart : i + apart + 1].max()
    ]


def _repeated(heard: Heard) -> float:
    mel = np.maximum(decibels(heard.mel) - heard.loudest_db(), _FLOOR_DB)
    frames = heard.frames
    mel = mel[:, : frames * MEL_A_FRAME].reshape(len(mel), frames, MEL_A_FRAME).mean(2).astype(np.float32)
    held = round(_HELD_SECONDS * SEMITONE_RATE)
    window = np.ones(held) / held
    sounding = (mel > _FLOOR_DB + 20).any(0)
    repeated = np.zeros(frames, bool)
    for lag in range(round(_SHORTEST_LAG_SECONDS * SEMITONE_RATE), frames - held):
        change = np.abs(mel[:, lag:] - mel[:, :-lag]).mean(0)
        for start in np.flatnonzero(np.convolve(change, window, "valid") < _SAME_DB):
            repeated[lag + start : lag + start + held] = True
    return float((repeated & sounding).sum() / max(1, sounding.sum()))


def _drift_db(heard: Heard) -> float:
    powers = (10 ** (decibels(heard.mel) / 10)).sum(0)
    third = len(powers) // _THIRD
    return float(10 * np.log10((powers[-third:].mean() + 1e-13) / (powers[:third].mean() + 1e-13)))
