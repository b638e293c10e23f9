"""Habits: what the planner knows of each style, learned by counting over labelled tracks and kept as readable JSON.

Harmony is kept as loops, since a section that repeats its chords is what sounds composed. A loop is text:
`4|0:min7*4 5:min7*4` is, in a metre of 4 beats, a minor seventh chord on the tonic for 4 beats and one on the fourth
(5 semitones up) for 4 beats; `N*4` is 4 beats without a chord.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import chain, groupby, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import Field, model_validator

from audiogen.config import Config
from audiogen.files import write_text
from audiogen.interfaces import CHORD_QUALITIES, Attributes, AudiogenError, Score

MAX_BYTES = 200_000
TEMPO_QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
_LOOP_BARS = (1, 2, 4, 8, 12, 16)
_SAME_SHARE = 0.85  # of a section that must repeat with a period for it to count as a loop
_CADENCE_BARS = 2  # of the ending, before its last chord
_STEPS = 2  # grid points a beat on which chords are compared


# Sections in the order in which the planner gives them chords; later ones may take over those of earlier ones.
HARMONY_ORDER = ("verse", "chorus", "bridge", "intro", "build", "break", "solo", "outro")


class LoopChord(NamedTuple):
    """`degree` in semitones above the tonic, None for no chord; `beats` its length."""

    degree: int | None
    quality: str
    beats: float


class Loop(NamedTuple):
    """Chords that repeat, in a metre of `beats_per_bar`."""

    beats_per_bar: int
    chords: tuple[LoopChord, ...]

    def __str__(self) -> str:
        names = ["N" if c.degree is None else f"{c.degree}:{c.quality}" for c in self.chords]
        return f"{self.beats_per_bar}|" + " ".join(
            f"{name}*{chord.beats:g}" for name, chord in zip(names, self.chords, strict=True)
        )

    @classmethod
    def parse(cls, text: str) -> Loop:
        """Inverse of `str`. Raises ValueError for anything else."""
        metre, _, rest = text.partition("|")
        chords = []
        for word in rest.split():
            name, _, beats = word.partition("*")
            degree, _, quality = name.partition(":")
            if not (name == "N" or (quality in CHORD_QUALITIES and 0 <= int(degree) < 12)) or not float(beats) > 0:
                raise ValueError(f"{word!r} is no chord of a loop: expected degree:quality*beats, such as 5:min7*4")
            chords.append(LoopChord(None if name == "N" else int(degree), quality, float(beats)))
        if not chords or int(metre) < 1:
            raise ValueError(f"{text!r} is no loop: expected metre|chords, such as 4|0:min*4 5:min*4")
        return cls(int(metre), tuple(chords))


class StyleHabits(Config):
    """Counts over the tracks of one style. Section labels are joined by `start` and `end` in `next_section`."""

    tracks: int
    tempos_bpm: tuple[float, ...] = ()  # at TEMPO_QUANTILES
    keys: dict[str, int] = Field(default_factory=dict)
    beats_per_bar: dict[int, int] = Field(default_factory=dict)
    next_section: dict[str, dict[str, int]] = Field(default_factory=dict)
    bars: dict[str, dict[int, int]] = Field(default_factory=dict)  # label → bars → count
    typical_bars: int = 64  # median length of a whole track
    energy: dict[str, tuple[float, float]] = Field(default_factory=dict)  # label → mean at its start and at its end
    loops: dict[str, dict[str, dict[str, int]]] = Field(default_factory=dict)  # mode → label → loop → count
    same_chords: dict[str, dict[str, float]] = Field(default_factory=dict)  # label → other → share of tracks
    endings: dict[str, dict[str, int]] = Field(default_factory=dict)  # mode → two bars and the last chord → count
    ending_seconds: float = 0.0  # median time from the start of the last chord to the end
    moods: dict[str, int] = Field(default_factory=dict)
    instruments: dict[str, int] = Field(default_factory=dict)
    bands: dict[str, int] = Field(default_factory=dict)  # instruments heard together, joined by ", "
    playing: dict[str, dict[str, float]] = Field(default_factory=dict)  # label → instrument → share of time it plays

    @model_validator(mode="after")
    def _are_loops(self) -> StyleHabits:
        pools = [pool for labels in self.loops.values() for pool in labels.values()] + list(self.endings.values())
        for text in chain.from_iterable(pools):
            Loop.parse(text)
        return self


class MoodHabits(Config):
    """What a mood goes with, over all styles. The last two compare a track with the others of its style."""

    minor_share: float
    tempo_place: float  # mean rank of the tempo, 0 the slowest
    energy_shift: float  # mean difference of the energy


class Habits(Config):
    """Habits by style, those of all tracks together, and what moods go with."""

    styles: dict[str, StyleHabits]
    overall: StyleHabits
    moods: dict[str, MoodHabits] = Field(default_factory=dict)

    def of(self, style: str | None) -> StyleHabits:
        """Habits of a style; of all tracks where the style is not known."""
        return self.styles.get(style or "", self.overall)

    @classmethod
    def load(cls, path: str | Path | None = None) -> Habits:
        """Read the JSON at `path`, or the habits that come with audiogen. Raises AudiogenError naming the file."""
        path = Path(path) if path else Path(__file__).with_name("habits.json")
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise AudiogenError(f"{path}: there is no such file of habits; recipes/learn_habits.py makes one") from None
        except ValueError as error:
            raise AudiogenError(f"{path}: not valid JSON: {error}") from None
        return cls.build(values, str(path))

    def save(self, path: str | Path) -> None:
        """Write JSON, whole or not at all."""
        write_text(path, self.text())

    def text(self) -> str:
        """The JSON, one style a line, without fields that say nothing."""
        values = self.model_dump(mode="json", exclude_defaults=True)
        styles = ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in values["styles"].items())
        rest = f'"overall": {json.dumps(values["overall"])},\n"moods": {json.dumps(values.get("moods", {}))}'
        return f'{{"styles": {{\n{styles}\n}},\n{rest}}}\n'


def learn(examples: Iterable[tuple[Attributes, Score]]) -> Habits:
    """Count over labelled tracks; labels that are missing are passed over. The JSON is at most 200 KB: rare loops
    and bands go first. Raises AudiogenError when there are no examples."""
    by_style: dict[str, list[tuple[Attributes, Score]]] = defaultdict(list)
    everything: list[tuple[Attributes, Score]] = []
    for attributes, score in examples:
        everything.append((attributes, score))
        if attributes.style:
            by_style[attributes.style].append((attributes, score))
    if not everything:
        raise AudiogenError("no tracks to learn habits from")
    moods = _moods(list(by_style.values()))
    for keep in (48, 32, 24, 16, 12, 8, 4, 2, 1):
        styles = {style: _count(tracks, keep) for style, tracks in sorted(by_style.items())}
        habits = Habits(styles=styles, overall=_count(everything, keep), moods=moods)
        if len(habits.text().encode()) <= MAX_BYTES:
            break
    return habits


def find_loop(score: Score, start_seconds: float, end_seconds: float, beats_per_bar: int, tonic: int) -> Loop | None:
    """The chords of a section as a loop: the shortest whole number of bars with which it repeats, or else its first
    16 bars. None where beats or chords are not known."""
    kinds = _grid(score, start_seconds, end_seconds, tonic)
    if not kinds:
        return None
    length = min(len(kinds), _LOOP_BARS[-1] * beats_per_bar * _STEPS)
    for bars in _LOOP_BARS:
        period = bars * beats_per_bar * _STEPS
        if period < len(kinds) and _alike(kinds[period:], kinds):
            length = period
            break
    runs = [(kind, len(list(run)) / _STEPS) for kind, run in groupby(kinds[:length])]
    return Loop(beats_per_bar, tuple(LoopChord(degree, quality, beats) for (degree, quality), beats in runs))


def _grid(score: Score, start_seconds: float, end_seconds: float, tonic: int) -> list[tuple[int | None, str]]:
    """(degree, quality) at every half beat of a stretch; empty where beats or chords are not known."""
    if len(score.beats_seconds) < 2 or not score.chords:
        return []
    start, end = beat_positions(score.beats_seconds, np.array([start_seconds, end_seconds]))
    changes = beat_positions(score.beats_seconds, np.array([chord.start_seconds for chord in score.chords])) - start
    times = np.arange(round((end - start) * _STEPS)) / _STEPS
    index = np.maximum(np.searchsorted(changes, times + 0.25 / _STEPS, side="right") - 1, 0)
    chords = [score.chords[i] for i in index]
    return [(None, "") if c.root is None else ((c.root - tonic) % 12, c.quality) for c in chords]


def _alike(a: list, b: list) -> bool:
    """Whether the first of both, as far as both go, agree nearly everywhere."""
    pairs = list(zip(a, b, strict=False))
    return bool(pairs) and sum(x == y for x, y in pairs) >= _SAME_SHARE * len(pairs)


def _ending(score: Score, beats_per_bar: int, tonic: int) -> tuple[float, Loop] | None:
    """How a track ends: where the two bars before its last chord begin (seconds), and the chords from there.
    None where that is not known or does not end on the tonic."""
    if len(score.beats_seconds) < 2 or not score.chords or score.sections[-1][1] != "outro":
        return None
    if score.chords[-1].root != tonic:
        return None
    last = score.chords[-1].start_seconds
    beat = score.beats_seconds[-1] - score.beats_seconds[-2]
    start = last - _CADENCE_BARS * beats_per_bar * beat
    kinds = _grid(score, start, last + beats_per_bar * beat, tonic)
    runs = [(kind, len(list(run)) / _STEPS) for kind, run in groupby(kinds)]
    return start, Loop(beats_per_bar, tuple(LoopChord(degree, quality, beats) for (degree, quality), beats in runs))


def beat_positions(beats_seconds: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Seconds → beats counted from the first beat, in between by lines, beyond the ends at the tempo there."""
    count = len(beats_seconds)
    positions = np.interp(times, beats_seconds, np.arange(count))
    first, last = beats_seconds[1] - beats_seconds[0], beats_seconds[-1] - beats_seconds[-2]
    positions = np.where(times < beats_seconds[0], (times - beats_seconds[0]) / first, positions)
    return np.where(times > beats_seconds[-1], count - 1 + (times - beats_seconds[-1]) / last, positions)


def _moods(styles: list[list[tuple[Attributes, Score]]]) -> dict[str, MoodHabits]:
    seen: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for tracks in styles:
        tempos = np.array([attributes.tempo_bpm or np.nan for attributes, _ in tracks])
        energies = np.array([np.nan if attributes.energy is None else attributes.energy for attributes, _ in tracks])
        shifts = energies - (np.nanmean(energies) if np.isfinite(energies).any() else 0.0)
        for (attributes, _), tempo, shift in zip(tracks, tempos, shifts, strict=True):
            others = tempos[np.isfinite(tempos)]
            place = (np.mean(others < tempo) + np.mean(others <= tempo)) / 2 if np.isfinite(tempo) else 0.5
            minor = 0.5 if attributes.key is None else float(attributes.key.mode == "minor")
            for mood in attributes.moods:
                seen[mood].append((minor, float(place), 0.0 if np.isnan(shift) else float(shift)))
    prior = [(0.5, 0.5, 0.0)] * 2  # so that a mood seen once or twice claims little
    means = {mood: np.mean(rows + prior, axis=0).round(3).tolist() for mood, rows in sorted(seen.items())}
    return {mood: MoodHabits(minor_share=a, tempo_place=b, energy_shift=c) for mood, (a, b, c) in means.items()}


def _metre(attributes: Attributes, score: Score) -> int:
    if attributes.beats_per_bar:
        return attributes.beats_per_bar
    if len(score.downbeats_seconds) > 1 and len(score.beats_seconds) > 1:
        return max(1, round(float(np.median(np.diff(beat_positions(score.beats_seconds, score.downbeats_seconds))))))
    return 4


def _top(counter: Counter, keep: int | None = None) -> dict:
    ranked = sorted(counter.items(), key=lambda item: (-item[1], str(item[0])))
    return dict(ranked[:keep])


def _count(tracks: list[tuple[Attributes, Score]], keep: int) -> StyleHabits:
    tempos = [attributes.tempo_bpm for attributes, _ in tracks if attributes.tempo_bpm]
    following: dict[str, Counter] = defaultdict(Counter)
    bars: dict[str, Counter] = defaultdict(Counter)
    totals: list[int] = []
    energy: dict[str, list[tuple[float, float]]] = defaultdict(list)
    loops: dict[str, dict[str, Counter]] = defaultdict(lambda: defaultdict(Counter))
    same: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    endings: dict[str, Counter] = defaultdict(Counter)
    tails: list[float] = []
    playing: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for attributes, score in tracks:
        if not score.sections:
            continue
        labels = [label for _, label in score.sections]
        for label, after in zip(["start", *labels], [*labels, "end"], strict=True):
            following[label][after] += 1
        edges = [start for start, _ in score.sections] + [score.seconds]
        metre = _metre(attributes, score)
        grids: dict[str, list] = {}  # label → the chords of its longest section
        pools: dict[str, Counter] = defaultdict(Counter)
        ending = _ending(score, metre, attributes.key.tonic) if attributes.key else None
        if ending and attributes.key:
            endings[attributes.key.mode][str(ending[1])] += 1
            tails.append(score.seconds - score.chords[-1].start_seconds)
        total = 0
        for label, start, end in zip(labels, edges[:-1], edges[1:], strict=True):
            if score.energy:
                times, values = zip(*score.energy, strict=True)
                inside = 0.02 * (end - start)
                at = np.interp([start + inside, end - inside], times, values)
                energy[label].append((float(at[0]), float(at[1])))
            for name, share in _shares(score, start, end, attributes.instruments).items():
                playing[label][name].append(share)
            inner = int(np.sum((score.beats_seconds >= start - 0.02) & (score.beats_seconds < end - 0.02)))
            count = max(1, round(inner / metre))
            total += count
            if inner:
                bars[label][count] += 1
            if not attributes.key:
                continue
            until = max(ending[0], start) if ending and end == edges[-1] else end
            loop = find_loop(score, start, until, metre, attributes.key.tonic)
            if loop:
                pools[label][str(loop)] += count
                grids[label] = max(_grid(score, start, until, attributes.key.tonic), grids.get(label, []), key=len)
        totals.append(total)
        for label, pool in pools.items():
            assert attributes.key is not None
            loops[attributes.key.mode][label][next(iter(_top(pool)))] += 1
            for other in pools.keys() & set(HARMONY_ORDER[: HARMONY_ORDER.index(label)]):
                same[label][other].append(_alike(grids[label], grids[other]))
    quantiles = list(np.quantile(tempos, TEMPO_QUANTILES)) if tempos else []
    bands = Counter(", ".join(sorted(attributes.instruments)) for attributes, _ in tracks if attributes.instruments)
    means = {label: np.mean(pairs, axis=0) for label, pairs in energy.items()}
    return StyleHabits(
        tracks=len(tracks),
        tempos_bpm=tuple(round(float(tempo), 2) for tempo in quantiles),
        keys=_top(Counter(str(attributes.key) for attributes, _ in tracks if attributes.key)),
        beats_per_bar=_top(Counter(a.beats_per_bar for a, _ in tracks if a.beats_per_bar)),
        next_section={label: _top(counter) for label, counter in sorted(following.items())},
        bars={label: _top(counter, keep) for label, counter in sorted(bars.items())},
        typical_bars=int(np.median(totals)) if totals else 64,
        energy={label: (round(float(a), 3), round(float(b), 3)) for label, (a, b) in sorted(means.items())},
        loops={
            mode: {label: _top(pool, keep) for label, pool in sorted(labels.items())}
            for mode, labels in sorted(loops.items())
        },
        same_chords={
            label: {other: round(sum(flags) / len(flags), 3) for other, flags in sorted(others.items())}
            for label, others in sorted(same.items())
        },
        endings={mode: _top(pool, keep) for mode, pool in sorted(endings.items())},
        ending_seconds=round(float(np.median(tails)), 2) if tails else 0.0,
        moods=_top(Counter(mood for attributes, _ in tracks for mood in attributes.moods)),
        instruments=_top(Counter(name for attributes, _ in tracks for name in attributes.instruments)),
        bands=_top(bands, keep),
        playing={
            label: {name: round(float(np.mean(shares)), 2) for name, shares in sorted(names.items())}
            for label, names in sorted(playing.items())
        },
    )


def _shares(score: Score, start: float, end: float, instruments: tuple[str, ...]) -> dict[str, float]:
    """The part of a stretch in which each of a track's instruments plays; empty where that is not known."""
    if not score.parts:
        return {}
    edges = [time for time, _ in score.parts] + [score.seconds]
    spans = [max(0.0, min(b, end) - max(a, start)) for a, b in pairwise(edges)]
    return {
        name: sum(span for span, (_, names) in zip(spans, score.parts, strict=True) if name in names) / (end - start)
        for name in instruments
    }
