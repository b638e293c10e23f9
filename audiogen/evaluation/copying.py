"""Does a clip copy its training music: equal runs of codes, and fingerprints that agree.

Codes tell copies frame by frame; fingerprints (Wang 2003), pairs of spectral peaks, tell them at any offset, at another
level and through a codec. How much of either is usual is told by held-out music beside the same training music.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from audiogen.style.hearing import Heard, decibels

LONGEST_RUN = 250
"""frames: a longer run is no longer followed"""

_BOOKS = 2
_BASE = np.uint64(0x9E3779B97F4A7C15)
_PEAK_DB = -40.0  # of the loudest
_NEAR_SEMITONES, _NEAR_FRAMES = 3, 1
_FEW = 200  # pairs: shares of clips of hardly any peaks are told lower
_REACH_FRAMES, _FAN = 25, 4
_ROWS = 84


class CodeRuns:
    """Finds the longest run of frames whose first two codebooks are those of a run in the training codes. Frames count
    that differ from the one before."""

    def __init__(self, codes: Sequence[np.ndarray]) -> None:
        """`codes`: int `[T, K]` of each training piece."""
        random = np.random.default_rng(0)
        borders = random.integers(1 << 62, 1 << 63, size=len(codes), dtype=np.uint64)  # no run crosses them
        parts = [np.append(_tokens(piece), border) for piece, border in zip(codes, borders, strict=True)]
        self._tokens = np.concatenate(parts)
        self._hashes: list[np.ndarray] = []  # of runs of 1, 2, … frames, sorted
        self._last = np.zeros(len(self._tokens), np.uint64)

    def longest(self, codes: np.ndarray) -> int:
        """Frames of the longest equal run of `codes` `[T, K]`, at most 250."""
        tokens = _tokens(codes)
        own = np.zeros(len(tokens), np.uint64)
        for length in range(1, min(LONGEST_RUN, len(tokens)) + 1):
            own = _longer(own, tokens, length)
            known = self._known(length)
            place = np.minimum(np.searchsorted(known, own), len(known) - 1)
            if not len(known) or not (known[place] == own).any():
                return length - 1
        return min(LONGEST_RUN, len(tokens))

    def _known(self, length: int) -> np.ndarray:
        while len(self._hashes) < length:
            self._last = _longer(self._last, self._tokens, len(self._hashes) + 1)
            self._hashes.append(np.unique(self._last))
        return self._hashes[length - 1]


def _tokens(codes: np.ndarray) -> np.ndarray:
    """One number a frame, frames that are as the one before left out: silence is nobody's."""
    wide = codes[:, :_BOOKS].astype(np.uint64)
    tokens = (wide[:, 0] << np.uint64(20)) + wide[:, -1] + np.uint64(1)
    return tokens[np.append(True, tokens[1:] != tokens[:-1])] if len(tokens) else tokens


def _longer(hashes: np.ndarray, tokens: np.ndarray, length: int) -> np.ndarray:
    """Hashes of runs of `length - 1` tokens from each place on → of `length`."""
    count = len(tokens) - length + 1
    power = np.uint64(pow(int(_BASE), length - 1, 1 << 64))
    with np.errstate(over="ignore"):
        mixed = (tokens[length - 1 :] ^ (tokens[length - 1 :] >> np.uint64(7))) * _BASE
        longer: np.ndarray = hashes[:count] + mixed * power
    return longer


class Match(NamedTuple):
    """The training piece whose fingerprint agrees most, and about the share of the clip's pairs that agree with it at
    one offset.

    Tried on 80 pieces: excerpts of 12 s out of them, beginning between two frames or through the codec, gave 0.15 to
    0.69, each with its own piece; held-out pieces 0.03 to 0.12.
    """

    piece: int
    share: float


@dataclass(frozen=True)
class Fingerprints:
    """Pairs of peaks of many pieces: sorted `keys`, and for each the `piece` and `frame` it comes from."""

    keys: np.ndarray
    pieces: np.ndarray
    frames: np.ndarray

    @classmethod
    def of(cls, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> Fingerprints:
        """From the `fingerprint` of each piece."""
        keys = np.concatenate([keys for keys, _ in pairs])
        order = np.argsort(keys, kind="stable")
        pieces = np.repeat(np.arange(len(pairs)), [len(keys) for keys, _ in pairs])
        return cls(keys[order], pieces[order], np.concatenate([frames for _, frames in pairs])[order])

    def match(self, fingerprint: tuple[np.ndarray, np.ndarray]) -> Match:
        """The piece that agrees most."""
        keys, frames = fingerprint
        if not len(keys) or not len(self.keys):
            return Match(-1, 0.0)
        near = np.concatenate([keys - 1, keys, keys + 1])  # a copy begins between two frames
        frames = np.tile(frames, 3)
        first = np.searchsorted(self.keys, near)
        counts = np.searchsorted(self.keys, near, side="right") - first
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        rows = np.repeat(first, counts) + within
        offsets = self.frames[rows].astype(np.int64) - np.repeat(frames, counts)
        votes, tally = np.unique((self.pieces[rows].astype(np.int64) << 32) + offsets + (1 << 31), return_counts=True)
        if not len(votes):
            return Match(-1, 0.0)
        after = np.minimum(np.searchsorted(votes, votes + 1), len(votes) - 1)
        tally = tally + np.where(votes[after] == votes + 1, tally[after], 0)
        best = int(tally.argmax())
        return Match(int(votes[best] >> 32), min(1.0, float(tally[best] / (len(keys) + _FEW))))


def fingerprint(heard: Heard) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of peaks: a key for two semitones and the time between them, int32 `[N]`, and the frame of the first,
    int32 `[N]`."""
    from scipy.ndimage import maximum_filter

    levels = decibels(heard.semitones) - heard.loudest_db()
    around = maximum_filter(levels, (2 * _NEAR_SEMITONES + 1, 2 * _NEAR_FRAMES + 1), mode="constant", cval=-200.0)
    rows, frames = np.nonzero((levels == around) & (levels > _PEAK_DB))
    order = np.lexsort((rows, frames))
    rows, frames = rows[order], frames[order]
    keys, firsts = [], []
    for step in range(1, _FAN + 1):
        apart = frames[step:] - frames[:-step]
        near = (apart > 0) & (apart <= _REACH_FRAMES)
        keys.append(((rows[:-step] * _ROWS + rows[step:]) * (_REACH_FRAMES + 2) + apart)[near])
        firsts.append(frames[:-step][near])
    return np.concatenate(keys).astype(np.int32), np.concatenate(firsts).astype(np.int32)
