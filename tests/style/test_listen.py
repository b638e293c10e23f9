from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from audiogen.interfaces import STYLES, AudiogenError, Waveform
from audiogen.style.listen import SHIPPED, StyleJudge, shipped_judge, timbre

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
        shipped_judge().hear(Waveform(torch.zeros(2, 5000), 48_000))


def test_the_shipped_judge_knows_every_style_and_is_small() -> None:
    assert shipped_judge().styles == STYLES
    assert SHIPPED.stat().st_size < 30_000


def test_what_is_heard_is_a_distribution_the_likeliest_first() -> None:
    heard = shipped_judge().hear(drums(1))
    shares = list(heard.values())
    assert set(heard) == set(STYLES) and sum(shares) == pytest.approx(1) and shares == sorted(shares, reverse=True)
    assert heard == shipped_judge().hear(drums(1))
    assert list(heard) != list(shipped_judge().hear(pad(1)))


def test_probabilities_by_hand() -> None:
    weights = np.zeros((2, 320))
    weights[1, 7] = math.log(3)
    vectors = np.zeros((3, 320))
    vectors[1:, 7] = 1.0, -1000.0
    shares = StyleJudge(("a", "b"), weights, np.array([0.0, math.log(2)])).probabilities(vectors)
    np.testing.assert_allclose(shares, [[1 / 3, 2 / 3], [1 / 7, 6 / 7], [1, 0]], atol=1e-12)


def test_saved_is_loaded(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    made = StyleJudge(("a", "b", "c"), chance.normal(size=(3, 320)), chance.normal(size=3))
    made.save(tmp_path / "judge.safetensors")
    loaded = StyleJudge.load(tmp_path / "judge.safetensors")
    assert loaded.styles == made.styles
    np.testing.assert_allclose(loaded.weights, made.weights, rtol=1e-6)
    np.testing.assert_allclose(loaded.bias, made.bias, rtol=1e-6)


@pytest.mark.parametrize("damage", ["absent", "cut", "text", "foreign", "shape", "styles", "nan", "no tensor"])
def test_damaged_weights_are_refused_by_name(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "judge.safetensors"
    tensors = load_file(SHIPPED)
    told = {"kind": "style judge 1", "styles": json.dumps(STYLES)}
    if damage == "foreign":
        told["kind"] = "codec"
    elif damage == "shape":
        tensors["weights"] = tensors["weights"][:, :100].copy()
    elif damage == "styles":
        told["styles"] = json.dumps(STYLES[:3])
    elif damage == "nan":
        tensors["weights"][2, 5] = np.nan
    elif damage == "no tensor":
        del tensors["bias"]
    if damage == "text":
        path.write_text("not weights")
    elif damage != "absent":
        save_file(tensors, path, told)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(AudiogenError, match=r"judge\.safetensors: "):
        StyleJudge.load(path)
