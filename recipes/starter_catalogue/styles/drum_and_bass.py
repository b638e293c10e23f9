"""Drum and bass: fast breakbeats under slow chords and a half-time bass."""

from __future__ import annotations

from ..bass_parts import hold, line
from ..harmony_parts import arpeggio, pad, stabs
from ..melody_parts import riff, theme
from ..model import Layer, Style
from ..rhythm import kit
from .dance import DANCE_FORMS

DRUM_AND_BASS = Style(
    name="drum and bass",
    tempos=(168, 178),
    major=0.25,
    loose_seconds=0.002,
    bars_per_chord=2,
    words=("breakbeat", "jungle", "fast breaks"),
    moods={
        "major": ("energetic", "hopeful", "bright", "dreamy"),
        "minor": ("energetic", "dark", "tense", "aggressive", "mysterious", "melancholic"),
    },
    scales={"major": ("ionian", "major pentatonic"), "minor": ("aeolian", "dorian", "minor pentatonic")},
    cadences={"major": ("IVmaj7 V", "IV V"), "minor": ("bVI bVII", "iv7 v7")},
    finals={"major": "Imaj9", "minor": "i9"},
    progressions={
        "major": {
            "": ("Imaj9 vi9 IVmaj9 V", "IVmaj9 Imaj9 vi9 V"),
            "chorus": ("vi7 IVmaj7 Imaj7 V", "IVmaj9 V iii7 vi9"),
        },
        "minor": {
            "": ("i9 i9 bVImaj9 bVImaj9", "i i bVI bVII", "i9 iv9 bVImaj7 v7"),
            "chorus": ("i bVI bIII bVII", "i bVII bVI bVII", "i7 v7 bVImaj7 iv7"),
        },
    },
    forms=tuple(form.replace("intro:1", "intro:2") for form in DANCE_FORMS),
    layers=(
        Layer(
            "drums",
            ("electronic kit", "standard kit", "power kit", "room kit"),
            (
                kit(
                    (
                        {"hat": "x.o.x.o.x.o.x.o.", "rim": "....o.......o..."},
                        {"kick": "X.........x.....", "hat": "x.o.x.o.x.o.x.o."},
                    ),
                    (
                        {"kick": "X.........X.....", "snare": "....X.......X...", "hat": "x.o.x.o.x.o.x.o."},
                        {"kick": "X.....x...X.....", "snare": "....X..g.g..X...", "ride": "x.x.x.x.x.x.x.x."},
                    ),
                    (
                        {
                            "kick": "X.........X.....|X.x.......X.....",
                            "snare": "....X..g.g..X..g|....X..g.g..X.og",
                            "hat": "xoxoxoxoxoxoxoxo",
                            "open": "..............o.",
                        },
                        {
                            "kick": "X.x.......xx....|X.x.......X...x.",
                            "snare": "....X..o.o..X..o|....X..o.o....X.",
                            "ride": "x.x.x.x.x.x.x.x.",
                        },
                        {
                            "kick": "X..x......X..x..",
                            "snare": "....X.g....gX.g.|....X.g..X.g..X.",
                            "hat": "x.xox.xox.xox.xo",
                            "shaker": "ogogogogogogogog",
                        },
                    ),
                    fills=(
                        {"snare": "........xoxXoxXX"},
                        {"snare": "........x..x..xX", "kick": "........X.X....."},
                        {"snare": "..........xxXoxX", "tom3": "........xx......"},
                    ),
                    roll="snare",
                ),
            ),
            energy=(0.32, 1),
            rests=("break",),
            reverb=16,
        ),
        Layer(
            "bass",
            ("synth bass", "round synth bass", "fretless bass"),
            (
                line("R-----------8---|R-------R---5---", "R-----R-......R-|R-----7-......5-"),
                line("R-----..R--8-...|R-----..5--7-...", gate=0.9),
                hold(),
            ),
            energy=(0.45, 1),
            rests=("break",),
            reverb=6,
            volume=1.05,
        ),
        Layer(
            "chords",
            ("warm pad", "sweep pad", "choir pad", "slow strings", "new age pad"),
            (pad(4),),
            energy=(0.1, 1),
            reverb=72,
            chorus=40,
            volume=0.9,
        ),
        Layer(
            "lead",
            ("square lead", "vibraphone", "calliope lead", "flute", "saw lead", "alto sax"),
            (theme("calm", "song"), theme("hook"), riff("hook")),
            energy=(0.2, 1),
            only=("chorus", "break", "intro"),
            reverb=60,
            chorus=20,
            pan=0.15,
        ),
        Layer(
            "chords",
            ("rhodes", "fm piano", "grand", "electric grand"),
            (
                stabs("x--..x--....x---", "x-------..x-----", "..x---..x---....|..x---....x--x--"),
                arpeggio("0213", "012321", "0123", step=0.5, ring=True),
            ),
            energy=(0.3, 0.95),
            reverb=48,
            chorus=20,
            pan=-0.3,
        ),
        Layer(
            "chords",
            ("synth pluck", "kalimba", "crystal", "celesta"),
            (arpeggio("01234321", "0213", "03120314", step=0.5, gate=0.7),),
            energy=(0.6, 1),
            chance=0.6,
            pan=0.45,
            reverb=56,
            volume=0.7,
        ),
    ),
)
