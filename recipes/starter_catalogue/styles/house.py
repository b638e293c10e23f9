"""House: four on the floor, off-beat hats, jazzy stabs, pumping pads."""

from __future__ import annotations

from ..bass_parts import line
from ..harmony_parts import arpeggio, pad, stabs
from ..melody_parts import riff, theme
from ..model import Layer, Style
from ..rhythm import kit
from .dance import DANCE_FORMS, DANCE_MOODS

HOUSE = Style(
    name="house",
    tempos=(118, 128),
    major=0.4,
    swing=(0.5, 0.56),
    swing_unit=0.25,
    loose_seconds=0.002,
    words=("four on the floor", "dance", "club"),
    moods=DANCE_MOODS,
    scales={"major": ("ionian", "major pentatonic"), "minor": ("aeolian", "dorian", "minor pentatonic")},
    cadences={"major": ("IVmaj7 V9", "ii9 Vsus4"), "minor": ("bVImaj7 bVII", "iv9 v7")},
    finals={"major": "Imaj9", "minor": "i9"},
    progressions={
        "major": {
            "": ("Imaj7 vi7 IVmaj7 V", "IVmaj9 iii7 vi9 vi9", "ii9 V9 Imaj9 Imaj9", "I V vi IV", "vi9 IVmaj9 Imaj9 V"),
            "chorus": ("IVmaj7 V vi7 Imaj7", "I V vi IV", "vi7 IVmaj7 Imaj7 V", "ii7 iii7 IVmaj7 V"),
        },
        "minor": {
            "": ("i9 i9 iv9 iv9", "i7 bVImaj7 iv7 v7", "i9 bVII bVImaj9 bVII", "bVImaj9 v7 i9 i9"),
            "chorus": ("bVImaj7 bVII i7 i7", "i7 bIIImaj7 bVII bVImaj7", "iv9 v7 i9 bVImaj9", "i bVI bIII bVII"),
        },
    },
    forms=DANCE_FORMS,
    layers=(
        Layer(
            "drums",
            ("electronic kit", "tr808 kit", "electronic kit", "room kit"),
            (
                kit(
                    (
                        {"kick": "X...X...X...X...", "shaker": "..o...o...o...o."},
                        {"kick": "X...X...X...X...", "rim": "...o......o..o.."},
                        {"kick": "X...X...X...X...", "hat": "..o...o...o...o."},
                    ),
                    (
                        {
                            "kick": "X...X...X...X...",
                            "clap": "....x.......x...",
                            "open": "..o...o...o...o.",
                            "shaker": "g.gog.gog.gog.go",
                        },
                        {
                            "kick": "X...X...X...X...",
                            "clap": "....x.......x...",
                            "open": "..x...x...x...x.",
                            "conga high": "...o..o....o..o.",
                        },
                        {
                            "kick": "X...X...X...X...",
                            "snare": "....o.......o...",
                            "hat": "oog.oog.oog.oogo",
                            "open": "..x...x...x...x.",
                        },
                    ),
                    (
                        {
                            "kick": "X...X...X...X...",
                            "clap": "....X.......X...",
                            "open": "..x...x...x...x.",
                            "hat": "ogogogogogogogog",
                            "tambourine": "....o.......o...",
                        },
                        {
                            "kick": "X...X...X...X...|X...X...X...X..o",
                            "clap": "....X.......X...|....X.......X..o",
                            "open": "..X...X...X...X.",
                            "shaker": "oogooogooogooogo",
                            "conga low": "......o..o......|......o..o...o..",
                        },
                    ),
                    fills=(
                        {"snare": "............xxxX"},
                        {"clap": "............x.xx", "tom2": "..........xx...."},
                        {"snare": "..........o.xoxX"},
                    ),
                    roll="snare",
                ),
            ),
            energy=(0.38, 1),
            rests=("break",),
            reverb=14,
        ),
        Layer(
            "bass",
            ("synth bass", "round synth bass", "finger bass"),
            (
                line("..R-..R-..R-..R-", "..R-..R-..R-..8-", gate=0.8),
                line("R..R..R...R.8.R.", "R..R..8.R..R..5.", gate=0.8),
                line("R..r..8.R..r5.7.|R..r..8.R.r.8.a.", gate=0.85),
            ),
            energy=(0.45, 1),
            rests=("break",),
            reverb=6,
        ),
        Layer(
            "chords",
            ("grand", "electric grand", "rhodes", "fm piano", "drawbar organ"),
            (
                stabs(
                    "x..x..x...x.x...",
                    "..x-..x...x-..x.",
                    "x--.x--.x-..x--.",
                    "X..x..x.X..x..x.|X..x..x...X.x.x.",
                    gate=0.8,
                ),
                stabs("..x...x...x...x.", "x..x..x.........", gate=0.7),
            ),
            energy=(0.25, 1),
            reverb=36,
            chorus=20,
            pan=-0.15,
            pump=True,
        ),
        Layer(
            "chords",
            ("warm pad", "sweep pad", "synth strings", "slow strings", "halo pad"),
            (pad(4),),
            energy=(0.2, 1),
            volume=0.75,
            reverb=60,
            chorus=40,
            pan=0.1,
            pump=True,
            chance=0.85,
        ),
        Layer(
            "lead",
            ("saw lead", "square lead", "synth brass", "vibraphone", "flute", "bright piano"),
            (theme("hook", "song"), riff("hook")),
            energy=(0.5, 1),
            only=("chorus", "break", "build"),
            reverb=44,
            chorus=24,
            pan=0.1,
            volume=0.95,
        ),
        Layer(
            "chords",
            ("synth pluck", "kalimba", "marimba", "muted guitar"),
            (
                arpeggio("0123", "02132", "01231", "0.12.3", step=0.25, gate=0.7),
                arpeggio("0213", "0.2.13", step=0.25, gate=0.6),
            ),
            energy=(0.55, 1),
            chance=0.6,
            pan=0.4,
            reverb=40,
            volume=0.7,
        ),
    ),
)
