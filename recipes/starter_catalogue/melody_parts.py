"""Players of melodies: themes made of motifs that come back varied, their harmony parts, and solos."""

from __future__ import annotations

from .model import Dice, Note, Passage, Player
from .rhythm import steps
from .theory import chord_scale, ladder, nearest

# Rhythms of one bar, from calm to busy. `C` marks a cadence: the last note is long.
RHYTHMS: dict[int, dict[str, tuple[str, ...]]] = {
    4: {
        "calm": ("x-------x-------", "x-----------x---", "..x---------x---", "x-----x---------", "x---------------"),
        "song": (
            "x---x---x-x-x---", "x-----x-x---x---", "..x-x-x-x-----x-", "x-x-x---x---x-x-", "x---x-x-x-----..",
            "....x-x-x---x---", "x-----x-----x-x-",
        ),
        "busy": (
            "x-x-x-x-x-x-x---", "x-x-..x-x-..x-x-", "x--x--x-x--x--x-", "..x-x-x-..x-x-x-", "x-xxx-x-x-x-x-..",
            "x-x-x---xxx-x-x-",
        ),
        "hook": ("x--x--x-..x-x-..", "x-..x-..x-x-..x-", "x..x..x...x.x...", "..x..x..x-..x-..", "x-x-..x-..x-x---"),
        "cadence": ("x-x-x-----------", "x---x-----------", "x-----x---------", "x-x-x-x-x-------"),
    },
    3: {
        "calm": ("x-----------", "x-------x---", "x---x-------"),
        "song": ("x---x---x---", "x-----x-x---", "x-x-x---x---", "x-------x-x-", "..x-x-x-x---"),
        "busy": ("x-x-x-x-x-x-", "x-x-x-x-x---", "x--xx-x-x-x-"),
        "hook": ("x-..x-..x-x-", "x--x--x-x-..", "x-x-..x-x---"),
        "cadence": ("x-x-x-------", "x---x-------", "x-----------"),
    },
}  # fmt: skip
_PHRASES = ("abac", "aabc", "abac", "abcd", "aaac")
_ARCHES = ((0, 1, 3, 1), (0, 2, 4, 1), (3, 2, 1, 0), (0, 2, 1, -1), (1, 3, 2, 0))
_STEPS = (-1, 1, -1, 1, 1, -1, 2, -2, 0, -3, 3)

Motif = tuple[tuple[tuple[float, float, str], ...], tuple[int, ...]]


def _motif(dice: Dice, rhythm: str, beats_per_bar: int) -> Motif:
    """Strikes of one bar and the scale step of each against the motif's first note."""
    strikes = steps(rhythm, beats_per_bar)[0]
    offsets = [0]
    for _ in strikes[1:]:
        step = dice.pick(_STEPS)
        if abs(offsets[-1] + step) > 4:
            step = -step
        offsets.append(offsets[-1] + step)
    return strikes, tuple(offsets)


def _theme(p: Passage, feel: str, low: int, high: int) -> list[Note]:
    """Four-bar phrases of one-bar motifs; every second phrase answers the first and comes to rest on the tonic."""
    dice = p.band
    pool = RHYTHMS[p.beats_per_bar]
    motifs = {name: _motif(dice, dice.pick(pool[feel]), p.beats_per_bar) for name in "ab"}
    motifs["c"] = _motif(dice, dice.pick(pool["cadence"]), p.beats_per_bar)
    motifs["d"] = _motif(dice, dice.pick(pool["cadence"]), p.beats_per_bar)
    order, arch = dice.pick(_PHRASES), dice.pick(_ARCHES)
    answer = dice.pick(_ARCHES)
    centre = (low + high) // 2 - 3 + dice.integer(-2, 2)
    notes: list[Note] = []
    for bar in range(p.section.bars):
        phrase, place = divmod(bar, 4)
        name = order[place]
        strikes, offsets = motifs[name]
        lift = (answer if phrase % 2 else arch)[place]
        if p.section.bars >= 4 and place == 3 and phrase % 2:
            strikes, offsets = motifs["d"]
        for i, (at, length, _) in enumerate(strikes):
            start = p.bar_start(bar) + at
            chord = p.chord_at(start)
            rungs = ladder(chord_scale(chord.tones, p.scale), low, high)
            base = min(range(len(rungs)), key=lambda r: abs(rungs[r] - centre))
            pitch = rungs[max(0, min(len(rungs) - 1, base + lift + offsets[i]))]
            last = i == len(strikes) - 1
            if at % 2 == 0 or length >= 1 or last:
                pitch = nearest(pitch, chord.tones, low, high)
            if last and place == 3 and phrase % 2 and p.chords[0].root in chord.tones:
                pitch = nearest(pitch, (p.chords[0].root,), low, high)
            strength = 0.8 if at == 0 else 0.72 if at % 1 == 0 else 0.64
            strength += 0.06 * (place in (1, 2))
            notes.append(Note(start, length * 0.94 * p.shortness, pitch, strength))
    return notes


def _vary(p: Passage, notes: list[Note]) -> list[Note]:
    """A later take of a theme: now and then a grace step or a note left out."""
    varied = []
    for note in notes:
        if note.length >= 0.9 and p.take.chance(0.10):
            scale = chord_scale(p.chord_at(note.start).tones, p.scale)
            upper = nearest(note.pitch + 2, scale, note.pitch + 1, note.pitch + 5)
            half = note.length / 2
            varied += [
                note._replace(length=half / 2),
                Note(note.start + half / 2, half / 2, upper, note.velocity - 0.1),
            ]
            varied.append(note._replace(start=note.start + half, length=half, velocity=note.velocity - 0.05))
        elif note.start % 1 and p.take.chance(0.05):
            continue
        else:
            varied.append(note)
    return varied


def _range(p: Passage) -> tuple[int, int]:
    """The register a melody uses: an octave and a half in the upper part of the patch's range, moved by the moods."""
    low = max(p.low, min((p.low + p.high) // 2 - 4 + p.lift, p.high - 17))
    return low, min(p.high, low + 19)


def theme(*feels: str) -> Player:
    """The piece's melody for this section label; all players of a theme share it."""

    def play(p: Passage) -> list[Note]:
        low, high = _range(p)
        return _vary(p, _theme(p, p.band.pick(feels), low, high))

    return play


def harmony(*feels: str) -> Player:
    """A second voice to the same theme: the chord tone about a sixth below, on the longer notes."""

    def play(p: Passage) -> list[Note]:
        low, high = _range(p)
        notes = []
        for note in _theme(p, p.band.pick(feels), low, high):
            if note.length >= 0.45:
                tones = p.chord_at(note.start).tones
                pitch = nearest(note.pitch - 8, tones, max(0, note.pitch - 10), note.pitch - 3)
                notes.append(note._replace(pitch=pitch, velocity=note.velocity * 0.8))
        return notes

    return play


def counter(p: Passage) -> list[Note]:
    """A slow line against the theme: one or two chord tones a chord, moving by the smallest steps."""
    low, high = _range(p)
    pitch = (low + high) // 2
    notes = []
    for chord in p.chords:
        halves = 2 if chord.length >= 4 and p.dice.chance(0.5) else 1
        for i in range(halves):
            goal = pitch + p.dice.pick((-4, -2, 2, 3, 5))
            pitch = nearest(min(max(goal, low + 3), high - 3), chord.tones, low, high)
            length = chord.length / halves
            notes.append(Note(chord.start + i * length, length * 0.97, pitch, 0.62))
    return notes


def sparse(chance: float = 0.5, step: float = 1.0, echo: float = 0.0) -> Player:
    """Single scale tones here and there that ring; with `echo` each is answered softly after that many beats."""

    def play(p: Passage) -> list[Note]:
        low, high = _range(p)
        pitch = (low + high) // 2
        notes = []
        for i in range(round((p.end - p.start) / step)):
            if not p.dice.chance(chance * (0.4 + p.density)):
                continue
            start = p.start + i * step
            chord = p.chord_at(start)
            classes = chord.tones if i % 2 == 0 else chord_scale(chord.tones, p.scale)
            pitch = nearest(min(max(pitch + p.dice.integer(-7, 7), low), high), classes, low, high)
            notes.append(Note(start, 2.0, pitch, p.dice.uniform(0.5, 0.75)))
            if echo and start + echo < p.end:
                notes.append(Note(start + echo, 1.5, pitch, 0.36))
        return notes

    return play


def solo(step: float = 0.5) -> Player:
    """Improvising: runs of `step` through the chord's scale with chord tones on the beat, chromatic approaches, leaps
    that turn back, and breaths between phrases."""

    def play(p: Passage) -> list[Note]:
        dice = p.take
        low, high = p.low + 2 + max(0, p.lift), p.high
        pitch, direction = (low + high) // 2, 1
        notes: list[Note] = []
        at, end = p.start, p.end
        while at < end - 1:
            phrase_end = min(end, at + dice.pick((3.0, 4.0, 6.0, 7.0, 8.0)))
            while at < phrase_end - 1e-6:
                chord = p.chord_at(at)
                length = dice.pick((step, step, step, step, 2 * step, 3 * step))
                classes = chord.tones if at % 1 < 1e-06 or length > step else chord_scale(chord.tones, p.scale)
                if dice.chance(0.18) or not low + 3 < pitch < high - 3:
                    direction = 1 if pitch < (low + high) / 2 else -1
                goal = pitch + direction * dice.pick((1, 2, 2, 2, 3, 4, 7))
                goal = min(max(goal, low), high)
                pitch = nearest(goal if goal != pitch else goal + direction, classes, low, high)
                accent = 0.1 if at % 1 and dice.chance(0.4) else 0.0
                notes.append(Note(at, min(length, phrase_end - at) * 0.92, pitch, 0.66 + accent + dice.uniform(0, 0.1)))
                at += length
            at = (at // 1) + dice.pick((1.0, 1.5, 2.0, 2.5))
        return notes

    return play


def riff(*feels: str) -> Player:
    """A short hook of one or two bars repeated through the section, bent to the chord of the moment."""

    def play(p: Passage) -> list[Note]:
        low, high = _range(p)
        dice = p.dice
        bars = [_motif(dice, dice.pick(RHYTHMS[p.beats_per_bar][dice.pick(feels)]), p.beats_per_bar) for _ in range(2)]
        order = dice.pick(("00", "01", "01", "0001"))
        centre = (low + high) // 2 - 2
        notes = []
        for bar in range(p.section.bars):
            strikes, offsets = bars[int(order[bar % len(order)])]
            for (at, length, _), offset in zip(strikes, offsets, strict=True):
                start = p.bar_start(bar) + at
                tones = p.chord_at(start).tones
                rungs = ladder(chord_scale(tones, p.scale), low, high)
                base = min(range(len(rungs)), key=lambda r: abs(rungs[r] - centre))
                pitch = rungs[max(0, min(len(rungs) - 1, base + offset))]
                if at % 1 == 0:
                    pitch = nearest(pitch, tones, low, high)
                notes.append(Note(start, length * 0.9 * p.shortness, pitch, 0.78 if at % 1 == 0 else 0.66))
        return notes

    return play
