from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from audiogen.evaluation.style_classifier import StyleClassifier, timbre
from audiogen.interfaces import AudiogenError, Waveform

SECONDS = 2


def pad(seed: int) -> Waveform:
    """A held low chord with a little noise."""
    chance = torch.Generator().manual_seed(seed)
    time = torch.arange(SECONDS * 48_000) / 48_000
    root = 100 + 100 * torch.rand(1, generator=chance)
    tone = sum(torch.sin(2 * math.pi * root * ratio * time) for ratio in (1, 1.25, 1.5))
    return Waveform((0.1 * tone + 1e-3 * torch.randn(len(time), generator=chance)).repeat(2, 1), 48_000)


def drums(seed: int) -> Waveform:
    """Noise bursts four times a second."""
    chance = torch.Generator().manual_seed(seed)
    time = torch.arange(SECONDS * 48_000) / 48_000
    envelope = torch.exp(-30 * (time % 0.25))
    return Waveform((0.3 * envelope * torch.randn(len(time), generator=chance)).repeat(2, 1), 48_000)


def test_the_level_does_not_matter() -> None:
    quiet = Waveform(drums(1).samples * 0.25, 48_000)
    np.testing.assert_allclose(timbre(drums(1)), timbre(quiet), atol=0.05)


def test_vector_is_finite_even_for_silence() -> None:
    vector = timbre(Waveform(torch.zeros(2, 48_000), 48_000))
    assert vector.shape == (320,) and vector.dtype == np.float32 and bool(np.isfinite(vector).all())


def test_too_short_is_refused() -> None:
    with pytest.raises(AudiogenError, match="at least"):
        timbre(Waveform(torch.zeros(2, 5000), 48_000))


def test_tells_new_recordings_apart() -> None:
    vectors = np.stack([timbre(make(seed)) for make in (pad, drums) for seed in range(4)])
    judge = StyleClassifier(vectors, ["ambient"] * 4 + ["techno"] * 4)
    held_out = np.stack([timbre(pad(10)), timbre(drums(11))])
    assert judge.predict(held_out) == ["ambient", "techno"]
    assert judge.accuracy(held_out, ["ambient", "ambient"]) == 0.5


@pytest.mark.parametrize("styles", [["techno", "techno"], ["techno"]])
def test_refuses_one_style_or_too_few_labels(styles: list[str]) -> None:
    with pytest.raises(AudiogenError, match="at least two styles"):
        StyleClassifier(np.zeros((2, 320), np.float32), styles)
