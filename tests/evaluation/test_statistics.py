from __future__ import annotations

import numpy as np
import pytest

from audiogen.evaluation.statistics import estimate, frechet_distance, kernel_distance


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    random = np.random.default_rng(0)
    inside = 0
    for trial in range(200):
        found = estimate(random.normal(1.0, 2.0, 60).tolist(), seed=trial)
        inside += found.low <= 1.0 <= found.high
    assert 180 <= inside <= 200


def test_values_of_one_group_are_no_independent_evidence() -> None:
    values = np.random.default_rng(1).normal(size=40)
    alone, twice = (
        estimate(values.tolist()),
        estimate(np.repeat(values, 2).tolist(), np.repeat(np.arange(40), 2).tolist()),
    )
    assert twice.value == pytest.approx(alone.value) and twice.size == 80
    assert twice.high - twice.low == pytest.approx(alone.high - alone.low, rel=0.2)


def test_the_same_values_give_the_same_interval_and_none_gives_null() -> None:
    assert estimate([0.0, 1.0, 1.0]) == estimate([0.0, 1.0, 1.0])
    assert estimate([]).to_json() == {"value": None, "low": None, "high": None, "count": 0}


def test_frechet_distance_of_gaussians_is_the_formula() -> None:
    random = np.random.default_rng(2)
    one = random.normal(size=(40_000, 3))
    other = random.normal(size=(40_000, 3)) * [2.0, 1.0, 1.0] + [0.0, 3.0, 0.0]
    assert frechet_distance(one, other) == pytest.approx(9 + 1, rel=0.03)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-6)


def test_kernel_distance_is_unbiased_and_sees_a_shift() -> None:
    random = np.random.default_rng(3)
    near = [kernel_distance(random.normal(size=(50, 8)), random.normal(size=(50, 8))) for _ in range(40)]
    assert abs(np.mean(near)) < 0.05
    assert kernel_distance(random.normal(size=(200, 8)), random.normal(size=(200, 8)) + 1) > 0.5
    with pytest.raises(ValueError, match="two rows"):
        kernel_distance(np.zeros((1, 8)), np.zeros((5, 8)))
