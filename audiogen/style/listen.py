"""Which style a recording sounds like, judged by timbre alone: a linear classifier on mel statistics.

Tempo, key and harmony are left out, so that what the score tells the language model does not decide the style.
`recipes/train_style_judge.py` makes the weights that come with audiogen.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from audiogen.audio.mel import log_mel
from audiogen.files import atomic_path
from audiogen.interfaces import AudiogenError, Waveform

SHIPPED = Path(__file__).parent / "listen.safetensors"
FEATURES = 320
_KIND = "style judge 1"
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


@dataclass(frozen=True)
class StyleJudge:
    """Multinomial logistic regression on `timbre`: a row of `weights` `[N, 320]` and a `bias` `[N]` for each style."""

    styles: tuple[str, ...]
    weights: np.ndarray
    bias: np.ndarray

    def __post_init__(self) -> None:
        shapes = (self.weights.shape, self.bias.shape)
        if len(self.styles) < 2 or shapes != ((len(self.styles), FEATURES), (len(self.styles),)):
            raise ValueError(f"weights and bias of the shapes {shapes} do not fit {len(self.styles)} styles")

    @classmethod
    def load(cls, path: str | Path = SHIPPED) -> StyleJudge:
        """Read a judge, by default the one that comes with audiogen. Raises AudiogenError for a file that is missing,
        damaged or foreign."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                told = file.metadata() or {}
                if told.get("kind") != _KIND:
                    raise AudiogenError(f"{path}: not a {_KIND}, as its metadata would say")
                judge = cls(tuple(json.loads(told["styles"])), file.get_tensor("weights"), file.get_tensor("bias"))
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise AudiogenError(
                f"{path}: the weights of the style judge are missing or damaged ({error}); install audiogen again, or "
                "make them with recipes/train_style_judge.py"
            ) from None
        if not (np.isfinite(judge.weights).all() and np.isfinite(judge.bias).all()):
            raise AudiogenError(f"{path}: the weights hold NaN or infinite values; install audiogen again")
        return judge

    def save(self, path: str | Path) -> None:
        """Write the judge as safetensors, whole or not at all."""
        from safetensors.numpy import save

        tensors = {"weights": np.ascontiguousarray(self.weights, np.float32), "bias": self.bias.astype(np.float32)}
        with atomic_path(path) as temporary:
            temporary.write_bytes(save(tensors, {"kind": _KIND, "styles": json.dumps(self.styles)}))

    def probabilities(self, vectors: np.ndarray) -> np.ndarray:
        """How likely each style is, `[M, N]`, rows adding up to 1, for timbre vectors `[M, 320]`."""
        logits = vectors.astype(np.float64) @ self.weights.T.astype(np.float64) + self.bias
        odds = np.exp(logits - logits.max(1, keepdims=True))
        return odds / odds.sum(1, keepdims=True)

    def predict(self, vectors: np.ndarray) -> list[str]:
        """The likeliest style of each row of `vectors` `[M, 320]`."""
        return [self.styles[index] for index in self.probabilities(vectors).argmax(1)]

    def accuracy(self, vectors: np.ndarray, styles: Sequence[str]) -> float:
        """Share of rows whose style is found."""
        return float(np.mean([found == style for found, style in zip(self.predict(vectors), styles, strict=True)]))

    def hear(self, waveform: Waveform) -> dict[str, float]:
        """How likely each style is, the likeliest first. Raises AudiogenError for audio shorter than 0.2 s."""
        shares = self.probabilities(timbre(waveform)[None])[0]
        return {self.styles[index]: float(shares[index]) for index in np.argsort(-shares, kind="stable")}


@cache
def shipped_judge() -> StyleJudge:
    """The judge that comes with audiogen, read once."""
    return StyleJudge.load()
