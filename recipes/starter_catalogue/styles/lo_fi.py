"""Lo-fi: swung hip hop beats, ninth chords, electric pianos."""

from __future__ import annotations

from ..bass_parts import line
from ..harmony_parts import pad, rolled, stabs
from ..melody_parts import solo, sparse, theme
from ..model import Layer, Style
from ..rhythm import kit

LO_FI = Style(
    name="lo-fi",
    tempos=(70, 90),
    major=0.5,
    swing=(0.55, 0.62),
    swing_unit=0.25,
    loose_seconds=0.012,
    words=("beats to study to", "hip hop beat", "laid-back groove"),
    moods={
        "major": ("calm", "warm", "dreamy", "romantic", "happy", "hopeful", "playful"),
        "minor": ("melancholic", "calm", "dreamy", "sad", "warm", "mysterious", "romantic"),
    },
    scales={"major": ("major pentatonic", "ionian"), "minor": ("minor pentatonic", "dorian", "aeolian")},
    cadences={"major": ("ii9 V9", "IVmaj7 iv6"), "minor": ("iih7 V7", "bVImaj7 v7")},
    finals={"major": "Imaj9", "minor": "i9"},
    progressions={
        "major": {
            "": (
                "ii9 V9 Imaj9 vi7",
                "Imaj9 vi9 ii9 V9",
                "IVmaj9 iii7 ii9 Imaj9",
                "Imaj7 III7 vi9 IVmaj7",
                "IVmaj9 iv6 iii7 vi7",
            ),
            "chorus": ("IVmaj9 V9 iii7 vi9", "IVmaj7 iii7,VI7 ii9 V9", "vi9 ii9 V9 Imaj9"),
        },
        "minor": {
            "": (
                "i9 iv9 bVII9 bIIImaj9",
                "i9 bVImaj7 iv9 v7",
                "iv9 bVII9 bIIImaj7 bVImaj7",
                "i9 i9 bVImaj9 V7",
                "bVImaj9 v7 i9 i9",
            ),
            "chorus": ("bVImaj9 bVII9 i9 i9", "iv9 v7 bVImaj9 bVII", "bVImaj7 v7 iv9 i9"),
        },
    },
    forms=(
        "intro:1:.3 verse:2:.5 chorus:2:.65 verse:2:.5 break:1:.3 chorus:2:.7 outro:1:.4>.25",
        "intro:1:.3>.4 verse:2:.5 chorus:2:.65 outro:1:.35",
        "intro:1:.35 verse:2:.5 chorus:1:.65 verse:1:.5 solo:1:.6 chorus:1:.7 outro:1:.35",
        "verse:1:.4>.5 chorus:1:.65 verse:1:.5 chorus:1:.65 outro:1:.3",
    ),
    layers=(
        Layer(
            "drums",
            ("room kit", "standard kit", "tr808 kit", "brush kit", "jazz kit"),
            (
                kit(
                    (
                        {"rim": "....x.......x...", "hat": "o.o.o.o.o.o.o.o."},
                        {"kick": "X.........x.....", "hat": "o.o.o.o.o.o.o.o."},
                    ),
                    (
                        {"kick": "X......x..x.....", "snare": "....x.......x...", "hat": "x.o.x.o.x.o.x.o."},
                        {
                            "kick": "X..x......x.....|X..x...o..x..x..",
                            "snare": "....x.......x..g",
                            "hat": "x.o.x.oox.o.x.og",
                        },
                        {
                            "kick": "X.....x.x.......",
                            "rim": "....x.......x...",
                            "hat": "o.x.o.x.o.xoo.x.",
                            "shaker": "g.g.g.g.g.g.g.g.",
                        },
                    ),
                    (
                        {
                            "kick": "X......xX.x.....|X......x..x...o.",
                            "snare": "....x..g....x.g.",
                            "hat": "xgogxgogxgogxgog",
                            "open": "......o.........",
                        },
                        {
                            "kick": "X..x..o...x..o..",
                            "snare": "....X.......X..g",
                            "ride": "x.o.x.o.x.o.x.o.",
                            "shaker": "o.o.o.o.o.o.o.o.",
                        },
                    ),
                    fills=(
                        {"snare": "............o.xx"},
                        {"tom3": "............x...", "tom4": "..............x."},
                        {"kick": "............x.x."},
                    ),
                    crash="",
                ),
            ),
            energy=(0.38, 1),
            rests=("break",),
            reverb=24,
            volume=0.88,
        ),
        Layer(
            "bass",
            ("finger bass", "fretless bass", "double bass", "round synth bass"),
            (
                line("R-----..R-5-....", "R----..rR---..a-", "R-----R---5-..a-"),
                line("R-------..R-5-a-|R-----r-..8-7-5-"),
            ),
            energy=(0.35, 1),
            reverb=10,
        ),
        Layer(
            "chords",
            ("rhodes", "fm piano", "grand", "jazz guitar", "nylon guitar"),
            (
                stabs("X-------x-------", "X-----x---x-----", "X---..x-..x-----|X-------..x-x---"),
                rolled(4, 0.62, 0.06),
                stabs("..x-..x-..x-..x-", "X-----..x---...."),
            ),
            reverb=40,
            chorus=30,
            pan=-0.15,
        ),
        Layer(
            "lead",
            (
                "vibraphone",
                "grand",
                "flute",
                "clean guitar",
                "jazz guitar",
                "muted trumpet",
                "tenor sax",
                "music box",
                "kalimba",
            ),
            (theme("song"), theme("hook", "calm"), theme("song", "calm")),
            energy=(0.42, 1),
            rests=("intro", "solo"),
            reverb=56,
            chorus=10,
            pan=0.2,
        ),
        Layer(
            "lead",
            ("tenor sax", "muted trumpet", "jazz guitar", "vibraphone", "flute"),
            (solo(0.5),),
            only=("solo",),
            reverb=56,
            pan=0.2,
        ),
        Layer(
            "chords",
            ("warm pad", "slow strings", "choir pad", "atmosphere", "ooh choir"),
            (pad(3, 0.5),),
            energy=(0.3, 1),
            chance=0.65,
            reverb=70,
            chorus=30,
            pan=0.1,
            volume=0.7,
        ),
        Layer(
            "lead",
            ("celesta", "music box", "kalimba", "harp", "glockenspiel"),
            (sparse(0.3, 0.5, 0.75),),
            energy=(0.45, 1),
            chance=0.45,
            reverb=80,
            pan=0.45,
            volume=0.7,
        ),
    ),
)
