from __future__ import annotations

import pytest
import torch
from tiny import notes
from torch import Tensor
from torchaudio.functional import highpass_biquad

from audiogen.training.neurogram import NeurogramLikeness

MUSIC = notes(4.0, 48_000).mean(0, keepdim=True)


@pytest.fixture(scope="module")
def unlike() -> NeurogramLikeness:
    return NeurogramLikeness(48_000)


def noise(level_db: float) -> Tensor:
    """White above 8 kHz."""
    white = torch.randn(MUSIC.shape, generator=torch.Generator().manual_seed(0))
    return 10 ** (level_db / 20) * highpass_biquad(highpass_biquad(white, 48_000, 8000.0), 48_000, 8000.0)


def test_a_haze_far_below_the_music_is_seen(unlike: NeurogramLikeness) -> None:
    """Mel bands take what lies below -56 dB of noise for silence."""
    costs = [float(unlike(MUSIC + noise(level), MUSIC)) for level in (-200, -80, -65, -50)]
    assert costs[0] == pytest.approx(0, abs=1e-4) and costs == sorted(costs) and costs[2] > 0.05


def test_gradients_are_those_of_the_cost(unlike: NeurogramLikeness) -> None:
    mine = (MUSIC + noise(-60)).requires_grad_()
    cost = unlike(mine, MUSIC)
    cost.backward()
    assert mine.grad is not None and bool(mine.grad.isfinite().all())
    step = 1e-3 * float(cost.detach()) / float(mine.grad.norm())
    better = unlike(mine.detach() - step * mine.grad / mine.grad.norm(), MUSIC)
    assert float(cost.detach() - better) == pytest.approx(1e-3 * float(cost.detach()), rel=0.2)


def test_silence_is_like_silence(unlike: NeurogramLikeness) -> None:
    silence = torch.zeros(1, 16_384, requires_grad=True)
    cost = unlike(silence, torch.zeros(1, 16_384))
    cost.backward()
    assert float(cost.detach()) < 1e-4 and silence.grad is not None and bool(silence.grad.isfinite().all())


def test_near_to_visqol_itself(unlike: NeurogramLikeness) -> None:
    """Its filters and patches are others; the verdict is nearly the same."""
    visqol = pytest.importorskip("visqol")
    copy = MUSIC + noise(-55)
    measured = visqol.VisqolApi()
    measured.create(mode="audio")
    theirs = measured.measure_from_arrays(MUSIC[0].double().numpy(), copy[0].double().numpy(), 48_000).vnsim
    assert 1 - float(unlike(copy, MUSIC)) == pytest.approx(theirs, abs=0.08)
