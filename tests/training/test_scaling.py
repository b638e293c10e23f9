from __future__ import annotations

from pathlib import Path

import pytest

from audiogen.interfaces import AudiogenError
from audiogen.training.lm_trainer import LMTrainingConfig
from audiogen.training.scaling import power_law, rates

RECIPES = Path(__file__).parents[2] / "recipes"


def test_the_rule_of_width() -> None:
    narrow, wide = rates(256), rates(1024)
    assert (narrow.lr, narrow.matrix_pace) == (2e-3, 3.0)
    assert wide.lr == narrow.lr / 4
    assert wide.lr * wide.matrix_pace == pytest.approx(narrow.lr * narrow.matrix_pace / 2)


@pytest.mark.parametrize(("name", "billions"), [("base", 0.4), ("large", 1.5)])
def test_base_and_large_follow_it(name: str, billions: float) -> None:
    import torch

    from audiogen.lm.model import MusicLM

    config = LMTrainingConfig.read(RECIPES / f"{name}.toml")
    rule = rates(config.lm.dim)
    assert config.trainer.lr == pytest.approx(rule.lr, rel=1e-3)
    assert config.trainer.matrix_pace == pytest.approx(rule.matrix_pace, rel=1e-3)
    with torch.device("meta"):
        size = sum(weight.numel() for weight in MusicLM(config.lm).parameters())
    assert size / 1e9 == pytest.approx(billions, rel=0.01)
    for processes in (8, 64, 256):
        assert config.trainer.batch_size % processes == 0


def test_a_power_law_is_found_again() -> None:
    work = [1e12, 3e12, 1e13, 5e13]
    law = power_law(work, [40.0 * x**-0.07 for x in work])
    assert law.factor == pytest.approx(40.0) and law.exponent == pytest.approx(0.07)
    assert law.at(1e15) == pytest.approx(40.0 * 1e15**-0.07)
    for x, y in (([1.0], [1.0]), ([1.0, 1.0], [2.0, 3.0]), ([1.0, 2.0], [1.0, 0.0]), ([], [])):
        with pytest.raises(AudiogenError, match="two or more points"):
            power_law(x, y)
