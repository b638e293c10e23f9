from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from audiogen.audio.io import write
from audiogen.interfaces import AudiogenError, Waveform
from audiogen.style import hearing
from audiogen.style.hearing import Heard, decibels, hear, hear_file, hear_parts
from tests import tiny


def cut_of(waveform: Waveform) -> hearing.Part:
    def part(start: float, seconds: float) -> Waveform:
        rate = waveform.sample_rate
        return Waveform(waveform.samples[:, round(start * rate) : round((start + seconds) * rate)], rate)

    return part


@pytest.mark.parametrize("rate", [48_000, 44_100])
def test_blocks_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch, rate: int) -> None:
    waveform = Waveform(tiny.notes(7.3, rate), rate)
    whole = hear(waveform)
    monkeypatch.setattr(hearing, "_BLOCK_SECONDS", 2.0)
    seen: list[float] = []
    blocks = hear_parts(cut_of(waveform), waveform.seconds, "x", lambda done, total: seen.append(done / total))
    assert seen[-1] == 1 and len(seen) == 4
    assert blocks.frames == whole.frames == 91 and blocks.mel.shape == (64, 364)
    assert np.abs(blocks.mel.astype(int) - whole.mel).max() <= 1
    assert np.abs(blocks.semitones.astype(int) - whole.semitones).max() <= 1


def test_mel_frames_are_centred_as_the_semitones_are() -> None:
    click = torch.zeros(1, 96_000)
    click[0, 48_000:] = torch.randn(48_000, generator=torch.Generator().manual_seed(1)) * 0.1
    heard = hear(Waveform(click, 48_000))
    mel = decibels(heard.mel).mean(0)
    assert mel[47] < -100 < mel[49] and mel[52] > mel[:40].max() + 30


def test_the_loudest_follows_the_gain() -> None:
    audio = tiny.notes(4.0, 16_000)
    loud, quiet = (hear(Waveform(audio * gain, 16_000)).loudest_db() for gain in (1.0, 0.25))
    assert loud - quiet == pytest.approx(12.04, abs=0.3)


def test_cut_keeps_both_in_step() -> None:
    whole = hear(Waveform(tiny.notes(4.0, 16_000), 16_000))
    part = whole.cut(10, 8)
    assert part.mel.shape == (64, 32) and part.semitones.shape == (84, 8)
    assert np.array_equal(part.mel, whole.mel[:, 40:72])


@pytest.mark.parametrize(("samples", "message"), [(tiny.notes(2.9, 16_000), "at least 3 s"),
                                                  (torch.zeros(2, 80_000), "no sound")])  # fmt: skip
def test_too_short_and_silent_are_refused_by_name(tmp_path: Path, samples: torch.Tensor, message: str) -> None:
    write(tmp_path / "bad.wav", Waveform(samples, 16_000))
    with pytest.raises(AudiogenError, match=f"bad.wav: .*{message}"):
        hear_file(tmp_path / "bad.wav")


def test_an_hour_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept is bytes: the blocks are all that is held of the audio."""
    longest = 0
    one = Waveform(tiny.notes(62.0, 8000), 8000)

    def part(start: float, seconds: float) -> Waveform:
        nonlocal longest
        longest = max(longest, round(seconds))
        return Waveform(one.samples[:, : round(min(seconds, 150 - start) * 8000)], 8000)

    heard = hear_parts(part, 150.0, "x")
    assert longest <= 62 and heard.frames == 1875
    assert isinstance(heard, Heard) and heard.mel.nbytes + heard.semitones.nbytes < 5000 * 150
