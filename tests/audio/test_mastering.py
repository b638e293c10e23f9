from __future__ import annotations

import numpy as np
import pytest

from audiogen.audio.mastering import CEILING_DB, TARGET_LUFS, Limiter, integrated_lufs, limit, master
from audiogen.interfaces import AudiogenError

RATE = 48_000
CEILING = 10 ** (CEILING_DB / 20)


def _music(seconds: float = 6.0, level: float = 0.1) -> np.ndarray:
    """A stereo tone with clicks far above it: something that a limiter has to work on."""
    time = np.arange(round(seconds * RATE)) / RATE
    tone = level * np.sin(2 * np.pi * 440 * time)
    samples = np.stack([tone, 0.7 * tone], axis=1).astype(np.float32)
    for start in range(RATE // 4, len(samples), RATE // 2):
        burst = 8 * level * np.exp(-np.arange(2_000) / 300) * np.sin(np.arange(2_000) * 0.3)
        samples[start : start + 2_000, 0] += burst[: len(samples) - start]
    return samples


def test_loudness_of_the_standards_reference_tone() -> None:
    # ITU-R BS.1770-4: a 0 dBFS sine of 997 Hz in one channel reads -3.01 LUFS
    time = np.arange(5 * RATE) / RATE
    samples = np.stack([np.sin(2 * np.pi * 997 * time), np.zeros_like(time)], axis=1)
    assert integrated_lufs(samples, RATE) == pytest.approx(-3.01, abs=0.1)


@pytest.mark.parametrize("level", [0.001, 0.02, 0.1, 1.5])
def test_master_reaches_the_loudness_under_the_ceiling(level: float) -> None:
    mastered = master(_music(level=level), RATE)
    assert mastered.dtype == np.float32
    assert np.abs(mastered).max() <= CEILING + 1e-6
    assert integrated_lufs(mastered, RATE) == pytest.approx(TARGET_LUFS, abs=0.5)


def test_limit_lets_no_peak_pass_and_leaves_what_lies_far_from_one_alone() -> None:
    samples = np.full((RATE, 2), 0.5, dtype=np.float32)
    samples[RATE // 2, 1] = 3.0
    limited = limit(samples, RATE)
    assert np.abs(limited).max() <= CEILING + 1e-6
    assert limited[RATE // 2, 1] == pytest.approx(CEILING, rel=1e-3)
    # both channels share the gain, so the picture does not move
    assert limited[RATE // 2, 0] == pytest.approx(0.5 * CEILING / 3, rel=1e-3)
    far = round(0.02 * RATE)
    assert np.array_equal(limited[: RATE // 2 - far], samples[: RATE // 2 - far])
    assert np.array_equal(limited[RATE // 2 + far :], samples[RATE // 2 + far :])


def test_limit_moves_smoothly() -> None:
    samples = np.full((RATE, 1), 0.5, dtype=np.float32)
    samples[RATE // 2] = 3.0
    gain = limit(samples, RATE)[:, 0] / samples[:, 0]
    steps = np.abs(np.diff(np.delete(gain, RATE // 2)))
    assert steps.max() < 0.02  # a hard clip would step by 0.7


def test_limit_returns_quiet_audio_itself() -> None:
    samples = _music(level=0.01)
    assert limit(samples, RATE) is samples


def test_silence_stays_silence() -> None:
    silence = np.zeros((RATE, 2), dtype=np.float32)
    assert integrated_lufs(silence, RATE) == float("-inf")
    assert not master(silence, RATE).any()


@pytest.mark.parametrize("length", [1, 15, 17, 4_801])
def test_any_length_keeps_its_shape(length: int) -> None:
    samples = np.full((length, 2), 2.0, dtype=np.float32)
    limited = limit(samples, RATE)
    assert limited.shape == samples.shape
    assert np.abs(limited).max() <= CEILING + 1e-6


def test_empty_audio() -> None:
    assert limit(np.zeros((0, 2), dtype=np.float32), RATE).shape == (0, 2)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(RATE), "shape"),
        (np.full((RATE, 2), np.nan), "not finite"),
        (np.zeros((1_000, 2)), "0.4 s"),
    ],
)
def test_bad_audio_is_named(samples: np.ndarray, message: str) -> None:
    with pytest.raises(AudiogenError, match=message):
        master(samples, RATE)


@pytest.mark.parametrize("hold_seconds", [0.005, 0.1])
def test_a_stream_is_limited_as_the_whole_however_it_is_cut(hold_seconds: float) -> None:
    random = np.random.default_rng(0)
    samples = (0.4 * random.standard_normal((RATE, 2))).astype(np.float32)
    whole = Limiter(2, RATE, CEILING_DB, hold_seconds)
    expected = np.concatenate([whole.push(samples), whole.flush()])
    for most in (20, 700, 9_000):
        limiter, parts, start = Limiter(2, RATE, CEILING_DB, hold_seconds), [], 0
        while start < len(samples):
            stop = start + int(random.integers(0, most))
            parts.append(limiter.push(samples[start:stop]))
            start = stop
        assert np.array_equal(np.concatenate([*parts, limiter.flush()]), expected)
    assert len(whole.flush()) == 0


def test_a_long_hold_keeps_the_wave_of_a_bass() -> None:
    """A gain that follows each half wave would add odd partials to it."""
    tone = 2 * np.sin(2 * np.pi * 24 * np.arange(RATE) / RATE).astype(np.float32)[:, None]
    thirds = []
    for hold_seconds in (0.005, 0.1):
        limiter = Limiter(1, RATE, CEILING_DB, hold_seconds)
        limited = np.concatenate([limiter.push(tone), limiter.flush()])[RATE // 4 : 3 * RATE // 4, 0]
        spectrum = np.abs(np.fft.rfft(limited * np.hanning(len(limited))))
        thirds.append(spectrum[36] / spectrum[12])  # bins of 2 Hz
    assert thirds[0] > 0.01 and thirds[1] < 1e-3
