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


def limit(samples: np.ndarray, sample_rate: int, ceiling_db: float = CEILING_DB) -> np.ndarray:
    """Peak limiter: no |sample| of the result is above the ceiling; all channels share one gain.

    The gain that each moment needs, ceiling / peak, is held over a look-ahead window (a running minimum) and then
    averaged over a window of the same length: a mean of values that are each small enough for the peak in the middle
    is small enough too. So attack and release are both `LOOKAHEAD_SECONDS`, and no peak is passed.
    """
    from scipy.ndimage import minimum_filter1d, uniform_filter1d

    samples = _checked(samples)
    ceiling = np.float32(10 ** (ceiling_db / 20))
    count = -(-len(samples) // _GRID)
    peaks = np.zeros(count * _GRID, dtype=np.float32)
    for channel in samples.T:
        np.maximum(peaks[: len(samples)], np.abs(channel), out=peaks[: len(samples)])
    needed = np.minimum(1.0, ceiling / np.maximum(peaks.reshape(count, _GRID).max(axis=1), 1e-9))
    if needed.min(initial=1.0) == 1.0:
        return samples
    width = 2 * max(1, round(LOOKAHEAD_SECONDS * sample_rate / _GRID)) + 1
    held = minimum_filter1d(needed.astype(np.float64), width + 2, mode="nearest")
    smooth = uniform_filter1d(held, width, mode="nearest").astype(np.float32)
    # from one value a grid cell to one a sample, in straight lines between the cells' edges
    edges = np.concatenate([smooth[:1], (smooth[1:] + smooth[:-1]) / 2, smooth[-1:]])
    ramp = np.arange(_GRID, dtype=np.float32) / _GRID
    gain = (edges[:-1, None] + (edges[1:] - edges[:-1])[:, None] * ramp).reshape(-1)[: len(samples)]
    return np.clip(samples * gain[:, None], -ceiling, ceiling)


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
