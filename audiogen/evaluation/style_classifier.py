"""Which style a recording sounds like, judged by timbre alone: a linear classifier on mel statistics.

Tempo, key and harmony are left out, so that what the score tells the language model does not decide the style.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from audiogen.evaluation.mel import log_mel
from audiogen.interfaces import AudiogenError, Waveform

_RANGE_DB = 70.0  # below the loudest moment: what lies deeper is not heard and differs between codecs
_FRAMES_APART = 2  # onsets are rises of level over 40 ms


def timbre(waveform: Waveform) -> np.ndarray:
    """Statistics of the mel spectrum over time, float32 `[320]`, independent of the level of the recording.

    For each of 64 bands: mean, standard deviation, tenth and ninetieth percentile, and mean rise (onsets), in dB.
    Raises AudiogenError for audio shorter than 0.2 s.
    """
    decibels = log_mel(waveform).numpy()
    if decibels.shape[1] <= _FRAMES_APART:
        raise AudiogenError(f"a style needs at least 0.2 s of audio, got {waveform.seconds:g} s")
    decibels = np.maximum(decibels - decibels.max(), -_RANGE_DB)
    rises = np.maximum(decibels[:, _FRAMES_APART:] - decibels[:, :-_FRAMES_APART], 0)
    low, high = np.percentile(decibels, (10, 90), axis=1)
    level = decibels.mean()
    parts = (decibels.mean(1) - level, decibels.std(1), low - level, high - level, rises.mean(1))
    return np.concatenate(parts).astype(np.float32)


class StyleClassifier:
    """Multinomial logistic regression on standardised `timbre` vectors."""

    def __init__(self, vectors: np.ndarray, styles: Sequence[str]) -> None:
        """Fit on `vectors` `[N, 320]` and the style of each. Raises AudiogenError for fewer than two styles."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        if len(vectors) != len(styles) or len(set(styles)) < 2:
            raise AudiogenError(
                f"a style classifier needs one style for each recording and at least two styles, got {len(vectors)} "
                f"recordings and {len(set(styles))} styles"
            )
        self._model = make_pipeline(StandardScaler(), LogisticRegression(C=0.02, max_iter=2000))
        self._model.fit(vectors, list(styles))

    def predict(self, vectors: np.ndarray) -> list[str]:
        """The likeliest style of each row of `vectors` `[N, 320]`."""
        return [str(style) for style in self._model.predict(vectors)]

    def accuracy(self, vectors: np.ndarray, styles: Sequence[str]) -> float:
        """Share of rows whose style is found."""
        return float(np.mean([found == style for found, style in zip(self.predict(vectors), styles, strict=True)]))
