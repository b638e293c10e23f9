"""Loudness and peaks: one integrated loudness for a whole catalogue, and a limiter that no sample gets past.

Arrays are float `[S, C]` (soundfile's order), full scale ±1.
"""

from __future__ import annotations

import numpy as np

from audiogen.interfaces import AudiogenError

TARGET_LUFS = -16.0
CEILING_DB = -1.0
LOOKAHEAD_SECONDS = 0.005
_GRID = 16  # samples that share one gain value before smoothing: the limiter's time resolution
_TOLERANCE_DB = 0.1


def integrated_lufs(samples: np.ndarray, sample_rate: int) -> float:
    """Integrated loudness after ITU-R BS.1770-4, gated. −inf for silence.

    Raises AudiogenError for audio shorter than one measuring block (0.4 s) or with values that are not finite.
    """
    import pyloudnorm

    samples = _checked(samples)
    if len(samples) < 0.4 * sample_rate:
        seconds = len(samples) / sample_rate
        raise AudiogenError(f"{seconds:.3f} s of audio: loudness is measured over at least 0.4 s, give a longer piece")
    with np.errstate(divide="ignore", invalid="ignore"):
        loudness = float(pyloudnorm.Meter(sample_rate).integrated_loudness(samples))
    return loudness if np.isfinite(loudness) else float("-inf")


class Limiter:
    """Peak limiter for a stream: no |sample| of what it gives is above the ceiling; all channels share one gain.

    The gain that each moment needs, ceiling / peak, is held from a look-ahead before it until `hold_seconds` after it
    (a running minimum) and then averaged over twice the look-ahead: a mean of values that are each small enough for
    the peak in the middle is small enough too. Held for long it does not follow the waves of a bass. What comes does
    not depend on how the stream is cut.
    """

    def __init__(
        self, channels: int, sample_rate: int, ceiling_db: float = CEILING_DB, hold_seconds: float = LOOKAHEAD_SECONDS
    ) -> None:
        self._ceiling = np.float32(10 ** (ceiling_db / 20))
        self._around = max(1, round(LOOKAHEAD_SECONDS * sample_rate / _GRID))
        """cells averaged on either side; a peak is seen by one more"""
        self._ahead = 2 * self._around + 2
        self._behind = max(self._around + 1, round(hold_seconds * sample_rate / _GRID))
        self._before = self._around + 1 + self._behind
        self._samples = np.zeros((0, channels), np.float32)
        self._needed: np.ndarray | None = None  # from `_before` cells before the first sample kept on

    def push(self, samples: np.ndarray) -> np.ndarray:
        """`[s, C]` float32 → what is ready, `[n, C]`: some 11 ms are held back."""
        self._samples = np.concatenate([self._samples, samples.astype(np.float32, copy=False)])
        known = 0 if self._needed is None else len(self._needed) - self._before
        fresh = self._need(self._samples[known * _GRID : len(self._samples) // _GRID * _GRID])
        return self._ready(fresh, len(self._samples) // _GRID - self._ahead)

    def flush(self) -> np.ndarray:
        """The rest."""
        known = 0 if self._needed is None else len(self._needed) - self._before
        fresh = self._need(self._samples[known * _GRID :])
        count = known + len(fresh)
        last = fresh[-1:] if len(fresh) or self._needed is None else self._needed[-1:]
        ready = self._ready(np.concatenate([fresh, np.repeat(last, self._ahead)]), count)
        self._samples, self._needed = self._samples[:0], None
        return ready

    def _need(self, samples: np.ndarray) -> np.ndarray:
        """The gain that each cell needs, the last one perhaps not whole."""
        peaks = np.zeros(-(-len(samples) // _GRID) * _GRID, np.float32)
        for channel in samples.T:
            np.maximum(peaks[: len(samples)], np.abs(channel), out=peaks[: len(samples)])
        highest = peaks.reshape(-1, _GRID).max(axis=1)
        needed: np.ndarray = np.minimum(1.0, self._ceiling / np.maximum(highest, 1e-9)).astype(np.float64)
        return needed

    def _ready(self, fresh: np.ndarray, count: int) -> np.ndarray:
        """The first `count` cells, limited."""
        if self._needed is None and len(fresh):
            self._needed = np.repeat(fresh[:1], self._before)
        if self._needed is not None:
            self._needed = np.concatenate([self._needed, fresh])
        if count <= 0 or self._needed is None:
            return self._samples[:0]
        ready, self._samples = self._samples[: count * _GRID], self._samples[count * _GRID :]
        needed, self._needed = self._needed[: self._before + count + self._ahead], self._needed[count:]
        if needed.min() == 1.0:
            return ready
        return np.clip(ready * self._gains(needed, count)[: len(ready), None], -self._ceiling, self._ceiling)

    def _gains(self, needed: np.ndarray, count: int) -> np.ndarray:
        """One a sample of `count` cells."""
        from scipy.ndimage import minimum_filter1d

        width = self._behind + self._around + 2  # from `behind` cells before to `around + 1` after
        held = minimum_filter1d(needed, width, origin=self._behind - width // 2)
        held = held[self._behind :]  # from the cell `around + 1` before the first on
        span = 2 * self._around + 1
        smooth = sum(held[offset : offset + count + 2] for offset in range(span)) / span  # in one order however cut
        edges = (smooth[1:] + smooth[:-1]) / 2  # in straight lines between the cells' edges
        ramp = np.arange(_GRID) / _GRID
        gains: np.ndarray = (edges[:-1, None] + np.diff(edges)[:, None] * ramp).reshape(-1).astype(np.float32)
        return gains


def limit(samples: np.ndarray, sample_rate: int, ceiling_db: float = CEILING_DB) -> np.ndarray:
    """A whole recording through the `Limiter`. Attack and release are both `LOOKAHEAD_SECONDS`."""
    samples = _checked(samples)
    limiter = Limiter(samples.shape[1], sample_rate, ceiling_db)
    if np.abs(samples).max(initial=0.0) <= 10 ** (ceiling_db / 20):
        return samples
    return np.concatenate([limiter.push(samples), limiter.flush()])


def master(
    samples: np.ndarray, sample_rate: int, target_lufs: float = TARGET_LUFS, ceiling_db: float = CEILING_DB
) -> np.ndarray:
    """The piece at `target_lufs` integrated with peaks at most `ceiling_db` dBFS; float32, same shape. Silence stays.

    The limiter takes away a little loudness; where it took more than 0.1 dB of the energy the gain is raised once by
    what it took. Audio that is nearly all peaks (a lone wood block) stays quieter than asked, not squashed.
    """
    samples = _checked(samples)
    loudness = integrated_lufs(samples, sample_rate)
    if loudness == float("-inf"):
        return samples
    raised = samples * np.float32(10 ** ((target_lufs - loudness) / 20))
    limited = limit(raised, sample_rate, ceiling_db)
    if limited is raised:
        return raised
    lost_db = 10 * np.log10(np.vdot(raised, raised) / np.vdot(limited, limited))
    if lost_db > _TOLERANCE_DB:
        limited = limit(raised * np.float32(10 ** (lost_db / 20)), sample_rate, ceiling_db)
    return limited


def _checked(samples: np.ndarray) -> np.ndarray:
    if samples.ndim != 2:
        raise AudiogenError(f"audio of shape {samples.shape}: expected [samples, channels]")
    samples = samples.astype(np.float32, copy=False)
    if not np.isfinite(samples).all():
        raise AudiogenError("the audio holds values that are not finite (NaN or infinity): repair or drop the file")
    return samples
