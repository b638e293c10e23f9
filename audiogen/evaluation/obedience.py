"""Does a clip have the tempo and the key that were asked for? Asked and measured values, and what counts as met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from audiogen.audio.features import key, tempo_bpm
from audiogen.interfaces import Key, Waveform

TempoRule = Literal["strict", "octave", "octave and 3:2"]

# Ratios of measured to asked tempo that a rule accepts: beat trackers often follow another level of the metre.
TEMPO_RATIOS: dict[TempoRule, tuple[float, ...]] = {
    "strict": (1.0,),
    "octave": (0.5, 1.0, 2.0),
    "octave and 3:2": (0.5, 2 / 3, 1.0, 1.5, 2.0),
}
TEMPO_TOLERANCE = 0.04


@dataclass(frozen=True)
class Measured:
    """What the estimators hear in a clip; None where they hear nothing."""

    tempo_bpm: float | None
    key: Key | None

    @classmethod
    def of(cls, waveform: Waveform) -> Measured:
        """Measure a clip with `audiogen.audio.features`."""
        return cls(tempo_bpm(waveform), key(waveform))


@dataclass(frozen=True)
class Asked:
    """What a prompt asks for, or the true labels of a recording."""

    tempo_bpm: float
    key: Key


def tempo_met(asked_bpm: float, measured_bpm: float | None, rule: TempoRule = "octave") -> bool:
    """Within 4 % of the asked tempo, or of one of the multiples that `rule` accepts."""
    if measured_bpm is None:
        return False
    return any(abs(measured_bpm / (asked_bpm * ratio) - 1) <= TEMPO_TOLERANCE for ratio in TEMPO_RATIOS[rule])


def key_met(asked: Key, measured: Key | None) -> bool:
    """Tonic and mode are the same."""
    return asked == measured


@dataclass(frozen=True)
class Obedience:
    """Shares 0…1 of clips that meet what was asked."""

    tempo: dict[TempoRule, float]
    key: float


def obedience(asked: Sequence[Asked], measured: Sequence[Measured]) -> Obedience:
    """Clip by clip. Raises ValueError for no clips or lists of different lengths."""
    if not asked:
        raise ValueError("there are no clips to judge")
    pairs = list(zip(asked, measured, strict=True))
    return Obedience(
        {rule: float(np.mean([tempo_met(a.tempo_bpm, m.tempo_bpm, rule) for a, m in pairs])) for rule in TEMPO_RATIOS},
        float(np.mean([key_met(a.key, m.key) for a, m in pairs])),
    )


def floor(asked: Sequence[Asked], measured: Sequence[Measured]) -> Obedience:
    """The same shares with the prompts exchanged in every way, no clip judged by its own: what chance would give."""
    shifts = range(1, len(asked))
    if not shifts:
        raise ValueError("a floor needs at least two clips")
    pairs = [(asked[(index + shift) % len(asked)], clip) for shift in shifts for index, clip in enumerate(measured)]
    return obedience([a for a, _ in pairs], [m for _, m in pairs])
