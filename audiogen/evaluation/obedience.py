"""Do clips have the tempo and the key that were asked for? Shares of clips, and what chance would give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from audiogen.audio.measured import TEMPO_RATIOS, Measured, TempoRule, key_met, tempo_met
from audiogen.interfaces import Key


@dataclass(frozen=True)
class Asked:
    """What a prompt asks for, or the true labels of a recording."""

    tempo_bpm: float
    key: Key


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
