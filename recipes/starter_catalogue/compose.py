"""Composing: (seed, index) → a piece with all its labels. Everything is a pure function of these two numbers."""

from __future__ import annotations

from dataclasses import dataclass

from audiogen.interfaces import SECTIONS, STYLES, Key, Mode

from .captions import captions
from .form import PHRASE_BARS, choose_form, harmonise, merged, with_energy
from .model import Dice, Layer, Note, Part, Passage, Patch, Piece, Section, Style
from .moods import Effect, blend, choose_moods
from .patches import PATCHES
from .rhythm import DRUMS, swing
from .styles import VARIANTS
from .theory import SCALES, Harmony, nearest, voicing

SPLIT_EVERY = 25  # of each style's pieces: one validation, one test, the rest train
_OUTLINE, _HARMONY, _BAND, _CAPTIONS, _FEEL, _FIGURES = range(6)  # what a stream of dice is for


@dataclass(frozen=True)
class Outline:
    """The decisions taken first: enough to know how long the piece is."""

    style: Style
    mode: Mode
    tonic: int
    moods: tuple[str, ...]
    effect: Effect
    tempo_bpm: float
    beat_seconds: float
    sections: list[Section]
    ring_seconds: float

    @property
    def bars(self) -> int:
        return self.sections[-1].start + self.sections[-1].bars + 1

    @property
    def seconds(self) -> float:
        return self.bars * self.style.beats_per_bar * self.beat_seconds + self.ring_seconds


def outline(seed: int, index: int) -> Outline:
    """Style (the ten in turn), variant, mode, tonic, moods, tempo and form of piece `index`.

    Variants and modes are dealt evenly over a style's pieces, and its tonics go round all twelve.
    """
    dice = Dice(seed, index, _OUTLINE)
    place, turn = index % len(STYLES), index // len(STYLES)
    even = Dice(seed, place, 1_000_003)
    style = _weighted(VARIANTS[STYLES[place]], (even.uniform() + turn * 0.6180339887) % 1)
    mode: Mode = "major" if (even.uniform() + turn * 0.7548776662) % 1 < style.major else "minor"
    tonic = (even.integer(0, 11) + 7 * turn) % 12
    moods = choose_moods(dice, style.moods[mode])
    effect = blend(moods)
    low, high = style.tempos
    share = min(1.0, max(0.0, effect.pace + dice.uniform(-0.45, 0.45)))
    tempo = round((low + (high - low) * share) * 2) / 2
    beat_seconds = round(60_000_000 / tempo) * 1e-6
    sections = with_energy(choose_form(dice, style, beat_seconds), effect.energy)
    ring = 3.0 + 0.25 * dice.integer(0, 6)
    return Outline(style, mode, tonic, moods, effect, tempo, beat_seconds, sections, ring)


def _weighted(variants: tuple[Style, ...], share: float) -> Style:
    total = sum(style.weight for style in variants)
    for style in variants:
        share -= style.weight / total
        if share < 0:
            return style
    return variants[-1]


def compose(seed: int, index: int) -> Piece:
    """Piece `index` of the catalogue of `seed`."""
    plan = outline(seed, index)
    style = plan.style
    harmony = harmonise(Dice(seed, index, _HARMONY), style, plan.mode, plan.tonic, plan.sections)
    dice = Dice(seed, index, _BAND)
    scale_name = dice.pick(style.scales[plan.mode])
    scale = tuple(sorted((plan.tonic + step) % 12 for step in SCALES[scale_name]))
    groove = Dice(seed, index, _FEEL)
    ratio = groove.uniform(*style.swing)

    band = _choose_band(dice, style)
    playing = _phrases(plan.sections, [layer for layer, _ in band])
    parts = []
    for number, (layer, patch) in enumerate(band):
        notes = _play(seed, index, number, plan, harmony, scale, layer, patch, playing[number])
        if not notes:
            continue
        drums = layer.role == "drums"
        loose = style.loose_seconds / plan.beat_seconds * (0.5 if drums else 1.0)
        notes = [_felt(groove, plan, note, ratio, loose) for note in notes]
        pump = _spans(plan) if layer.pump else ()
        level = round(min(127.0, patch.volume * layer.volume))
        reverb = max(0, min(127, layer.reverb + (0 if drums or layer.role == "bass" else plan.effect.reverb)))
        pan = round(64 + 63 * layer.pan)
        parts.append(Part(patch, layer.role, sorted(_untangled(notes)), pan, reverb, layer.chorus, level, pump))

    turn = index // len(STYLES) % SPLIT_EVERY
    key = Key(plan.tonic, plan.mode)
    prominent = _prominent(parts)
    return Piece(
        id=f"{index:05d}-{style.name.replace(' ', '-')}",
        style=style.name,
        moods=plan.moods,
        tempo_bpm=plan.tempo_bpm,
        beat_seconds=plan.beat_seconds,
        tonic=plan.tonic,
        mode=plan.mode,
        beats_per_bar=style.beats_per_bar,
        bars=plan.bars,
        chords=merged([chord for i in range(len(plan.sections)) for chord in harmony[i]]),
        sections=plan.sections,
        parts=parts,
        captions=captions(Dice(seed, index, _CAPTIONS), style, plan.moods, prominent, plan.tempo_bpm, key),
        words=style.words,
        split={3: "validation", 7: "test"}.get(turn, "train"),
        ring_seconds=plan.ring_seconds,
    )


def _choose_band(dice: Dice, style: Style) -> list[tuple[Layer, Patch]]:
    """The layers that this piece has, each with a sound; no sound twice unless a slot shares it."""
    band: list[tuple[Layer, Patch]] = []
    shared: dict[str, str] = {}
    used: set[str] = set()
    for layer in style.layers:
        present = dice.chance(layer.chance)
        free = [name for name in layer.patches if name not in used] or list(layer.patches)
        name = dice.pick(free)
        name = shared.setdefault(layer.slot, name) if layer.slot else name
        if present:
            used.add(name)
            band.append((layer, PATCHES[name]))
    return band


def _play(
    seed: int,
    index: int,
    number: int,
    plan: Outline,
    harmony: dict[int, list[Harmony]],
    scale: tuple[int, ...],
    layer: Layer,
    patch: Patch,
    playing: list[list[int]],
) -> list[Note]:
    """All notes of one player: section by section, phrases where it rests cut out, and the last bar."""
    beats = plan.style.beats_per_bar
    phrase_beats = float(PHRASE_BARS * beats)
    player = Dice(seed, index, _FIGURES, number).pick(layer.play)
    notes: list[Note] = []
    sounding = False
    for i, section in enumerate(plan.sections):
        active = playing[i]
        sounding = bool(active) and active[-1] == section.bars // PHRASE_BARS - 1
        if not active:
            continue
        label = SECTIONS.index(section.label)
        passage = Passage(
            section=section,
            following=plan.sections[i + 1] if i + 1 < len(plan.sections) else None,
            chords=[chord for chord in harmony[i] if chord.start < (section.start + section.bars) * beats],
            scale=scale,
            beats_per_bar=beats,
            tempo=plan.tempo_bpm,
            patch=patch,
            layer=layer,
            dice=Dice(seed, index, _FIGURES, number, label),
            take=Dice(seed, index, _FIGURES, number, label, i),
            band=Dice(seed, index, _FIGURES, 1000 if layer.role == "drums" else 1001 + label),
            lift=plan.effect.lift,
            density=plan.effect.density,
            shortness=plan.effect.shortness,
        )
        for note in player(passage):
            phrase = min(int((note.start - passage.start + 0.05) // phrase_beats), section.bars // PHRASE_BARS - 1)
            if phrase in active:
                energy = section.energy_at((note.start - passage.start) / beats)
                notes.append(note._replace(velocity=note.velocity * (0.62 + 0.5 * energy)))
    if sounding:
        notes += _last_bar(layer, patch, harmony[len(plan.sections) - 1][-1], notes)
    return notes


def _phrases(sections: list[Section], layers: list[Layer]) -> list[list[list[int]]]:
    """For each layer and section the phrases in which it plays. Where nothing but drums or single tones would sound,
    the first layer of chords plays too."""
    playing = [[_active_phrases(layer, section) for section in sections] for layer in layers]
    first = next(i for i, layer in enumerate(layers) if layer.role == "chords")
    for i, section in enumerate(sections):
        covered = {phrase for n, layer in enumerate(layers) if layer.role == "chords" for phrase in playing[n][i]}
        missing = set(range(section.bars // PHRASE_BARS)) - covered
        playing[first][i] = sorted({*playing[first][i], *missing})
    return playing


def _active_phrases(layer: Layer, section: Section) -> list[int]:
    """Numbers of the section's four-bar phrases in which the layer plays."""
    if section.label in layer.rests or (layer.only and section.label not in layer.only):
        return []
    low, high = layer.energy
    middles = [(phrase, (phrase + 0.5) * PHRASE_BARS) for phrase in range(section.bars // PHRASE_BARS)]
    return [phrase for phrase, middle in middles if low <= section.energy_at(middle) <= high]


def _last_bar(layer: Layer, patch: Patch, final: Harmony, before: list[Note]) -> list[Note]:
    """What a player does on the final chord: everybody strikes and lets it ring."""
    start, length = final.start, final.length
    level = 0.72
    if layer.role == "drums":
        return [Note(start, 1.0, DRUMS["kick"], level), Note(start, 1.0, DRUMS["crash"], level * 0.8)]
    low, high = patch.low + 12 * layer.octave, patch.high + 12 * layer.octave
    last = before[-1].pitch if before else (low + high) // 2
    if layer.role == "bass":
        return [Note(start, length, nearest((low + high) / 2 - 4, (final.root,), low, high), level)]
    if layer.role == "lead":
        return [Note(start, length, nearest(last, final.tones[:3:2] or final.tones, low, high), level)]
    if low < 48 and high <= 60:
        return [Note(start, length, nearest(last, (final.root,), low, high), level)]
    return [Note(start, length, pitch, level * 0.9) for pitch in voicing(final, low, high, 4)]


def _felt(dice: Dice, plan: Outline, note: Note, ratio: float, loose: float) -> Note:
    """Swing and the small unevenness of hands, in time and strength."""
    start = swing(note.start, ratio, plan.style.swing_unit)
    end = swing(note.start + note.length, ratio, plan.style.swing_unit)
    shift = (dice.uniform(-1, 1) + dice.uniform(-1, 1)) / 2 * loose
    velocity = note.velocity + dice.uniform(-0.04, 0.04)
    return Note(max(0.0, start + shift), max(0.03, end - start), note.pitch, min(1.0, max(0.08, velocity)))


def _untangled(notes: list[Note]) -> list[Note]:
    """A pitch struck again ends the note before: two sounding notes of one pitch share one note-off in MIDI."""
    result: list[Note] = []
    last: dict[int, int] = {}
    for note in sorted(notes):
        before = last.get(note.pitch)
        if before is not None:
            held = result[before]
            if held.start + held.length > note.start - 0.005:
                if note.start - held.start < 0.04:
                    result[before] = held._replace(length=max(held.length, note.length))
                    continue
                result[before] = held._replace(length=max(0.02, note.start - held.start - 0.01))
        last[note.pitch] = len(result)
        result.append(note)
    return result


def _spans(plan: Outline) -> tuple[tuple[float, float], ...]:
    """Where the kick plays loud enough to push other layers down, in beats."""
    beats = plan.style.beats_per_bar
    return tuple(
        (float(s.start * beats), float((s.start + s.bars) * beats))
        for s in plan.sections
        if s.label in ("verse", "chorus") and s.energy[0] >= 0.5
    )


def _prominent(parts: list[Part]) -> tuple[str, ...]:
    """Instruments, those that a listener would name first at the front: by role, time sounding and level."""
    weight_of = {"lead": 1.6, "chords": 0.5, "bass": 0.5, "drums": 1.2}

    def weight(part: Part) -> float:
        beats = {int(beat) for note in part.notes for beat in range(int(note.start), int(note.start + note.length) + 1)}
        return len(beats) * part.volume * weight_of[part.role]

    ordered = sorted(parts, key=lambda part: (-weight(part), part.patch.program))
    return tuple(dict.fromkeys(part.patch.instrument for part in ordered))
