"""Form: sections with bars and energies, and the harmony under them."""

from __future__ import annotations

from audiogen.interfaces import SECTIONS

from .model import Dice, Section, Style
from .theory import Harmony, progression

PHRASE_BARS = 4
SHORTEST_SECONDS, LONGEST_SECONDS = 62.0, 205.0
# Which pool a section's chords come from when the style has none of its own for the label.
_HARMONY_OF = {"intro": "verse", "build": "verse", "outro": "verse", "solo": "verse", "break": "chorus"}


def parse_form(text: str, phrases: int) -> list[Section]:
    """`"intro:1:.2>.4 verse:2:.5"`: label, length in units of `phrases` four-bar phrases, energy (or from > to)."""
    sections = []
    start = 0
    for token in text.split():
        label, units, energy = token.split(":")
        if label not in SECTIONS:
            raise ValueError(f"{label!r} is no section label")
        first, _, last = energy.partition(">")
        bars = int(units) * phrases * PHRASE_BARS
        sections.append(Section(label, start, bars, (float(first), float(last or first))))
        start += bars
    return sections


def choose_form(dice: Dice, style: Style, beat_seconds: float) -> list[Section]:
    """A form of the style that lasts between `SHORTEST_SECONDS` and `LONGEST_SECONDS` at this tempo."""
    bar_seconds = style.beats_per_bar * beat_seconds
    candidates = []
    for form in style.forms:
        for phrases in (1, 2, 3, 4):
            sections = parse_form(form, phrases)
            seconds = (sections[-1].start + sections[-1].bars + 1) * bar_seconds
            if phrases != 3 and SHORTEST_SECONDS <= seconds <= LONGEST_SECONDS:
                candidates.append(sections)
    if not candidates:
        raise ValueError(f"{style.name}: no form fits between {SHORTEST_SECONDS} and {LONGEST_SECONDS} seconds")
    return dice.pick(candidates)


def with_energy(sections: list[Section], shift: float) -> list[Section]:
    """The same sections, a little more or less energetic."""

    def moved(energy: float) -> float:
        return round(min(1.0, max(0.08, energy + shift)), 3)

    return [Section(s.label, s.start, s.bars, (moved(s.energy[0]), moved(s.energy[1]))) for s in sections]


def harmonise(dice: Dice, style: Style, mode: str, tonic: int, sections: list[Section]) -> dict[int, list[Harmony]]:
    """Chords of each section by its index; every section of one label has the same progression. The last section ends
    with a cadence, and one more bar follows it that holds the final chord."""
    pools = style.progressions[mode]
    chosen: dict[str, str] = {}
    for label in ("verse", "chorus", "bridge", *SECTIONS):
        if label in chosen:
            continue
        if label in pools or label in ("verse", "chorus", "bridge"):
            others = [text for text in pools.get(label, pools[""]) if text not in chosen.values()]
            chosen[label] = dice.pick(others or pools[""])
        else:
            chosen[label] = chosen[_HARMONY_OF[label]]
    cadence = progression(dice.pick(style.cadences[mode]), tonic)
    final = progression(style.finals[mode], tonic)

    result = {}
    for index, section in enumerate(sections):
        bars = progression(chosen[section.label], tonic)
        bars = [bar for bar in bars for _ in range(style.bars_per_chord)]
        line = [bars[i % len(bars)] for i in range(section.bars)]
        if index == len(sections) - 1:
            line = line[: len(line) - len(cadence)] + cadence + final
        result[index] = _timed(line, section.start, style)
    return result


def _timed(bars: list[list[tuple[int, str]]], first_bar: int, style: Style) -> list[Harmony]:
    """Bars of chords to chords in beats; a chord repeated within its `bars_per_chord` is one longer chord."""
    chords: list[Harmony] = []
    for i, bar in enumerate(bars):
        length = style.beats_per_bar / len(bar)
        for j, (root, quality) in enumerate(bar):
            start = (first_bar + i) * style.beats_per_bar + j * length
            last = chords[-1] if chords else None
            if last and i % style.bars_per_chord and (last.root, last.quality) == (root, quality):
                chords[-1] = last._replace(length=last.length + length)
            else:
                chords.append(Harmony(start, length, root, quality))
    return chords


def merged(chords: list[Harmony]) -> list[Harmony]:
    """Neighbours with the same name made one: the chord labels."""
    result: list[Harmony] = []
    for chord in chords:
        if result and result[-1][2:] == chord[2:]:
            result[-1] = result[-1]._replace(length=result[-1].length + chord.length)
        else:
            result.append(chord)
    return result
