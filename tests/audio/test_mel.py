from __future__ import annotations

import math

import pytest
import torch

from audiogen.audio.mel import log_mel, mel_distance_db
from audiogen.interfaces import AudiogenError, Waveform


def tone(hz: float, seconds: float = 1.0, level: float = 0.5, sample_rate: int = 48_000) -> Waveform:
    time = torch.arange(round(seconds * sample_rate)) / sample_rate
    return Waveform((level * torch.sin(2 * math.pi * hz * time)).repeat(2, 1), sample_rate)


def test_bands_and_frames() -> None:
    assert log_mel(tone(440)).shape == (64, 46)  # 1 + (48000 - 4096) // 960


def test_a_higher_tone_lies_in_a_higher_band() -> None:
    peaks = [int(log_mel(tone(hz)).mean(1).argmax()) for hz in (110, 440, 1760, 7040)]
    assert peaks == sorted(set(peaks))


def test_the_sample_rate_does_not_matter() -> None:
    assert mel_distance_db(tone(1000), tone(1000, sample_rate=44_100)) < 1.0


def test_distance_is_zero_for_the_same_and_the_level_for_a_louder_copy() -> None:
    noise = Waveform(0.05 * torch.randn(2, 48_000, generator=torch.Generator().manual_seed(1)), 48_000)
    assert mel_distance_db(noise, noise) == 0
    assert mel_distance_db(noise, Waveform(2 * noise.samples, 48_000)) == pytest.approx(6.02, abs=0.05)


def test_silence_is_finite_and_too_short_is_refused() -> None:
    assert bool(log_mel(Waveform(torch.zeros(2, 48_000), 48_000)).isfinite().all())
    with pytest.raises(AudiogenError, match=r"at least 0\.085 s"):
        log_mel(Waveform(torch.zeros(2, 1), 48_000))
