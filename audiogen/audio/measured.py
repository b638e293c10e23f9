"""What the estimators hear in a clip, tempo and key, and what counts as what was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
_FIFTHS = (5, 7)  # semitones


@dataclass(frozen=True)
class Measured:
    """What the estimators hear in a clip; None where they hear nothing."""

    tempo_bpm: float | None
    key: Key | None

    @classmethod
    def of(cls, waveform: Waveform) -> Measured:
        """Measure a clip with `audiogen.audio.features`."""
        return cls(tempo_bpm(waveform), key(waveform))


def tempo_met(asked_bpm: float, measured_bpm: float | None, rule: TempoRule = "octave") -> bool:
    """Within 4 % of the asked tempo, or of one of the multiples that `rule` accepts."""
    if measured_bpm is None:
        return False
    return any(abs(measured_bpm / (asked_bpm * ratio) - 1) <= TEMPO_TOLERANCE for ratio in TEMPO_RATIOS[rule])


def key_met(asked: Key, measured: Key | None) -> bool:
    """Tonic and mode are the same."""
    return asked == measured


def key_closeness(asked: Key, measured: Key | None) -> float:
    """1 for the same key, 0.5 for a fifth up or down, 0.3 for the relative, 0.2 for the parallel key, else 0.

    The marks of the MIREX contest for audio key detection: what estimators take for each other sounds alike.
    """
    if measured is None:
        return 0.0
    if asked == measured:
        return 1.0
    up = (measured.tonic - asked.tonic) % 12
    if asked.mode == measured.mode:
        return 0.5 if up in _FIFTHS else 0.0
    if up == 0:
        return 0.2
    return 0.3 if up == (9 if asked.mode == "major" else 3) else 0.0
