"""Sample order and training excerpts. Which excerpt stands at a position is a pure function of (seed, position).

So the whole state of the loader is one integer, a run resumes on the very next sample, and the number of processes may
change in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from audiogen.audio.io import read
from audiogen.data.manifest import Track, resolve
from audiogen.interfaces import AudiogenError


class SegmentOrder:
    """Cuts items of known length into segments anew each epoch, and shuffles them.

    Each epoch shifts the cuts by a random offset per item, so that every cut is met in time; items shorter than a
    segment give one segment that starts at 0.
    """

    def __init__(self, lengths: Sequence[int], segment: int, seed: int) -> None:
        if not len(lengths):
            raise AudiogenError("there is nothing to train on: the manifest has no tracks in this split")
        self._lengths, self._segment, self._seed = np.asarray(lengths, dtype=np.int64), segment, seed
        self._counts = np.maximum(self._lengths // segment, 1)
        self.epoch_size = int(self._counts.sum())
        self._epoch = lru_cache(maxsize=2)(self._build)

    def _build(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng([self._seed, epoch])
        slack = self._lengths - self._counts * self._segment
        offsets = (random.random(len(slack)) * (np.maximum(slack, 0) + 1)).astype(np.int64)
        items = np.repeat(np.arange(len(self._counts)), self._counts)
        within = np.arange(self.epoch_size) - np.repeat(np.cumsum(self._counts) - self._counts, self._counts)
        starts = offsets[items] + within * self._segment
        shuffle = random.permutation(self.epoch_size)
        return items[shuffle], starts[shuffle]

    def __getitem__(self, position: int) -> tuple[int, int]:
        """Position in the endless order → (item, start)."""
        epoch, index = divmod(position, self.epoch_size)
        items, starts = self._epoch(epoch)
        return int(items[index]), int(starts[index])


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
