"""How the learning rate follows the width of a Transformer, one rule for every size; how loss follows work.

What must stay the same when a layer grows wider is how far an update moves its output (Yang et al. 2021, tensor
programs V; Yang, Simon and Bernstein 2023, a spectral condition for feature learning).

- A matrix turned by Muon gets an orthogonal update times `0.2 · max(shape) ** 0.5` (Liu et al. 2025, eq. 4): its
  elements are as large as AdamW's, its spectral norm grows with the root of the width. So the matrices' rate falls
  with the root of the width.
- A row of an output head reads as many inputs as the layer is wide, and AdamW moves each of its elements by the rate
  whatever the gradient's size. So AdamW's rate falls with the width. Tables and vectors share that rate; for them it
  could stay.

The constants are those with which the smaller models here were trained; `docs/decisions/0013-scaling.md` tells what
was measured. Depth, batch and length of the training are not in the rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from audiogen.interfaces import AudiogenError

_WIDTH, _LR, _MATRIX_PACE = 256, 2e-3, 3.0


class Rates(NamedTuple):
    """`lr` and `matrix_pace` of a `TrainerConfig`."""

    lr: float
    matrix_pace: float


def rates(width: int) -> Rates:
    """Of a model with hidden states of `width`: `lr` ∝ 1 / width, `lr · matrix_pace` ∝ 1 / √width."""
    return Rates(_LR * _WIDTH / width, _MATRIX_PACE * (width / _WIDTH) ** 0.5)


class PowerLaw(NamedTuple):
    """`factor · x ** -exponent`."""

    factor: float
    exponent: float

    def at(self, x: float) -> float:
        """Its value there."""
        return float(self.factor * x**-self.exponent)


def power_law(x: Sequence[float], y: Sequence[float]) -> PowerLaw:
    """The line through the logarithms with the least squares.

    Without a floor below which a loss cannot fall: a few points do not tell it from the exponent, so the law promises
    too much far out. Raises AudiogenError for fewer than two points, and for values that are not positive.
    """
    if len(x) != len(y) or len({*x}) < 2 or min(*x, *y) <= 0:
        raise AudiogenError(f"a power law needs two or more points above zero, not {list(x)} and {list(y)}")
    slope, height = np.polyfit(np.log(x), np.log(y), 1)
    return PowerLaw(float(np.exp(height)), float(-slope))
