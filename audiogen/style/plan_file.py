"""Plans as JSON that people read and edit, and as a table.

A plan on an even beat grid is written in bars: each section has its chords as a loop, `"D:min7*4 G:min7*4"` (symbol,
times its length in beats), repeated until the section ends. Anything else (a track's own labels, say) is written in
seconds: `beats_seconds`, `downbeats_seconds`, `chords`, `energy` and `parts` as lists. Both are read back.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, Field, FiniteFloat, ValidationError, field_validator, model_validator

from audiogen.config import Config
from audiogen.interfaces import INSTRUMENTS, SECTIONS, Attributes, AudiogenError, Chord, Key, Score
from audiogen.style.habits import LoopChord, find_loop
from audiogen.style.patterns import BEATS_PER_BAR_RANGE, BPM_RANGE, MAX_SECONDS
from audiogen.style.planner import PlannedSection, build_score

_TOLERANCE_SECONDS = 2e-4


def _label(name: str) -> str:
    if name not in SECTIONS:
        raise ValueError(f"{name!r} is no section: choose one of {', '.join(SECTIONS)}")
    return name


def _instrument(name: str) -> str:
    if name not in INSTRUMENTS:
        raise ValueError(f"{name!r} is no instrument: choose among {', '.join(INSTRUMENTS)}")
    return name


def _chords(text: str) -> str:
    _read_chords(text)
    return text


Level = Annotated[FiniteFloat, Field(ge=0, le=1)]
Time = Annotated[FiniteFloat, Field(ge=0)]
Players = tuple[Annotated[str, AfterValidator(_instrument)], ...]


class PlanSection(Config):
    """A section by bars (`start_bar` counts from 1; without it the section follows the one before) or by seconds."""

    label: Annotated[str, AfterValidator(_label)]
    bars: Annotated[int, Field(ge=1)] | None = None
    start_bar: Annotated[int, Field(ge=1)] | None = None
    start_seconds: Time | None = None
    chords: Annotated[str, AfterValidator(_chords)] = ""
    energy: tuple[Level, Level] | None = None
    instruments: Players = ()
    """that play in it; none: those of the section before, in the first whoever the model likes"""


class Plan(Config):
    """The plan file."""

    seconds: Annotated[FiniteFloat, Field(gt=0, le=MAX_SECONDS)]
    style: str | None = None
    moods: tuple[str, ...] = ()
    instruments: tuple[str, ...] = ()
    tempo_bpm: Annotated[FiniteFloat, Field(ge=BPM_RANGE[0], le=BPM_RANGE[1])] | None = None
    key: str | None = None
    beats_per_bar: Annotated[int, Field(ge=BEATS_PER_BAR_RANGE[0], le=BEATS_PER_BAR_RANGE[1])] | None = None
    overall_energy: Level | None = None
    unit: Literal["bars", "seconds"] = "bars"
    sections: tuple[PlanSection, ...] = ()
    beats_seconds: tuple[Time, ...] = ()
    downbeats_seconds: tuple[Time, ...] = ()
    chords: tuple[tuple[Time, str], ...] = ()
    energy: tuple[tuple[Time, Level], ...] = ()
    parts: tuple[tuple[Time, Players], ...] = ()

    @field_validator("key")
    @classmethod
    def _is_key(cls, name: str | None) -> str | None:
        return None if name is None else str(Key.parse(name))

    @field_validator("chords")
    @classmethod
    def _are_chords(cls, chords: tuple[tuple[float, str], ...]) -> tuple[tuple[float, str], ...]:
        for start_seconds, symbol in chords:
            Chord.parse(start_seconds, symbol)
        return chords

    @model_validator(mode="after")
    def _holds_together(self) -> Plan:
        in_seconds = ("beats_seconds", "downbeats_seconds", "chords", "energy", "parts")
        if self.unit == "bars":
            for name in ("tempo_bpm", "beats_per_bar"):
                if getattr(self, name) is None:
                    raise ValueError(f"{name}: missing, a plan in bars needs it")
            for name in in_seconds:
                if getattr(self, name):
                    raise ValueError(
                        f'{name}: only for a plan in seconds; put it into the sections or set unit "seconds"'
                    )
            if not self.sections:
                raise ValueError("sections: at least one is needed")
        for name in in_seconds:
            times = [item[0] if isinstance(item, tuple) else item for item in getattr(self, name)]
            if any(b <= a for a, b in pairwise(times)) or (times and times[-1] > self.seconds + 0.01):
                raise ValueError(f"{name}: times must ascend and lie within {self.seconds:g} seconds")
        for index, section in enumerate(self.sections):
            wrong = (
                ("start_seconds",) if self.unit == "bars" else ("start_bar", "bars", "energy", "chords", "instruments")
            )
            for name in wrong:
                if getattr(section, name):
                    raise ValueError(f"sections.{index}.{name}: not used in a plan in {self.unit}")
            if self.unit == "seconds" and section.start_seconds is None:
                raise ValueError(f"sections.{index}.start_seconds: missing")
        return self


def score_to_json(score: Score, attributes: Attributes) -> dict[str, Any]:
    """The plan as plain values, in bars where the beats are even and sections start on bar lines, else in seconds."""
    values: dict[str, Any] = {
        "seconds": score.seconds,
        "style": attributes.style,
        "moods": list(attributes.moods),
        "instruments": list(attributes.instruments),
        "tempo_bpm": attributes.tempo_bpm,
        "key": str(attributes.key) if attributes.key else None,
        "beats_per_bar": attributes.beats_per_bar,
    }
    if attributes.energy is not None:
        values["overall_energy"] = attributes.energy
    sections = _in_bars(score, attributes)
    if sections is not None:
        return values | {"unit": "bars", "sections": sections}
    return values | {
        "unit": "seconds",
        "sections": [{"label": label, "start_seconds": start} for start, label in score.sections],
        "beats_seconds": [round(float(time), 6) for time in score.beats_seconds],
        "downbeats_seconds": [round(float(time), 6) for time in score.downbeats_seconds],
        "chords": [[chord.start_seconds, chord.symbol] for chord in score.chords],
        "energy": [list(point) for point in score.energy],
        "parts": [[start, list(names)] for start, names in score.parts],
    }


def score_from_json(values: dict[str, Any], source: str = "plan") -> tuple[Score, Attributes]:
    """Inverse of `score_to_json`; `source` (the file) opens the error.

    Raises AudiogenError that names the first bad field and what is wrong with it.
    """
    if not isinstance(values, dict):
        raise AudiogenError(f"{source}: expected a JSON object with seconds, tempo_bpm, sections, …")
    try:
        read = Plan.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        raise AudiogenError(f"{source}: {where}{': ' if where else ''}{message}") from None
    attributes = Attributes(
        style=read.style,
        moods=read.moods,
        instruments=read.instruments,
        tempo_bpm=read.tempo_bpm,
        key=Key.parse(read.key) if read.key else None,
        beats_per_bar=read.beats_per_bar,
        seconds=read.seconds,
        energy=read.overall_energy,
    )
    if read.unit == "bars":
        return _from_bars(read, source), attributes
    starts = [section.start_seconds or 0.0 for section in read.sections]
    if any(b <= a for a, b in pairwise(starts)) or (starts and starts[-1] >= read.seconds):
        raise AudiogenError(f"{source}: sections: start_seconds must ascend and lie before {read.seconds:g}")
    score = Score(
        seconds=read.seconds,
        beats_seconds=np.asarray(read.beats_seconds, dtype=float),
        downbeats_seconds=np.asarray(read.downbeats_seconds, dtype=float),
        chords=tuple(Chord.parse(start, symbol) for start, symbol in read.chords),
        sections=tuple((start, section.label) for start, section in zip(starts, read.sections, strict=True)),
        energy=read.energy,
        parts=read.parts,
    )
    return score, attributes


def describe(score: Score, attributes: Attributes) -> str:
    """A compact table for people: section, start, bars, energy, chords; below a section who plays from then on."""
    names = [attributes.style, *attributes.moods, f"{attributes.tempo_bpm:g} bpm" if attributes.tempo_bpm else None]
    names += [str(attributes.key or "") or None]
    names += [f"{attributes.beats_per_bar} beats a bar" if attributes.beats_per_bar else None, f"{score.seconds:g} s"]
    lines = [" · ".join(name for name in names if name)]
    if attributes.instruments:
        lines.append(", ".join(attributes.instruments))
    lines.append(f"{'section':<8} {'start':>8} {'bars':>4}  {'energy':<9}  chords")
    edges = [start for start, _ in score.sections] + [score.seconds]
    metre, playing = attributes.beats_per_bar or 4, None
    for (start, label), end in zip(score.sections, edges[1:], strict=True):
        bars = np.sum((score.downbeats_seconds > start - 1e-3) & (score.downbeats_seconds < end - 1e-3))
        loop = find_loop(score, start, end, metre, 0)
        chords = _write_chords(loop.chords) if loop else ""
        energy = ""
        if score.energy:
            times, levels = zip(*score.energy, strict=True)
            first, last = np.interp([start, end - 0.06], times, levels)
            energy = f"{first:.2f}–{last:.2f}"
        shown = chords if len(chords) <= 100 else chords[:100].rsplit(" ", 1)[0] + " …"
        lines.append(f"{label:<8} {int(start // 60):>3}:{start % 60:04.1f} {bars:>4}  {energy:<9}  {shown}")
        parts = [players for second, players in score.parts if second < start + 1e-3]
        if parts and parts[-1] != playing:
            playing = parts[-1]
            lines.append(f"{'':<9}{', '.join(playing) or 'nobody plays'}")
    return "\n".join(lines)


def _write_chords(chords: tuple[LoopChord, ...]) -> str:
    return " ".join(f"{Chord(0.0, c.degree, c.quality).symbol}*{c.beats:.9g}" for c in chords)


def _read_chords(text: str) -> tuple[LoopChord, ...]:
    chords = []
    for word in text.split():
        symbol, star, length = word.partition("*")
        chord = Chord.parse(0.0, symbol)
        try:
            beats = float(length) if star else 0.0
        except ValueError:
            beats = math.nan
        if not 0 < beats <= 1e4:
            raise ValueError(f"{word!r}: expected a chord and its length in beats, such as D:min7*4")
        chords.append(LoopChord(chord.root, chord.quality, beats))
    return tuple(chords)


def _in_bars(score: Score, attributes: Attributes) -> list[dict[str, Any]] | None:
    """Sections for a plan in bars, or None where that would lose something."""
    tempo, metre = attributes.tempo_bpm, attributes.beats_per_bar
    if not (tempo and metre and score.sections):
        return None
    bar = 60.0 / tempo * metre
    edges = [start for start, _ in score.sections] + [score.seconds]
    planned: list[PlannedSection] = []
    for (start, label), end in zip(score.sections, edges[1:], strict=True):
        levels = [level for time, level in score.energy if start - 1e-4 <= time < end - 1e-4]
        if len(levels) != 2:
            return None
        number = round(start / bar)
        chords = _cover(score, start, end, bar / metre)
        held = [names for time, names in score.parts if time <= start + 1e-4]
        playing = held[-1] if held else ()
        planned.append(PlannedSection(label, number * metre, chords, (levels[0], levels[1]), playing))
    if not _same(build_score(planned, score.seconds, tempo, metre), score):
        return None
    ends = [section.start for section in planned[1:]] + [math.ceil(score.seconds / bar - 1e-6) * metre]
    return [
        {
            "label": section.label,
            "start_bar": section.start // metre + 1,
            "bars": max(1, (end - section.start) // metre),
            "energy": list(section.energy),
            "chords": _write_chords(section.chords),
            **({"instruments": list(section.instruments)} if section.instruments else {}),
        }
        for section, end in zip(planned, ends, strict=True)
    ]


def _cover(score: Score, start: float, end: float, beat: float) -> tuple[LoopChord, ...]:
    """The shortest run of chords which, repeated, gives those of the section."""
    before = [chord for chord in score.chords if chord.start_seconds <= start + 1e-4][-1:]
    inside = before + [chord for chord in score.chords if start + 1e-4 < chord.start_seconds < end - 1e-4]
    if not inside:
        return ()
    times = [max(chord.start_seconds, start) for chord in inside]
    lengths = [round((b - a) / beat * 24) / 24 for a, b in pairwise(times)]
    lengths.append(max(1, math.ceil((end - times[-1]) / beat * 24 - 1e-3)) / 24)
    runs = [
        LoopChord(chord.root, chord.quality, length)
        for chord, length in zip(inside, lengths, strict=True)
        if length > 0
    ]
    for period in range(1, len(runs)):
        head, tail = runs[:period], runs[period:]
        if all(chord == head[i % period] for i, chord in enumerate(tail[:-1])):
            last = head[(len(tail) - 1) % period]
            if tail[-1][:2] == last[:2] and tail[-1].beats <= last.beats + 1e-9:
                return tuple(head)
    held = runs[-1]._replace(beats=float(math.ceil(runs[-1].beats)))  # the end cuts it: whole beats read better
    return (*runs[:-1], held)


def _same(built: Score, score: Score) -> bool:
    def close(a: Any, b: Any) -> bool:
        return len(a) == len(b) and bool(
            np.allclose(np.asarray(a, float), np.asarray(b, float), atol=_TOLERANCE_SECONDS)
        )

    return (
        close(built.beats_seconds, score.beats_seconds)
        and close(built.downbeats_seconds, score.downbeats_seconds)
        and close([chord.start_seconds for chord in built.chords], [chord.start_seconds for chord in score.chords])
        and [(c.root, c.quality) for c in built.chords] == [(c.root, c.quality) for c in score.chords]
        and close([start for start, _ in built.sections], [start for start, _ in score.sections])
        and (not score.energy or close(built.energy, score.energy))
        and close([start for start, _ in built.parts], [start for start, _ in score.parts])
        and [names for _, names in built.parts] == [names for _, names in score.parts]
    )


def _from_bars(read: Plan, source: str) -> Score:
    assert read.tempo_bpm and read.beats_per_bar  # the model has checked
    metre, sections, bar = read.beats_per_bar, [], 0
    beat = 60.0 / read.tempo_bpm
    for index, section in enumerate(read.sections):
        start = bar if section.start_bar is None else section.start_bar - 1
        if (index == 0 and start != 0) or start < bar:
            expected = "1" if index == 0 else f"at least {bar + 1}, where the section before ends"
            raise AudiogenError(f"{source}: sections.{index}.start_bar: {start + 1}, expected {expected}")
        if start * metre * beat >= read.seconds:
            raise AudiogenError(
                f"{source}: sections.{index}: starts at {start * metre * beat:g} s, past the end at {read.seconds:g} s"
            )
        if section.bars is None and index + 1 < len(read.sections) and read.sections[index + 1].start_bar is None:
            raise AudiogenError(f"{source}: sections.{index}.bars: missing, and the next section has no start_bar")
        chords, energy = _read_chords(section.chords), section.energy or (0.5, 0.5)
        sections.append(PlannedSection(section.label, start * metre, chords, energy, section.instruments))
        bar = start + (section.bars or 1)
    return build_score(sections, read.seconds, read.tempo_bpm, metre)
