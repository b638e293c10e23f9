from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from audiogen.evaluation import codec_quality
from audiogen.evaluation.codec_quality import compare, level_difference_db, si_sdr_db, visqol_audio, zimtohrli_mos
from audiogen.interfaces import AudiogenError, Waveform


def chord(root_hz: float, seconds: float = 2.0) -> Waveform:
    time = torch.arange(round(seconds * 48_000)) / 48_000
    notes = [torch.sin(2 * math.pi * root_hz * 2 ** (step / 12) * time) for step in (0, 4, 7)]
    return Waveform(0.2 * torch.stack([sum(notes), sum(notes)]), 48_000)


def test_level_difference() -> None:
    clip = chord(220)
    assert level_difference_db(clip, Waveform(clip.samples / 2, 48_000)) == pytest.approx(-6.02, abs=0.01)


def test_level_of_silence_is_refused() -> None:
    with pytest.raises(AudiogenError, match="silent"):
        level_difference_db(chord(220), Waveform(torch.zeros(2, 96_000), 48_000))


@pytest.fixture
def fake_visqol(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[np.ndarray, np.ndarray, int]]]:
    """The package is heavy and optional: a stand-in that keeps what it was given."""
    seen: list[tuple[np.ndarray, np.ndarray, int]] = []

    class Api:
        def create(self, mode: str) -> None:
            assert mode == "audio"

        def measure_from_arrays(self, reference: np.ndarray, decoded: np.ndarray, rate: int) -> SimpleNamespace:
            seen.append((reference, decoded, rate))
            return SimpleNamespace(moslqo=4.0)

    monkeypatch.setitem(sys.modules, "visqol", SimpleNamespace(VisqolApi=Api))
    monkeypatch.setitem(sys.modules, "zimtohrli", SimpleNamespace(mos_from_signals=lambda a, b: 3.0))
    codec_quality._visqol.cache_clear()
    yield seen
    codec_quality._visqol.cache_clear()


def test_visqol_hears_the_mid_channel_at_48_khz(fake_visqol: list[tuple[np.ndarray, np.ndarray, int]]) -> None:
    clip = Waveform(torch.stack([torch.ones(44_100), torch.zeros(44_100)]) * 0.5, 44_100)
    assert visqol_audio(clip, Waveform(-clip.samples, 44_100)) == 4.0
    reference, decoded, rate = fake_visqol[0]
    assert rate == 48_000 and reference.shape == (48_000,)
    assert reference[24_000] == pytest.approx(0.25, abs=1e-3) and decoded[24_000] == pytest.approx(-0.25, abs=1e-3)


@pytest.mark.usefixtures("fake_visqol")
def test_a_copy_is_perfect_and_another_chord_is_not() -> None:
    clip = chord(220)
    same = compare(clip, clip)
    assert same.chroma == pytest.approx(1) and same.semitones == pytest.approx(1)
    assert same.mel_db == 0 and same.level_db == 0 and same.zimtohrli == 3.0
    other = compare(clip, chord(220 * 2 ** (6 / 12)))  # a tritone away: no pitch class in common
    assert other.chroma < 0.3 and other.semitones < 0.6 and other.mel_db > 1


def test_si_sdr_is_that_of_added_noise_and_blind_to_level() -> None:
    clip = chord(220)
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal(clip.samples.shape[1])).float()
    noise *= 0.1 * clip.samples[0].std() / noise.std()
    assert si_sdr_db(clip, Waveform(3 * (clip.samples + noise), 48_000)) == pytest.approx(20, abs=0.2)
    assert si_sdr_db(clip, clip) > 60


def test_without_zimtohrli_the_mend_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zimtohrli", None)
    with pytest.raises(AudiogenError, match=r"audiogen\[bench\]"):
        zimtohrli_mos(chord(220), chord(220))


def test_without_visqol_the_mend_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    codec_quality._visqol.cache_clear()
    monkeypatch.setitem(sys.modules, "visqol", None)
    with pytest.raises(AudiogenError, match=r"audiogen\[bench\]"):
        visqol_audio(chord(220), chord(220))
