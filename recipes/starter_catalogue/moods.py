"""What moods do to the music, and which moods a piece may have together."""

from __future__ import annotations

from typing import NamedTuple

from .model import Dice


class Effect(NamedTuple):
    """Changes that one mood makes: where in the style's tempo range (0..1), energy, semitones of the melody's register,
    density of sparse figures, length of melody notes, reverb."""

    pace: float = 0.5
    energy: float = 0.0
    lift: int = 0
    density: float = 0.5
    shortness: float = 1.0
    reverb: int = 0


EFFECTS: dict[str, Effect] = {
    "aggressive": Effect(0.9, 0.10, -2, 0.8, 0.9, -10),
    "bright": Effect(0.65, 0.03, 5, 0.6, 0.95, 0),
    "calm": Effect(0.15, -0.07, -1, 0.3, 1.05, 10),
    "dark": Effect(0.4, 0.0, -6, 0.4, 1.0, 8),
    "dreamy": Effect(0.3, -0.05, 3, 0.5, 1.05, 24),
    "energetic": Effect(0.85, 0.08, 2, 0.8, 0.85, -6),
    "epic": Effect(0.5, 0.08, 0, 0.6, 1.0, 14),
    "happy": Effect(0.75, 0.04, 4, 0.7, 0.85, -4),
    "hopeful": Effect(0.55, 0.02, 3, 0.5, 1.0, 6),
    "melancholic": Effect(0.25, -0.04, -2, 0.4, 1.05, 8),
    "mysterious": Effect(0.35, -0.03, -3, 0.35, 1.0, 18),
    "playful": Effect(0.7, 0.03, 5, 0.7, 0.65, -6),
    "romantic": Effect(0.3, -0.02, 1, 0.45, 1.05, 8),
    "sad": Effect(0.1, -0.06, -3, 0.3, 1.05, 8),
    "tense": Effect(0.7, 0.06, -3, 0.6, 0.8, 4),
    "warm": Effect(0.4, -0.01, -2, 0.5, 1.0, 2),
}

_OPPOSED = (
    {"calm", "energetic"}, {"calm", "aggressive"}, {"calm", "tense"}, {"calm", "epic"}, {"happy", "sad"},
    {"happy", "dark"}, {"happy", "melancholic"}, {"bright", "dark"}, {"sad", "playful"}, {"sad", "energetic"},
    {"sad", "hopeful"}, {"warm", "tense"}, {"warm", "aggressive"}, {"dreamy", "aggressive"}, {"dreamy", "energetic"},
    {"romantic", "tense"}, {"romantic", "aggressive"}, {"playful", "dark"}, {"melancholic", "energetic"},
    {"melancholic", "aggressive"}, {"playful", "melancholic"}, {"dreamy", "tense"}, {"sad", "aggressive"},
)  # fmt: skip


def choose_moods(dice: Dice, pool: tuple[str, ...]) -> tuple[str, ...]:
    """Two or three moods of the pool that do not contradict each other, in alphabetical order."""
    wanted = dice.integer(2, 3)
    chosen: list[str] = []
    options = list(pool)
    while options and len(chosen) < wanted:
        mood = dice.pick(options)
        chosen.append(mood)
        options = [m for m in options if m != mood and not any({m, c} in _OPPOSED for c in chosen)]
    return tuple(sorted(chosen))


def blend(moods: tuple[str, ...]) -> Effect:
    """The mean of the moods' effects."""
    effects = [EFFECTS[mood] for mood in moods]
    means = [sum(values) / len(effects) for values in zip(*effects, strict=True)]
    return Effect(means[0], means[1], round(means[2]), means[3], means[4], round(means[5]))
