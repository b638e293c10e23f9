"""The network's promises: what moves with pitch and with tempo, and what does not lean on what."""

from __future__ import annotations

import pytest
import torch

from audiogen.style.ears import Ears, EarsConfig, instruments_present, tempo_classes
from tests import tiny


@pytest.fixture(scope="module")
def ears() -> Ears:
    return tiny.ears()


def test_shapes_of_long_and_short_windows(ears: Ears) -> None:
    for frames in (32, 128):
        opinions = ears(torch.zeros(3, 64, 4 * frames), torch.zeros(3, 84, frames))
        steps = frames // 16
        assert opinions.steps.shape == (3, steps, ears.config.embedding)
        assert opinions.instruments.shape == opinions.attention.shape == (3, steps, 29)
        assert opinions.style.shape == (3, 10) and opinions.moods.shape == (3, 16) and opinions.key.shape == (3, 24)
        assert opinions.tempo.shape == (3, 58) and opinions.metre.shape == (3, 2, 58)
        assert opinions.energy.shape == (3, steps)


def test_a_semitone_up_moves_the_key_by_one(ears: Ears) -> None:
    """Exact for music that stays clear of the ends of the range."""
    semitones = torch.full((1, 84, 64), -70.0)
    semitones[:, 30:50] = -60 * torch.rand(1, 20, 64, generator=torch.Generator().manual_seed(1))
    silence = torch.full((1, 64, 256), -70.0)
    at_home = ears(silence, semitones).key.view(2, 12)
    up = ears(silence, semitones.roll(1, 1)).key.view(2, 12)
    assert float(at_home.std()) > 1e-3
    torch.testing.assert_close(up, at_home.roll(1, 1), atol=2e-2 * float(at_home.std()), rtol=0.05)


def pulses(bpm: float, frames: int = 512) -> torch.Tensor:
    """Mel levels of strokes that die away, 50 frames a second."""
    phase = torch.arange(frames) / 50 % (60 / bpm)
    return (-50 * (phase / 0.12).clamp_max(1)).expand(64, frames)[None]


def test_faster_moves_the_autocorrelation_by_as_much(ears: Ears) -> None:
    """A stroke a second repeats after a second, 66 lags above 0.15 s; twice as fast an octave of 24 lags lower."""
    slow, fast = (ears.tempo._autocorrelation((pulses(bpm)[:, :1] + 50) / 50)[0, 0] for bpm in (60.0, 120.0))
    assert int(slow[30:80].argmax()) + 30 in (65, 66) and int(fast[30:54].argmax()) + 30 in (41, 42)
    assert float(fast[42]) > 0.8 and float(slow[42]) < 0.3


def test_tempo_does_not_hear_harmony_and_key_does_not_hear_rhythm(ears: Ears) -> None:
    generator = torch.Generator().manual_seed(2)
    mel, other_mel = -60 * torch.rand(2, 1, 64, 512, generator=generator)
    semitones, other = -60 * torch.rand(2, 1, 84, 128, generator=generator)
    a, b, c = ears(mel, semitones), ears(mel, other), ears(other_mel, semitones)
    assert torch.equal(a.tempo, b.tempo) and not torch.equal(a.key, b.key)
    assert torch.equal(a.key, c.key) and not torch.equal(a.tempo, c.tempo)


def test_classes_of_tempo_fall_by_one_ratio() -> None:
    classes = tempo_classes()
    torch.testing.assert_close(classes[:-1] / classes[1:], torch.full((57,), 2 ** (1 / 24)))
    assert 230 < float(classes[0]) < 245 and 44 < float(classes[-1]) < 47


def test_an_instrument_of_one_step_is_present_when_attention_is_on_it() -> None:
    logits = torch.full((1, 8, 29), -6.0)
    logits[0, 3, 5] = 6.0
    attention = torch.zeros(1, 8, 29)
    level = instruments_present(logits, attention)
    assert float(level[0, 5]) == pytest.approx(0.127, abs=0.01) and float(level[0, 4]) < 0.01
    attention[0, 3, 5] = 9.0
    assert float(instruments_present(logits, attention)[0, 5]) > 0.98


def test_a_small_config_is_built_and_an_unknown_width_refused() -> None:
    assert sum(weight.numel() for weight in Ears(EarsConfig(embedding=16)).parameters()) < 500_000
    with pytest.raises(ValueError, match="breadth"):
        EarsConfig(breadth=3)  # type: ignore[call-arg]
