"""Fit the judge of style on recordings whose style is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from audiogen.interfaces import AudiogenError
from audiogen.style.listen import StyleJudge


def fit_style_judge(vectors: np.ndarray, styles: Sequence[str]) -> StyleJudge:
    """Multinomial logistic regression on standardised `timbre` vectors `[N, 320]` and the style of each.

    Raises AudiogenError for fewer than two styles.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    if len(vectors) != len(styles) or len(set(styles)) < 2:
        raise AudiogenError(
            f"a style judge needs one style for each recording and at least two styles, got {len(vectors)} "
            f"recordings and {len(set(styles))} styles"
        )
    scaler = StandardScaler().fit(vectors.astype(np.float64))
    model = LogisticRegression(C=0.02, max_iter=2000).fit(scaler.transform(vectors), list(styles))
    weights, bias = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # two styles share one row, the odds of the second
        weights, bias = np.stack([0 * weights[0], weights[0]]), np.array([0.0, bias[0]])
    weights = weights / scaler.scale_
    return StyleJudge(tuple(map(str, model.classes_)), weights, bias - weights @ scaler.mean_)
