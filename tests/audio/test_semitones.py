from __future__ import annotations

import math

import pytest
import torch

from audiogen.audio.semitones import SEMITONES, semitone_levels
from audiogen.interfaces import AudiogenError, Waveform

A4 = 45  # semitones above C1


def sine(hz: float, seconds: float = 2.0, rate: int = 48_000) -> Waveform:
    time = torch.arange(round(seconds * rate)) / rate
    return Waveform(torch.sin(2 * math.pi * hz * time)[None], rate)


@pytest.mark.parametrize("semitone", [4, 16, 30, 31, 45, 54, 55, 70, 83])
def test_a_note_is_loudest_in_its_own_semitone(semitone: int) -> None:
    levels = semitone_levels(sine(440 * 2 ** ((semitone - A4) / 12)))
    assert levels.shape == (SEMITONES, 25)
    middle = levels[:, 12]
    assert int(middle.argmax()) == semitone and -6 < float(middle.max()) < 0
    apart = [other for other in range(SEMITONES) if abs(other - semitone) > 2]
    assert float(middle.max() - middle[apart].max()) > 20


def test_rate_and_channels_do_not_matter() -> None:
    mono = semitone_levels(sine(330))
    stereo = semitone_levels(Waveform(sine(330, rate=44_100).samples.repeat(2, 1), 44_100))
    torch.testing.assert_close(mono[38:43, 5:20], stereo[38:43, 5:20], atol=0.3, rtol=0)


def test_a_frame_is_centred_on_its_hop() -> None:
    silent = torch.zeros(1, 48_000)
    both = Waveform(torch.cat([silent, sine(1000, 1.0).samples], 1), 48_000)
    levels = semitone_levels(both)[59]
    assert float(levels[10]) < -60 and float(levels[14]) > -20


def test_silence_is_finite_and_too_short_is_refused() -> None:
    assert bool(semitone_levels(Waveform(torch.zeros(1, 48_000), 48_000)).isfinite().all())
    with pytest.raises(AudiogenError, match=r"at least 0\.5 s"):
        semitone_levels(Waveform(torch.zeros(1, 16_000), 48_000))
