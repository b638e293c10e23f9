"""Techno: a kick, sequences of few notes, dark modes."""

from __future__ import annotations

from ..bass_parts import line
from ..harmony_parts import ostinato, pad, stabs
from ..melody_parts import riff
from ..model import Layer, Style
from ..rhythm import kit
from .dance import DANCE_FORMS

TECHNO = Style(
    name="techno",
    tempos=(124, 138),
    major=0.08,
    loose_seconds=0.0015,
    bars_per_chord=2,
    words=("driving", "hypnotic", "warehouse"),
    moods={
        "major": ("energetic", "bright", "mysterious"),
        "minor": ("dark", "tense", "energetic", "mysterious", "aggressive", "dreamy"),
    },
    scales={"major": ("mixolydian",), "minor": ("phrygian", "aeolian", "dorian", "minor pentatonic")},
    cadences={"major": ("bVII bVII",), "minor": ("bVII bVII", "v v", "iv iv")},
    finals={"major": "I5", "minor": "i"},
    progressions={
        "major": {"": ("I I I bVII", "I5 I5 bVII bVII")},
        "minor": {
            "": ("i i i i", "i5 i5 i5 bVII5", "i i bVI bVI", "i7 i7 i7 iv7", "i i bII bII"),
            "chorus": ("i i bVI bVII", "i i bVII bVI", "i7 i7 iv7 v7", "i i bIII bVII"),
        },
    },
    forms=DANCE_FORMS,
    layers=(
        Layer(
            "drums",
            ("electronic kit", "tr808 kit", "power kit"),
            (
                kit(
                    ({"kick": "X...X...X...X..."}, {"kick": "X...X...X...X...", "rim": "...o..o....o..o."}),
                    (
                        {"kick": "X...X...X...X...", "hat": "..x...x...x...x.", "clap": "............o..."},
                        {"kick": "X...X...X...X...", "hat": "g.o.g.o.g.o.g.o.", "rim": "...x..x....x...."},
                        {"kick": "X...X...X...X...", "open": "..o...o...o...o.", "cowbell": "...o......o....."},
                    ),
                    (
                        {
                            "kick": "X...X...X...X...",
                            "hat": "ooxoooxoooxoooxo",
                            "clap": "....x.......x...",
                            "open": "..x...x...x...x.",
                        },
                        {
                            "kick": "X...X...X...X...|X...X...X...X.x.",
                            "open": "..X...X...X...X.",
                            "ride": "x.o.x.o.x.o.x.o.",
                            "clap": "....x.......x..o",
                            "tom4": "...o..o....o..o.",
                        },
                    ),
                    fills=({"tom4": "..........xoxoxX"}, {"snare": "........o.o.oxxX"}, {"clap": "............x..x"}),
                    roll="electric snare",
                ),
            ),
            energy=(0.3, 1),
            rests=("break",),
            reverb=18,
        ),
        Layer(
            "bass",
            ("synth bass", "round synth bass"),
            (
                line(".RrR.RrR.RrR.RrR", ".rRr.rRr.rRr.rR8", gate=0.7),
                line("..R...R...R...R.", "..RR..RR..RR..R8", gate=0.75),
                line("R.rR.rR.R.rR.r8.|R.rR.rR.R.rR.7R.", gate=0.7),
            ),
            energy=(0.38, 1),
            rests=("break",),
            reverb=8,
        ),
        Layer(
            "lead",
            ("synth pluck", "square lead", "saw lead", "marimba", "koto", "synth brass"),
            (riff("hook", "busy"),),
            energy=(0.3, 1),
            reverb=64,
            chorus=20,
            pan=-0.25,
            octave=0,
            volume=0.85,
        ),
        Layer(
            "chords",
            ("polysynth pad", "synth brass", "saw lead", "rock organ"),
            (
                stabs(
                    "...x..x.........",
                    "x..x..x.........|......x..x......",
                    "..x....x..x.....",
                    "X.....x...x.....",
                    gate=0.6,
                    size=3,
                ),
            ),
            energy=(0.5, 1),
            reverb=70,
            chorus=30,
            pan=0.25,
            volume=0.85,
        ),
        Layer(
            "chords",
            ("synth pluck", "square lead", "crystal", "kalimba"),
            (ostinato("0120312402130214", "0020320042003020", "0312031203120312", "0.13.10.2.13.1.2"),),
            energy=(0.6, 1),
            reverb=50,
            pan=0.4,
            chance=0.7,
            volume=0.7,
        ),
        Layer(
            "chords",
            ("sweep pad", "choir pad", "halo pad", "bowed pad", "soundtrack"),
            (pad(3),),
            energy=(0.15, 1),
            reverb=80,
            chorus=40,
            volume=0.7,
            chance=0.9,
            pump=True,
        ),
    ),
)
