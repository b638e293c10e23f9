"""Rock: power chords, straight eighths, guitar solos."""

from __future__ import annotations

from ..bass_parts import line
from ..harmony_parts import arpeggio, pad, stabs, strum
from ..melody_parts import riff, solo, theme
from ..model import Layer, Style
from ..rhythm import kit

_SONG = (
    "intro:1:.35 verse:2:.5 chorus:2:.8 verse:2:.55 chorus:2:.85 bridge:1:.5>.7 chorus:2:.95 outro:1:.5>.35",
    "intro:1:.35>.5 verse:2:.5 build:1:.55>.75 chorus:2:.85 verse:2:.55 chorus:2:.9 outro:1:.5",
    "intro:1:.4 verse:2:.5 chorus:1:.8 verse:1:.55 chorus:2:.85 solo:2:.8 break:1:.35 chorus:2:.95 outro:1:.6",
    "intro:1:.4 verse:1:.5 chorus:1:.8 verse:1:.55 chorus:2:.9 outro:1:.5>.4",
    "verse:2:.45>.55 chorus:2:.8 solo:1:.75 verse:1:.55 chorus:2:.9 outro:1:.5",
)

_ROCK_DRUMS = kit(
    (
        {"kick": "X.......X.......", "rim": "....x.......x...", "hat": "x.o.x.o.x.o.x.o."},
        {"kick": "X.......X.x.....", "hat": "x.x.x.x.x.x.x.x."},
    ),
    (
        {"kick": "X.......X.x.....", "snare": "....X.......X...", "hat": "x.o.x.o.x.o.x.o."},
        {"kick": "X..x....X..x....", "snare": "....X.......X...", "hat": "x.o.x.o.x.o.x.o."},
        {"kick": "X.....x.X.......|X.x.....X.x.....", "snare": "....X.......X..g", "hat": "x.o.x.o.x.o.x.o."},
    ),
    (
        {
            "kick": "X.x.....X.x...x.",
            "snare": "....X.......X...",
            "open": "x...x...x...x...",
            "crash": "o...............",
        },
        {
            "kick": "X..x..x.X..x....|X..x..x.X.x...x.",
            "snare": "....X.......X...|....X.......X..x",
            "ride": "x.o.x.o.x.o.x.o.",
        },
        {
            "kick": "X.xx....X.xx....",
            "snare": "....X.......X...",
            "ride": "x.x.x.x.x.x.x.x.",
            "bell": "x...x...x...x...",
        },
    ),
    fills=(
        {"snare": "........x.xxXxXX"},
        {
            "snare": "........xx......",
            "tom1": "..........xx....",
            "tom3": "............xx..",
            "tom4": "..............XX",
        },
        {"tom1": "............xx..", "tom4": "..............xX"},
        {"snare": "............xxxX", "kick": "........X.X....."},
    ),
    roll="snare",
)

ROCK = Style(
    name="rock",
    tempos=(98, 156),
    major=0.55,
    loose_seconds=0.006,
    words=("guitar band", "driving drums", "riff"),
    moods={
        "major": ("energetic", "happy", "hopeful", "bright", "epic", "playful"),
        "minor": ("aggressive", "energetic", "dark", "tense", "melancholic", "epic"),
    },
    scales={"major": ("major pentatonic", "ionian", "mixolydian"), "minor": ("minor pentatonic", "blues", "aeolian")},
    cadences={"major": ("IV V", "bVII IV", "V V"), "minor": ("bVI bVII", "bVII bVII", "iv V")},
    finals={"major": "I", "minor": "i5"},
    progressions={
        "major": {
            "": ("I I IV V", "I V vi IV", "I bVII IV I", "I IV vi V", "I5 I5 IV5 V5", "vi IV I V"),
            "chorus": ("I V vi IV", "IV I V vi", "I IV V IV", "IV V I vi", "I iii IV V"),
            "bridge": ("vi V IV V", "ii IV vi V", "bVI bVII I I"),
            "solo": ("I bVII IV I", "I I IV V"),
        },
        "minor": {
            "": ("i bVII bVI bVII", "i i bVI bVII", "i5 i5 bIII5 iv5", "i iv bVII i", "i5 bVI5 bIII5 bVII5"),
            "chorus": ("bVI bVII i i", "i bVI bIII bVII", "bIII bVII i bVI", "iv bVI i bVII"),
            "bridge": ("bVI bVI iv V", "iv iv bVI bVII"),
            "solo": ("i bVII bVI bVII", "i i iv bVII"),
        },
    },
    forms=_SONG,
    layers=(
        Layer(
            "drums",
            ("power kit", "standard kit", "room kit"),
            (_ROCK_DRUMS,),
            energy=(0.3, 1),
            rests=("break",),
            reverb=22,
        ),
        Layer(
            "bass",
            ("pick bass", "finger bass"),
            (
                line("R-r-R-r-R-r-R-r-", "R-R-R-R-R-R-R-a-", gate=0.85),
                line("R--rR-..R--r5-a-", "R-----r-R---5-a-"),
                line("R-R-..R-R-5-8-a-"),
            ),
            energy=(0.35, 1),
            reverb=10,
        ),
        Layer(
            "chords",
            ("overdriven guitar", "distortion guitar"),
            (
                strum("D-D-D-D-D-D-D-D-", "D---D-D-D---D-D-", "M-M-D---M-M-D-D-", "D--D--D-D--D--D-", power=True),
                strum("D-------D-------", "D-----D-D-----D-", power=True),
            ),
            energy=(0.55, 1),
            pan=-0.55,
            reverb=24,
        ),
        Layer(
            "chords",
            ("clean guitar", "steel guitar", "muted guitar", "overdriven guitar"),
            (
                strum("D---d-u-..u-d-u-", "D-d-..d-D-d-..u-", "D-------d---d-u-"),
                arpeggio("0213", "01232", "0123", step=0.5, ring=True),
            ),
            energy=(0.2, 1),
            pan=0.5,
            reverb=30,
            chorus=14,
            octave=0,
        ),
        Layer(
            "chords",
            ("rock organ", "drawbar organ", "grand", "bright piano"),
            (pad(3, 0.6), stabs("X---x---x---x---", "X-----x-..x-x---")),
            energy=(0.5, 1),
            chance=0.45,
            pan=0.2,
            reverb=30,
            volume=0.8,
        ),
        Layer(
            "lead",
            ("overdriven guitar", "distortion guitar", "clean guitar", "rock organ", "alto sax"),
            (theme("song", "hook"), theme("song"), theme("busy", "song")),
            only=("verse", "chorus", "bridge"),
            reverb=44,
            pan=0.0,
            octave=1,
            volume=0.92,
        ),
        Layer(
            "lead",
            ("overdriven guitar", "distortion guitar"),
            (riff("hook", "busy"),),
            only=("intro", "build"),
            reverb=30,
            pan=-0.1,
            volume=0.95,
        ),
        Layer(
            "lead",
            ("overdriven guitar", "distortion guitar", "rock organ"),
            (solo(0.5), solo(0.25)),
            only=("solo",),
            reverb=50,
            octave=1,
        ),
    ),
)
