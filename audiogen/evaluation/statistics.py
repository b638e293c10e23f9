"""Intervals by bootstrap; distances between two clouds of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_DRAWS = 1000
_LEVEL = 0.95


class Estimate(NamedTuple):
    """A mean with its 95 % interval, and of how many values. NaN of none."""

    value: float
    low: float
    high: float
    size: int

    def to_json(self) -> dict[str, float | int | None]:
        """NaN becomes null; five digits."""
        values = {name: None if np.isnan(v) else round(float(v), 5) for name, v in zip("vlh", self[:3], strict=True)}
        return {"value": values["v"], "low": values["l"], "high": values["h"], "count": self.size}


def estimate(values: Sequence[float], groups: Sequence[object] | None = None, seed: int = 0) -> Estimate:
    """Mean of `values` and its percentile bootstrap interval (Efron and Tibshirani 1993, ch. 13).

    Values of one group, the takes of a prompt, are drawn together, since they are no independent evidence. The draws
    follow from `seed`.
    """
    array = np.asarray(values, dtype=np.float64)
    if not len(array):
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    names = list(range(len(array))) if groups is None else list(groups)
    order = {name: index for index, name in enumerate(dict.fromkeys(names))}
    index = np.array([order[name] for name in names])
    sums, counts = np.bincount(index, array), np.bincount(index)
    drawn = np.random.default_rng(seed).integers(len(order), size=(_DRAWS, len(order)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Estimate(float(array.mean()), float(low), float(high), len(array))


def frechet_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Between Gaussians fitted to rows `[N, D]` and `[M, D]` (Heusel et al. 2017, eq. 6; Kilgour et al. 2019).

    Few rows make it too large: compare only figures of equal numbers of rows.
    """
    (mean_a, cov_a), (mean_b, cov_b) = (
        (rows.mean(0), np.cov(rows, rowvar=False)) for rows in map(_double, (one, other))
    )
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    between = np.linalg.eigvalsh(root @ cov_b @ root)
    traces = np.trace(cov_a) + np.trace(cov_b) - 2 * np.sqrt(np.maximum(between, 0)).sum()
    return float(max(0.0, np.square(mean_a - mean_b).sum() + traces))


def kernel_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (x·y / D + 1)³ (Bińkowski et al. 2018, eq. 4).

    It may be slightly below 0; unlike the Fréchet distance it does not depend on the number of rows.
    """
    one, other = _double(one), _double(other)

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        powers: np.ndarray = (a @ b.T / a.shape[1] + 1) ** 3
        return powers

    def within(rows: np.ndarray) -> float:
        values = kernel(rows, rows)
        return float((values.sum() - np.trace(values)) / (len(rows) * (len(rows) - 1)))

    return within(one) + within(other) - 2 * float(kernel(one, other).mean())


def _double(rows: np.ndarray) -> np.ndarray:
    if rows.ndim != 2 or len(rows) < 2:
        raise ValueError(f"a distance needs two rows or more, got the shape {rows.shape}")
    return rows.astype(np.float64)
