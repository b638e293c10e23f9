from __future__ import annotations

import numpy as np
import pytest

from audiogen.evaluation.style_classifier import fit_style_judge
from audiogen.interfaces import AudiogenError
from audiogen.style.listen import timbre
from tests.style.test_listen import drums, pad


def test_tells_new_recordings_apart() -> None:
    vectors = np.stack([timbre(make(seed)) for make in (pad, drums) for seed in range(4)])
    judge = fit_style_judge(vectors, ["ambient"] * 4 + ["techno"] * 4)
    held_out = np.stack([timbre(pad(10)), timbre(drums(11))])
    assert judge.predict(held_out) == ["ambient", "techno"]
    assert judge.accuracy(held_out, ["ambient", "ambient"]) == 0.5


@pytest.mark.parametrize("count", [2, 3])
def test_is_the_classifier_of_scikit_learn(count: int) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    chance = np.random.default_rng(count)
    vectors, styles = chance.normal(3, 2, (30, 320)), [f"style {index % count}" for index in range(30)]
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=0.02, max_iter=2000)).fit(vectors, styles)
    ours = fit_style_judge(vectors, styles).probabilities(vectors)
    np.testing.assert_allclose(ours, theirs.predict_proba(vectors), atol=1e-6)


@pytest.mark.parametrize("styles", [["techno", "techno"], ["techno"]])
def test_refuses_one_style_or_too_few_labels(styles: list[str]) -> None:
    with pytest.raises(AudiogenError, match="at least two styles"):
        fit_style_judge(np.zeros((2, 320), np.float32), styles)
