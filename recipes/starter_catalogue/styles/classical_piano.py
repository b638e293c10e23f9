"""Classical piano: nocturnes, sonatinas, preludes, waltzes."""

from __future__ import annotations

from dataclasses import replace

from ..harmony_parts import arpeggio, left_hand
from ..melody_parts import harmony, theme
from ..model import Layer, Style

_PIANO_FORMS = (
    "intro:1:.3 verse:2:.45 chorus:2:.6 verse:2:.5 bridge:2:.65>.75 verse:1:.5 chorus:2:.65 outro:1:.35",
    "verse:2:.45 chorus:2:.6 bridge:2:.55>.75 verse:2:.5 outro:1:.35",
    "verse:2:.4>.5 bridge:1:.65 verse:1:.5 chorus:1:.65 outro:1:.35",
    "intro:1:.3 verse:1:.45 chorus:1:.6 verse:1:.5 chorus:1:.65 outro:1:.3",
)

_PIANO = Style(
    name="classical piano",
    tempos=(60, 84),
    major=0.55,
    loose_seconds=0.012,
    words=("solo piano", "recital", "romantic era"),
    moods={
        "major": ("calm", "romantic", "hopeful", "playful", "happy", "warm", "bright"),
        "minor": ("melancholic", "sad", "romantic", "tense", "mysterious", "dark", "calm"),
    },
    scales={"major": ("ionian",), "minor": ("aeolian",)},
    cadences={"major": ("ii7 V7", "IV V7"), "minor": ("iv V7", "iih7 V7")},
    finals={"major": "I", "minor": "i"},
    progressions={
        "major": {
            "": (
                "I IV V7 I",
                "I vi ii V7",
                "I V7 I IV I ii7 V7 I",
                "I V vi iii IV I ii7 V7",
                "I viio I V7 vi ii7 V7 I",
            ),
            "chorus": ("IV V7 I vi ii7 V7 I I", "vi II7 V V7", "I III7 vi IV I V7 I I", "V7 I V7 I IV I V7 I"),
            "bridge": ("vi III7 vi vi ii VI7 ii V7", "iv I iv I bVI bVI V7 V7", "II7 V II7 V VI7 ii II7 V7"),
        },
        "minor": {
            "": ("i iv V7 i", "i V7 i iv i iih7 V7 i", "i bVI iv V7", "i bVII bIII bVI iv i V7 i", "i viio7 i V7"),
            "chorus": ("bIII bVII bIII bVII bVI iv V7 V7", "iv i V7 i iv i V7 i", "bVI bIII iv i iih7 V7 i i"),
            "bridge": (
                "bIII V7 i I7 iv bVII7 bIII V7",
                "bVI bVII7 bIII bVI iih7 V7 i V7",
                "iv viio7 i bVI iih7 V7 i V7",
            ),
        },
    },
    forms=_PIANO_FORMS,
    layers=(),
)

NOCTURNE = replace(
    _PIANO,
    weight=0.35,
    words=("nocturne", "solo piano", "expressive"),
    layers=(
        Layer(
            "lead",
            ("grand",),
            (theme("song", "calm"), theme("song")),
            slot="keys",
            only=("verse", "chorus", "bridge"),
            reverb=46,
            pan=0.12,
        ),
        Layer(
            "chords",
            ("grand",),
            (left_hand("R5835853", "R5838583", "R8535853", "R5373573", step=0.5),),
            reverb=46,
            pan=-0.12,
            slot="keys",
            volume=0.85,
        ),
        Layer(
            "lead",
            ("grand",),
            (harmony("song", "calm"),),
            energy=(0.58, 1),
            only=("chorus", "bridge"),
            reverb=46,
            pan=0.12,
            slot="keys",
            chance=0.6,
        ),
    ),
)

SONATINA = replace(
    _PIANO,
    weight=0.3,
    tempos=(104, 144),
    loose_seconds=0.006,
    words=("sonatina", "solo piano", "classical era"),
    layers=(
        Layer(
            "lead",
            ("grand", "bright piano"),
            (theme("busy", "song"), theme("busy"), theme("song")),
            slot="keys",
            only=("verse", "chorus", "bridge"),
            reverb=46,
            pan=0.12,
        ),
        Layer(
            "chords",
            ("grand",),
            (
                left_hand("R535R535", "R585R585", "RT.TRT.T", step=0.5, ring=False),
                left_hand("R535", step=0.5, ring=False),
            ),
            reverb=40,
            pan=-0.12,
            slot="keys",
            volume=0.85,
        ),
    ),
)

PRELUDE = replace(
    _PIANO,
    weight=0.15,
    tempos=(66, 100),
    words=("prelude", "solo piano", "flowing arpeggios"),
    layers=(
        Layer(
            "chords",
            ("grand",),
            (arpeggio("01230123", "02130213", "01234321", "01234543", step=0.25, size=4, ring=True),),
            reverb=50,
            pan=0.1,
            slot="keys",
            octave=0,
        ),
        Layer("chords", ("grand",), (left_hand("R.......", "R...8...", step=0.5),), reverb=50, pan=-0.12, slot="keys"),
        Layer(
            "lead",
            ("high piano",),
            (theme("calm"),),
            energy=(0.4, 1),
            only=("verse", "chorus", "bridge"),
            reverb=46,
            pan=0.12,
        ),
    ),
)

PIANO_WALTZ = replace(
    _PIANO,
    weight=0.2,
    beats_per_bar=3,
    tempos=(108, 168),
    words=("waltz", "solo piano", "graceful dance"),
    layers=(
        Layer(
            "lead",
            ("grand", "bright piano"),
            (theme("song"), theme("busy", "song")),
            slot="keys",
            only=("verse", "chorus", "bridge"),
            reverb=46,
            pan=0.12,
        ),
        Layer(
            "chords",
            ("grand",),
            (left_hand("RTT", step=1.0, ring=False), left_hand("R.T.T.", step=0.5, ring=False)),
            reverb=46,
            pan=-0.12,
            slot="keys",
            volume=0.88,
        ),
    ),
)
