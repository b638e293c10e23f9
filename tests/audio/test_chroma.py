"""The melody of a recording, against transformers' MusicgenMelodyFeatureExtractor."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import notes
from transformers import MusicgenMelodyFeatureExtractor

from audiogen.audio.chroma import HOP_LENGTH, SAMPLE_RATE, melody
from audiogen.interfaces import AudiogenError, Waveform


def theirs(samples: torch.Tensor) -> torch.Tensor:
    extract = MusicgenMelodyFeatureExtractor()
    return extract(samples.numpy(), sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features[0].argmax(1)


@pytest.mark.parametrize("seconds", [0.2, 0.6, 5.0, 12.345])
def test_pitch_classes_are_theirs(seconds: float) -> None:
    audio = notes(seconds, SAMPLE_RATE, seed=3).mean(0)
    expected = theirs(audio)
    found = melody(Waveform(audio[None], SAMPLE_RATE), "notes")
    assert found.dtype == torch.int64 and found.shape == expected.shape
    assert torch.equal(found, expected) and (seconds < 1 or found.unique().numel() > 3)


def test_noise_too_but_for_ties() -> None:
    audio = torch.randn(SAMPLE_RATE * 4, generator=torch.Generator().manual_seed(0)) * 0.1
    same = melody(Waveform(audio[None], SAMPLE_RATE), "noise") == theirs(audio)
    assert float(same.float().mean()) > 0.95


@pytest.mark.parametrize(("note", "pitch"), [(60, 0), (61, 1), (69, 9), (71, 11)])
def test_a_tone_is_its_pitch_class(note: int, pitch: int) -> None:
    time = np.arange(2 * 44_100) / 44_100
    tone = np.sin(2 * np.pi * 440 * 2 ** ((note - 69) / 12) * time).astype(np.float32) * 0.5
    stereo = Waveform(torch.from_numpy(np.stack([tone, tone])), 44_100)
    found = melody(stereo, "tone")
    assert len(found) == 2 * SAMPLE_RATE // HOP_LENGTH + 1 and found.unique().tolist() == [pitch]


@pytest.mark.parametrize("samples", [torch.zeros(1, 48_000), torch.full((2, 48_000), 1e-6), torch.zeros(1, 0)])
def test_silence_has_no_melody(samples: torch.Tensor) -> None:
    with pytest.raises(AudiogenError, match=r"IN\.wav: holds no sound"):
        melody(Waveform(samples, 48_000), "IN.wav")
