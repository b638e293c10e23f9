from __future__ import annotations

import pytest
import torch

from audiogen.audio.defects import Defects, find_defects
from audiogen.interfaces import Waveform
from tests import tiny

RATE = tiny.RATE


def listen(samples: torch.Tensor, rate: int = RATE) -> Defects:
    def part(start: float, seconds: float) -> Waveform:
        return Waveform(samples[:, round(start * rate) : round((start + seconds) * rate)], rate)

    return find_defects(part, samples.shape[1] / rate)


def looped(samples: torch.Tensor, start: float, period: float, seconds: float, rate: int = RATE) -> torch.Tensor:
    """`seconds` from `start` on replaced by what sounds in the first `period` of them, over and over."""
    first, length, count = (round(value * rate) for value in (start, period, seconds))
    out = samples.clone()
    times = -(-count // length)
    out[:, first : first + count] = samples[:, first : first + length].repeat(1, times)[:, :count]
    return out


def test_music_has_none() -> None:
    found = listen(tiny.notes(10))
    assert found == Defects(0.0, 0.0, 0.0)


@pytest.mark.parametrize("period", [0.04, 0.12, 0.24, 0.48])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_a_stuck_loop(period: float, rate: int) -> None:
    clip = looped(tiny.notes(10, rate), 3.05, period, 4.0, rate)
    assert listen(clip, rate).stuck_seconds == pytest.approx(4.0, abs=0.8)


@pytest.mark.parametrize("seconds", [1.0, 2.0])
def test_a_short_loop_is_music(seconds: float) -> None:
    assert listen(looped(tiny.notes(10), 3.05, 0.12, seconds)).stuck_seconds == 0


def test_beats_are_no_stuck_loop() -> None:
    """The same two notes a second, for ten seconds: a bar repeats, not a part of a beat."""
    bar = tiny.notes(1.2, seed=3)
    assert listen(bar.repeat(1, 9)).stuck_seconds == 0


def test_a_held_chord_that_moves_slowly_is_no_stuck_loop() -> None:
    time = torch.arange(10 * RATE) / RATE
    tones = [torch.sin(2 * torch.pi * hz * time) for hz in (220, 277.2, 329.6, 440.9, 555)]
    held = sum(0.1 * (1 + 0.5 * torch.sin(2 * torch.pi * (0.1 + 0.05 * n) * time)) * t for n, t in enumerate(tones))
    assert listen(torch.stack([held, held])).stuck_seconds == 0


def test_silence_is_no_stuck_loop() -> None:
    clip = tiny.notes(12)
    clip[:, 3 * RATE : 9 * RATE] = 0
    found = listen(clip)
    assert found.stuck_seconds == 0
    assert found.silence_seconds == pytest.approx(6.0, abs=0.11)


def test_below_sixty_decibels_is_silence_and_above_is_not() -> None:
    for level_db, seconds in ((-66, 2.0), (-50, 0.0)):
        clip = tiny.notes(8)
        noise = torch.randn(2, 2 * RATE, generator=torch.Generator().manual_seed(0))
        clip[:, 3 * RATE : 5 * RATE] = noise * 10 ** (level_db / 20)
        assert listen(clip).silence_seconds == pytest.approx(seconds, abs=0.11)


def test_a_breath_before_and_a_last_chord_that_died_away_are_meant() -> None:
    clip = tiny.notes(40)
    clip[:, : round(0.5 * RATE)] = 0
    clip[:, round(35.6 * RATE) :] = 0
    assert listen(clip).silence_seconds == 0
    clip[:, round(33.5 * RATE) :] = 0
    assert listen(clip).silence_seconds == pytest.approx(2.0, abs=0.11)


def test_short_clips_have_short_endings() -> None:
    clip = tiny.notes(10)
    clip[:, 6 * RATE :] = 0
    assert listen(clip).silence_seconds == pytest.approx(2.5, abs=0.11)


def test_nothing_but_silence() -> None:
    assert listen(torch.zeros(2, 4 * RATE)) == Defects(4.0, 0.0, 0.0)


def test_clipping_counts_samples_of_all_channels() -> None:
    clip = tiny.notes(5)
    clip[0, :400], clip[1, 1000:1400] = 1.0, -0.995
    assert listen(clip).clipped_share == pytest.approx(800 / clip.numel())


def test_defects_in_a_later_minute_and_across_the_border() -> None:
    clip = tiny.notes(15).repeat(1, 9)[:, : 130 * RATE]
    clip = looped(clip, 58.1, 0.12, 4.0)
    clip[:, 125 * RATE : 127 * RATE] = 0
    clip[:, 119 * RATE : 121 * RATE + RATE // 2] = 0
    found = listen(clip)
    assert found.stuck_seconds == pytest.approx(4.0, abs=0.8)
    assert found.silence_seconds == pytest.approx(2.5, abs=0.11)


@pytest.mark.parametrize("seconds", [0.03, 0.4, 3.0, 3.1, 60.0, 60.02])
def test_any_length(seconds: float) -> None:
    found = listen(tiny.notes(5).repeat(1, 13)[:, : round(seconds * RATE)])
    assert found.stuck_seconds == 0 and found.clipped_share == 0 and found.silence_seconds < 0.06
