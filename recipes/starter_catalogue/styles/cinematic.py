"""Cinematic: an orchestra that builds, with ostinatos, brass and big drums."""

from __future__ import annotations

from ..bass_parts import hold, line
from ..harmony_parts import arpeggio, ostinato, pad, rolled, stabs
from ..melody_parts import counter, harmony, sparse, theme
from ..model import Layer, Style
from ..rhythm import kit

CINEMATIC = Style(
    name="cinematic",
    tempos=(70, 132),
    major=0.4,
    loose_seconds=0.010,
    words=("film score", "orchestral", "trailer"),
    moods={
        "major": ("epic", "hopeful", "bright", "romantic", "warm", "dreamy", "energetic"),
        "minor": ("epic", "dark", "tense", "sad", "mysterious", "melancholic", "aggressive"),
    },
    scales={"major": ("ionian", "lydian"), "minor": ("aeolian", "dorian")},
    cadences={"major": ("IV V", "bVI bVII", "IV iv"), "minor": ("bVI bVII", "iv V", "bVI V")},
    finals={"major": "I", "minor": "i"},
    progressions={
        "major": {
            "": ("I V vi IV", "I iii IV V", "I IV vi V", "vi IV I V", "I bVII IV I"),
            "chorus": ("IV V vi I", "I V vi IV", "bVI bVII I I", "IV I V vi"),
            "bridge": ("vi iii IV I ii vi IV V", "bVI bIII bVII I"),
        },
        "minor": {
            "": ("i bVI bIII bVII", "i i bVI bVI iv iv V V", "i bVI iv V", "i v bVI bVII", "i bVII bVI V"),
            "chorus": ("bVI bVII i i", "i bVI bIII bVII", "i bIII bVII iv", "bVI bIII bVII i"),
            "bridge": ("iv bVI bIII bVII", "iv i iv V", "bVI bVI bVII bVII"),
        },
    },
    forms=(
        "intro:1:.2>.35 verse:2:.4>.55 build:1:.55>.8 chorus:2:.9 break:1:.25 build:1:.5>.85 chorus:2:1 outro:1:.5>.25",
        "intro:1:.2>.3 verse:2:.4 chorus:1:.7 bridge:1:.5 build:1:.55>.85 chorus:2:.95 outro:1:.35",
        "intro:1:.25 verse:2:.35>.5 chorus:2:.75>.9 outro:1:.4>.2",
        "intro:1:.2>.4 build:1:.45>.7 chorus:1:.85 bridge:1:.45 chorus:2:.95 outro:1:.4",
    ),
    layers=(
        Layer(
            "chords",
            ("slow strings", "string section", "choir", "tremolo strings"),
            (pad(4, 0.62),),
            reverb=84,
            pan=-0.2,
        ),
        Layer(
            "chords",
            ("low strings", "pizzicato", "cello", "string section"),
            (
                ostinato("0.0.0.0.0.0.0.0.", "0.010.010.010.01", "0.1.2.1.0.1.2.1.", "0012001200120012", gate=0.55),
                ostinato("0121012101210121", "0.2.1.2.0.2.1.2.", gate=0.6),
            ),
            energy=(0.4, 1),
            rests=("break",),
            reverb=64,
            pan=0.3,
            volume=0.95,
        ),
        Layer(
            "bass",
            ("low strings", "cello", "double bass"),
            (hold(True), line("R-------R-------", "R-----------R---")),
            energy=(0.3, 1),
            reverb=60,
            pan=0.25,
            octave=0,
        ),
        Layer(
            "lead",
            ("french horn", "violin", "cello", "flute", "trumpet", "clarinet", "grand", "string section"),
            (theme("calm", "song"), theme("song"), theme("calm")),
            energy=(0.33, 1),
            only=("verse", "chorus", "bridge", "outro"),
            reverb=84,
            pan=0.05,
            volume=1.08,
        ),
        Layer(
            "lead",
            ("string section", "french horn", "violin", "choir"),
            (harmony("calm", "song"), counter),
            energy=(0.6, 1),
            only=("chorus", "build"),
            reverb=84,
            pan=-0.1,
            volume=0.85,
        ),
        Layer(
            "chords",
            ("brass section", "trombone", "french horn"),
            (stabs("X-------x-------", "X---------------", "X-----x-X-------", size=3), pad(3, 0.7)),
            energy=(0.68, 1),
            reverb=70,
            pan=0.2,
            volume=0.88,
        ),
        Layer(
            "drums",
            ("orchestra kit", "power kit"),
            (
                kit(
                    ({"deep kick": "X..............."},),
                    (
                        {"deep kick": "X.....x.X.......", "tom4": "........x...x..."},
                        {"deep kick": "X.......x.......", "snare": "....g.......g.gg"},
                    ),
                    (
                        {"deep kick": "X..x..x.X..x..x.", "tom4": "X..x..x.X..x..x.", "snare": "....o..g....o.gg"},
                        {"deep kick": "X...X...X...X.X.", "tom3": "..xx..xx..xx..xx", "tom4": "X...X...X...X..."},
                        {"deep kick": "X.......X.......", "snare": "x.ggx.ggx.ggxggg", "tom4": "X.....x.X.....x."},
                    ),
                    fills=({"tom3": "........x.x.....", "tom4": "............xxXX"}, {"snare": "........ggooooxX"}),
                    roll="snare",
                ),
            ),
            energy=(0.5, 1),
            rests=("break",),
            reverb=60,
        ),
        Layer(
            "bass",
            ("timpani", "taiko"),
            (line("R.......R.......|R.......R...rrrr", "R..r..r.R.......", "R...........r.rr"),),
            energy=(0.62, 1),
            reverb=70,
            volume=0.95,
        ),
        Layer(
            "chords",
            ("harp", "celesta", "grand", "vibraphone"),
            (
                arpeggio("0123", "01234321", "0213", step=0.5, ring=True),
                rolled(5, 0.55, 0.1),
                arpeggio("01234", "012345", step=0.25, ring=True),
            ),
            energy=(0.1, 0.72),
            chance=0.8,
            reverb=80,
            pan=-0.4,
            volume=0.85,
        ),
        Layer(
            "lead",
            ("glockenspiel", "celesta", "tubular bells"),
            (sparse(0.35, 1.0),),
            energy=(0.15, 0.6),
            chance=0.4,
            reverb=90,
            pan=0.4,
            volume=0.7,
        ),
    ),
)
