"""The planner: a prompt, a length and learned habits → a score that says what happens when.

Everything is drawn from the seed, each decision from dice of its own, so that fixing one (by `--bpm`, say) leaves the
others as they were.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import cycle
from typing import NamedTuple

import numpy as np

from audiogen.interfaces import SECTIONS, Attributes, AudiogenError, Chord, Key, Prompt, Score
from audiogen.style.habits import HARMONY_ORDER, TEMPO_QUANTILES, Habits, Loop, LoopChord, StyleHabits
from audiogen.style.parse import parse
from audiogen.style.patterns import check_seconds

SHORT_SECONDS = 20.0  # a clip shorter than this is a piece of the middle: one section, no intro, no outro
_PHRASE_BARS = 4
_LONGEST_ENDING = 0.25  # of the clip, for the last chord to ring out
_CADENCE_BARS = 2  # of an outro, at least, before its last chord
_TRIES = 24
_HELD_BEATS = 1000.0  # the last chord: to the end, whatever that is
_DICE = ("style", "tempo", "key", "metre", "instruments", "form", "harmony", "ending", "parts")
_ASKED_FROM_SHARE = 0.1  # an instrument that was asked for plays where it plays so often in the style


class PlannedSection(NamedTuple):
    """A section on the beat grid: it starts at beat `start`; `energy` goes in a line from its start to its end."""

    label: str
    start: int
    chords: tuple[LoopChord, ...]  # degrees are pitch classes here; repeated until the section ends
    energy: tuple[float, float]
    instruments: tuple[str, ...] = ()  # that play in it; none: not said


def resolve_attributes(prompt: Prompt, habits: Habits, seed: int) -> Attributes:
    """The prompt's attributes with style, tempo, key, metre and instruments filled in as the style is wont to have
    them. Instruments that the text excludes stay out. Raises AudiogenError for a negative seed."""
    asked = prompt.attributes
    excluded = set(parse(prompt.text).excluded) if prompt.text.strip() else set()
    style = asked.style or _draw(_style_weights(asked, habits), _dice(seed, "style"))
    own = habits.of(style)
    metres = own.beats_per_bar or {4: 1}
    return replace(
        asked,
        style=style or None,
        tempo_bpm=asked.tempo_bpm or _draw_tempo(asked, own, habits, _dice(seed, "tempo", style)),
        key=asked.key or Key.parse(_draw(_key_weights(asked, own, habits), _dice(seed, "key", style))),
        beats_per_bar=asked.beats_per_bar
        or int(_draw({str(n): c for n, c in metres.items()}, _dice(seed, "metre", style))),
        instruments=_band(asked.instruments, own, excluded, _dice(seed, "instruments", style)),
    )


def plan(prompt: Prompt, seconds: float, habits: Habits, seed: int, *, begun: bool = False) -> Score:
    """A score of exactly `seconds` (above 0, at most 10 hours): beats from 0 to the end, chords, sections, energy.

    From 20 s on it ends with an outro on the tonic. `begun`: music came before, so there is no intro. The same
    arguments give the same score.
    """
    check_seconds(seconds, f"a plan of {seconds:g} seconds")
    attributes = resolve_attributes(prompt, habits, seed)
    assert attributes.tempo_bpm and attributes.key and attributes.beats_per_bar  # just filled in
    own, metre = habits.of(attributes.style), attributes.beats_per_bar
    bars = max(1, int(seconds * attributes.tempo_bpm / 60 / metre + 1e-6))
    home = round((seconds - min(own.ending_seconds, _LONGEST_ENDING * seconds)) * attributes.tempo_bpm / 60 / metre)
    home = min(home, bars - 1)  # the bar of the last chord
    dice = _dice(seed, "form", attributes.style)
    form = _form(own, bars, bars - home, seconds >= SHORT_SECONDS, "intro" if begun else "start", dice)
    loops = _harmony(
        own,
        habits.overall,
        attributes.key,
        metre,
        [label for label, _ in form],
        _dice(seed, "harmony", attributes.style),
    )
    playing = _arrangement(own, habits.overall, attributes.instruments, prompt.attributes.instruments, form, seed)
    lengths = [length for _, length in form]
    means = [sum(own.energy.get(label, (0.5, 0.5))) / 2 for label, _ in form]
    shift = sum(habits.moods[mood].energy_shift for mood in attributes.moods if mood in habits.moods)
    if attributes.energy is not None:
        shift = attributes.energy - float(np.average(means, weights=lengths))
    sections, bar = [], 0
    for label, length in form:
        low, high = (float(np.clip(value + shift, 0, 1)) for value in own.energy.get(label, (0.5, 0.5)))
        energy = (round(low, 3), round(high, 3))
        sections.append(PlannedSection(label, bar * metre, loops[label], energy, playing[label]))
        bar += length
    if form[-1][0] == "outro":
        before = max(home * metre - sections[-1].start, 0)
        ending = _ending(own, attributes.key, metre, _dice(seed, "ending", attributes.style))
        sections[-1] = sections[-1]._replace(chords=_come_home(sections[-1].chords, before, ending))
    return build_score(sections, seconds, attributes.tempo_bpm, metre)


def later(score: Score, by_seconds: float) -> Score:
    """The same score, begun later."""
    return Score(
        seconds=score.seconds + by_seconds,
        beats_seconds=score.beats_seconds + by_seconds,
        downbeats_seconds=score.downbeats_seconds + by_seconds,
        chords=tuple(replace(chord, start_seconds=chord.start_seconds + by_seconds) for chord in score.chords),
        sections=tuple((start + by_seconds, label) for start, label in score.sections),
        energy=tuple((time + by_seconds, value) for time, value in score.energy),
        parts=tuple((start + by_seconds, names) for start, names in score.parts),
    )


def build_score(sections: list[PlannedSection], seconds: float, tempo_bpm: float, beats_per_bar: int) -> Score:
    """Lay sections on an even beat grid that starts at 0."""
    beat = 60.0 / tempo_bpm
    beats = np.arange(int(np.ceil(seconds / beat - 1e-9))) * beat
    chords: list[Chord] = []
    energy: list[tuple[float, float]] = []
    parts: list[tuple[float, tuple[str, ...]]] = []
    starts = [section.start * beat for section in sections] + [seconds]
    for section, start, end in zip(sections, starts[:-1], starts[1:], strict=True):
        position, index = start, 0
        while section.chords and position < end - 1e-6:
            degree, quality, length = section.chords[index % len(section.chords)]
            chord = Chord(round(position, 6), degree, quality if degree is not None else "maj")
            if not chords or (chords[-1].root, chords[-1].quality) != (chord.root, chord.quality):
                chords.append(chord)
            position += length * beat
            index += 1
        last = max(end - 0.05, (start + end) / 2)
        energy += [(round(start, 6), section.energy[0]), (round(last, 6), section.energy[1])]
        if section.instruments and (not parts or parts[-1][1] != section.instruments):
            parts.append((round(start, 6), section.instruments))
    labels = tuple((round(start, 6), section.label) for section, start in zip(sections, starts, strict=False))
    return Score(seconds, beats, beats[::beats_per_bar], tuple(chords), labels, tuple(energy), tuple(parts))


def _dice(seed: int, name: str, style: str | None = None) -> np.random.Generator:
    if seed < 0:
        raise AudiogenError(f"seed {seed}: expected 0 or more")
    return np.random.default_rng([seed, _DICE.index(name), *(style or "").encode()])


def _draw(weights: dict[str, float] | dict[str, int], dice: np.random.Generator) -> str:
    names = sorted(weights)
    shares = np.cumsum([weights[name] for name in names], dtype=float)
    return names[min(int(np.searchsorted(shares, dice.random() * shares[-1], side="right")), len(names) - 1)]


def _style_weights(asked: Attributes, habits: Habits) -> dict[str, float]:
    """How well each style goes with what was asked: shares of its tracks with each mood and instrument, and tempo."""
    weights = {}
    for style, own in habits.styles.items():
        weight = float(own.tracks)
        for name, counts in [(m, own.moods) for m in asked.moods] + [(i, own.instruments) for i in asked.instruments]:
            weight *= (counts.get(name, 0) + 0.05) / (own.tracks + 0.05)
        if asked.tempo_bpm and own.tempos_bpm:
            off = max(own.tempos_bpm[0] / asked.tempo_bpm, asked.tempo_bpm / own.tempos_bpm[-1], 1.0) - 1.0
            weight *= np.exp(-((off / 0.05) ** 2)) + 1e-6
        if asked.beats_per_bar:
            weight *= (own.beats_per_bar.get(asked.beats_per_bar, 0) + 0.05) / (own.tracks + 0.05)
        weights[style] = weight
    return weights or {"": 1.0}


def _draw_tempo(asked: Attributes, own: StyleHabits, habits: Habits, dice: np.random.Generator) -> float:
    places = [habits.moods[mood].tempo_place for mood in asked.moods if mood in habits.moods]
    place = dice.random() if not places else np.clip(np.mean(places) + 0.4 * (dice.random() - 0.5), 0, 1)
    return float(round(np.interp(place, TEMPO_QUANTILES, own.tempos_bpm))) if own.tempos_bpm else 100.0


def _key_weights(asked: Attributes, own: StyleHabits, habits: Habits) -> dict[str, float]:
    shares = [habits.moods[mood].minor_share for mood in asked.moods if mood in habits.moods]
    minor, major = np.prod([0.5, *shares]), np.prod([0.5, *(1 - share for share in shares)])
    keys = own.keys or habits.overall.keys or {"C major": 1, "A minor": 1}
    return {key: count * float(minor if key.endswith("minor") else major) for key, count in keys.items()}


def _band(asked: tuple[str, ...], own: StyleHabits, excluded: set[str], dice: np.random.Generator) -> tuple[str, ...]:
    """The asked instruments first, then the rest of a band of this style that has most of them."""
    weights = {band: count * 50.0 ** len(set(asked) & set(band.split(", "))) for band, count in own.bands.items()}
    rest = _draw(weights, dice).split(", ") if weights else []
    return asked + tuple(name for name in rest if name not in asked and name not in excluded)


def _form(
    own: StyleHabits, bars: int, last: int, whole: bool, before: str, dice: np.random.Generator
) -> list[tuple[str, int]]:
    """Labels and bars that add up to `bars`, the final `last` of them on the last chord; `before` is what they follow.
    The best of some tries: it leads into the outro, and has a chorus."""
    body = {label for label in own.bars if label in SECTIONS} - {"intro", "outro"} or {"verse"}
    if whole and bars < 2:
        return [("outro", bars)]
    if not whole:
        middle = {label: sum(own.bars.get(label, {1: 1}).values()) for label in body}
        named = {label: count for label, count in middle.items() if label in ("verse", "chorus")}
        return [(_draw(named or middle, dice), bars)]
    for _ in range(_TRIES):
        form = _try_form(own, bars, last, body, before, dice)
        after = own.next_section.get(form[-2][0], {"outro": 1})
        crowned = bars < 24 or "chorus" not in body or any(label == "chorus" for label, _ in form)
        if crowned and ("outro" in after or "end" in after):
            break
    return form


def _try_form(
    own: StyleHabits, bars: int, last: int, body: set[str], before: str, dice: np.random.Generator
) -> list[tuple[str, int]]:
    shrink = min(max(bars / max(own.typical_bars, 1), 0.5), 1.0)

    @cache  # sections of one label are of one length
    def length(label: str) -> int:
        natural = int(_draw({str(n): count for n, count in own.bars.get(label, {8: 1}).items()}, dice))
        return natural if shrink == 1 else max(_PHRASE_BARS, round(natural * shrink / _PHRASE_BARS) * _PHRASE_BARS)

    outro = min(max(min(length("outro"), bars // 6), last + _CADENCE_BARS), bars - 1)
    left = bars - outro
    odd = left % (_PHRASE_BARS if bars >= 32 else 2) if bars >= 12 else 0
    outro, left = outro + odd, left - odd  # odd bars go to the outro, so that phrases stay whole
    form: list[tuple[str, int]] = []
    while left > 0:
        allowed = body | {"intro"} if before == "start" and bars >= 16 else body
        weights = {name: count for name, count in own.next_section.get(before, {}).items() if name in allowed}
        label = _draw(weights or dict.fromkeys(body, 1), dice)
        count = min(length(label), max(1 if label == "intro" else 2, bars // 16) * _PHRASE_BARS)
        count = left if left - count < _PHRASE_BARS else count
        form.append((label, count))
        left -= count
        before = label
    return [*form, ("outro", outro)]


def _harmony(
    own: StyleHabits, overall: StyleHabits, key: Key, metre: int, labels: list[str], dice: np.random.Generator
) -> dict[str, tuple[LoopChord, ...]]:
    """A loop for each label, in the key: taken over from an earlier label as often as the style does that, or drawn
    from those that are not in use yet."""
    drawn: dict[str, str] = {}
    for label in HARMONY_ORDER:
        likeness = {other: own.same_chords.get(label, {}).get(other, 0.0) for other in drawn}
        weights = likeness | {"": max(0.0, 1.0 - sum(likeness.values()))}
        taken = _draw(weights, dice)
        pools = _loops(own, overall, key, metre, label)
        new = [{text: count for text, count in pool.items() if text not in drawn.values()} for pool in pools]
        fresh = _draw(next(filter(None, new), pools[0]), dice)
        if label in labels or label in HARMONY_ORDER[:2]:
            drawn[label] = drawn.get(taken, fresh)
    return {label: _in_key(Loop.parse(drawn[label]), key, metre) for label in labels}


def _loops(own: StyleHabits, overall: StyleHabits, key: Key, metre: int, label: str) -> list[dict[str, int]]:
    """Loops for a section, the best pool first: of the style and metre, of the style, of all styles."""
    tonic = _tonic_quality(key)
    pools: list[dict[str, int]] = []
    for habits in (own, overall):
        labels = habits.loops.get(key.mode, {})
        pool = labels.get(label) or dict(sum((Counter(loops) for loops in labels.values()), Counter()))
        pools += [{text: count for text, count in pool.items() if text.startswith(f"{metre}|")}, pool]
    return [*filter(None, pools), {f"{metre}|0:{tonic}*{metre} 5:{tonic}*{metre}": 1}]


def _arrangement(
    own: StyleHabits, overall: StyleHabits, band: tuple[str, ...], asked: tuple[str, ...],
    form: list[tuple[str, int]], seed: int,
) -> dict[str, tuple[str, ...]]:  # fmt: skip
    """Who of the band plays in the sections of each label: by the chance with which the instrument plays there in the
    style, one throw of the dice for all labels; what was asked for plays nearly everywhere."""
    dice = _dice(seed, "parts")
    throw = {name: _ASKED_FROM_SHARE if name in asked else dice.random() for name in sorted(band)}
    playing = {}
    for label in dict.fromkeys(label for label, _ in form):
        pools = (own.playing.get(label, {}), overall.playing.get(label, {}))
        share = {name: next((pool[name] for pool in pools if name in pool), 1.0) for name in band}
        some = tuple(name for name in sorted(band) if throw[name] <= share[name])
        playing[label] = some or tuple(sorted(band, key=lambda name: -share[name])[:1])
    return playing


def _ending(own: StyleHabits, key: Key, metre: int, dice: np.random.Generator) -> tuple[LoopChord, ...]:
    pool = own.endings.get(key.mode) or {f"{metre}|0:{_tonic_quality(key)}*{metre}": 1}
    pool = {text: count for text, count in pool.items() if text.startswith(f"{metre}|")} or pool
    return _in_key(Loop.parse(_draw(pool, dice)), key, metre)


def _tonic_quality(key: Key) -> str:
    return "maj" if key.mode == "major" else "min"


def _in_key(loop: Loop, key: Key, metre: int) -> tuple[LoopChord, ...]:
    """Degrees made pitch classes, lengths made to fit the metre."""
    scale = metre / loop.beats_per_bar
    roots = [None if chord.degree is None else (chord.degree + key.tonic) % 12 for chord in loop.chords]
    return tuple(LoopChord(root, c.quality, c.beats * scale) for root, c in zip(roots, loop.chords, strict=True))


def _come_home(chords: tuple[LoopChord, ...], beats: float, ending: tuple[LoopChord, ...]) -> tuple[LoopChord, ...]:
    """The loop written out for `beats`, its end replaced by the ending, whose last chord then holds."""
    *cadence, last = ending
    length = sum(chord.beats for chord in cadence)
    if length > beats:  # no room: straight home
        cadence, length = [], 0.0
    written: list[LoopChord] = []
    left = beats - length
    for chord in cycle(chords):
        if left <= 1e-6:
            break
        written.append(chord._replace(beats=min(chord.beats, left)))
        left -= written[-1].beats
    return (*written, *cadence, last._replace(beats=_HELD_BEATS))
