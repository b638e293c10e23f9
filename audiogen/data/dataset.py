"""Sample order and training excerpts. Which excerpt stands at a position is a pure function of (seed, position).

So the whole state of the loader is one integer, a run resumes on the very next sample, and the number of processes may
change in between. Nothing is kept for an epoch: a million hours take a few bytes a track.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from audiogen.audio.io import read
from audiogen.data.manifest import Track, resolve
from audiogen.interfaces import AudiogenError

_BLOCK = 1000
_MASK = 2**64 - 1


class SegmentOrder:
    """Cuts items of known length into segments anew each epoch, and shuffles them.

    Each epoch shifts the cuts by a random offset per item, so that every cut is met in time; items shorter than a
    segment give one segment that starts at 0. An item of weight 2 is met twice an epoch, one of weight 1/2 every other
    epoch on average (systematic sampling: at even steps along the weights' sum, from a random beginning).
    """

    def __init__(self, lengths: Sequence[int], segment: int, seed: int, weights: Sequence[float] | None = None) -> None:
        self._lengths, self._segment, self._seed = np.asarray(lengths, dtype=np.int64), segment, seed
        self._counts = np.maximum(self._lengths // segment, 1)
        self._weights = np.ones(len(lengths)) if weights is None else np.asarray(weights, dtype=np.float64)
        self._ends = np.cumsum(self._counts * self._weights)
        if not len(self._ends) or self._ends[-1] <= 0:
            raise AudiogenError("there is nothing to train on: no tracks in this split, or none of a weight above 0")
        self.epoch_size = max(1, round(float(self._ends[-1])))

    def __getitem__(self, position: int) -> tuple[int, int]:
        """Position in the endless order → (item, start)."""
        epoch, index = divmod(position, self.epoch_size)
        place = permuted(index, self.epoch_size, mixed(self._seed, epoch))
        phase = (mixed(self._seed, epoch, -1) >> 44) / 2**20
        point = (place + phase) * (float(self._ends[-1]) / self.epoch_size)
        item = min(int(np.searchsorted(self._ends, point, "right")), len(self._ends) - 1)
        weight, count = float(self._weights[item]), int(self._counts[item])
        within = int((point - float(self._ends[item])) / weight + count)
        slack = max(int(self._lengths[item]) - count * self._segment, 0)
        offset = mixed(self._seed, epoch, item) % (slack + 1)
        return item, offset + min(max(within, 0), count - 1) * self._segment


class Mixture:
    """Several orders in stated proportions: of any 1000 positions in a row from a multiple of 1000 on, each has its
    share to within one."""

    def __init__(self, shares: Sequence[float], seed: int) -> None:
        """Raises AudiogenError for a share below 1/1000 of the sum."""
        ends = np.cumsum(np.asarray(shares, dtype=np.float64))
        self._ends = np.floor(ends / ends[-1] * _BLOCK + 0.5).astype(np.int64)
        self._quotas = np.diff(self._ends, prepend=0)
        self._seed = seed
        for index in np.flatnonzero(self._quotas == 0):
            raise AudiogenError(f"source {index + 1}: its share is less than 1/{_BLOCK} of the sum; leave it out")

    def __getitem__(self, position: int) -> tuple[int, int]:
        """Position → (order, position in it); each order's positions are all met, once."""
        block, index = divmod(position, _BLOCK)
        place = permuted(index, _BLOCK, mixed(self._seed, -2, block))
        order = int(np.searchsorted(self._ends, place, "right"))
        quota = int(self._quotas[order])
        return order, block * quota + place - (int(self._ends[order]) - quota)


def mixed(*numbers: int) -> int:
    """A hash of integers, 0 … 2^64 - 1 (SplitMix64's finaliser, Steele et al. 2014)."""
    state = 0
    for number in numbers:
        state = (state + (number & _MASK) + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state


def permuted(index: int, size: int, key: int) -> int:
    """Where `index` goes in the permutation of 0 … size - 1 that `key` names, without the others.

    Four rounds of a Feistel network over the next even power of two, walked until inside (Black and Rogaway 2002).
    """
    half = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = index >> half, index & mask
        for turn in range(4):
            left, right = right, left ^ (mixed(key, turn, right) & mask)
        index = left << half | right
        if index < size:
            return index


class AudioSegments:
    """Excerpts of the audio of a manifest, float32 `[2, segment_samples]`, by position in a `SegmentOrder`.

    Files of another rate are resampled on the way, which takes time.
    """

    def __init__(
        self, tracks: Sequence[Track], root: str | Path, segment_samples: int, sample_rate: int, seed: int
    ) -> None:
        self._paths = [resolve(root, track) for track in tracks]
        self._samples, self._rate = segment_samples, sample_rate
        lengths = [track.samples * sample_rate // track.sample_rate for track in tracks]
        self.order = SegmentOrder(lengths, segment_samples, seed)

    def __getitem__(self, position: int) -> np.ndarray:
        item, start = self.order[position]
        seconds = self._samples / self._rate
        audio = read(self._paths[item], self._rate, 2, start / self._rate, seconds).samples.numpy()
        audio = audio[:, : self._samples]
        return np.pad(audio, ((0, 0), (0, self._samples - audio.shape[1])))
