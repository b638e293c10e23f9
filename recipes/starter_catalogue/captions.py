"""Captions: the same facts in different words, from a few words to a sentence."""

from __future__ import annotations

from audiogen.interfaces import Key

from .model import Dice, Style

_PACES = ((76, "slow"), (100, "laid-back"), (120, "mid-tempo"), (140, "upbeat"), (999, "fast"))


def _number(tempo: float) -> str:
    return f"{tempo:g}"


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def _article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def captions(
    dice: Dice, style: Style, moods: tuple[str, ...], instruments: tuple[str, ...], tempo: float, key: Key
) -> tuple[str, ...]:
    """Four to six different captions; `instruments` with the most prominent first."""
    name, bpm = style.name, f"{_number(tempo)} bpm"
    mood = list(moods)
    pace = next(word for limit, word in _PACES if tempo < limit)
    word = dice.pick(style.words)
    front = list(instruments[: dice.integer(2, 3)])
    some = sorted({dice.pick(instruments), dice.pick(instruments)})
    if len(instruments) == 1:
        front = some = [f"solo {instruments[0]}"]
    noun = dice.pick(("piece", "track", "tune", "instrumental"))
    short = [
        f"{name}, {bpm}",
        f"{mood[0]} {name}",
        f"{mood[-1]} {name}, {bpm}",
        f"{name} with {_listed(some)}",
        f"{pace} {name} in {key}",
        f"{word}, {name}, {mood[0]}",
        f"{name}, {key}",
    ]
    middle = [
        f"{', '.join(mood)} {name}, {', '.join(front)}, {bpm}, {key}",
        f"{mood[0]} and {mood[-1]} {name} {noun} at {bpm}",
        f"{name} {noun}, {_listed(front)}, {mood[0]} mood",
        f"{pace}, {mood[-1]} {name}, {word}, {key}",
        f"{word}: {mood[0]} {name} with {_listed(front)}",
    ]
    long = [
        f"{_article(mood[0])}, {mood[-1]} {name} {noun} with {_listed(front)} in {key}, at {bpm}.",
        f"This {pace} {name} {noun} feels {_listed(mood)}; it features {_listed(front)}.",
        f"{_article(pace)} {name} {noun} in {key} for {_listed(front)}, {_listed(mood)}.",
        f"Instrumental {name} ({word}) led by {front[0]}, {bpm}, in {key}, {_listed(mood)} in mood.",
        f"{_article(name)} {noun} that sounds {_listed(mood)}, {_number(tempo)} beats per minute.",
    ]
    result: list[str] = []
    for pool, count in ((short, 2), (middle, dice.integer(1, 2)), (long, dice.integer(1, 2))):
        options = list(pool)
        for _ in range(count):
            text = dice.pick(options)
            options.remove(text)
            text = text[0].upper() + text[1:] if text.endswith(".") else text
            if text not in result:
                result.append(text)
    return tuple(result)
