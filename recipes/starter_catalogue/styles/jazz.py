"""Jazz: swing with a walking bass, bossa nova, jazz waltz; head, solos, head."""

from __future__ import annotations

from dataclasses import replace

from ..bass_parts import line, walking
from ..harmony_parts import stabs
from ..melody_parts import harmony, solo, theme
from ..model import Layer, Style
from ..rhythm import kit

_SWING_RIDE = "x...x.x.x...x.x."

_JAZZ_FORMS = (
    "intro:1:.4 verse:2:.5 bridge:1:.55 verse:1:.55 solo:4:.6>.8 verse:2:.6 bridge:1:.6 verse:1:.6 outro:1:.45",
    "verse:2:.5 bridge:1:.55 verse:1:.55 solo:3:.65>.8 verse:1:.6 outro:1:.45",
    "intro:1:.4 verse:2:.5 solo:2:.6>.75 bridge:1:.6 verse:2:.6 outro:1:.45",
    "intro:1:.4 verse:2:.5>.6 solo:2:.65>.75 verse:1:.6 outro:1:.4",
)

_COMP = (
    "x..-......x.....|....x-......x...",
    "......x-......x.|x.........x-....",
    "..x-......x-....",
    "x-....x-........|......x-..x-....",
    "....x-......x-..",
)

JAZZ = Style(
    name="jazz",
    tempos=(104, 196),
    major=0.6,
    swing=(0.62, 0.67),
    loose_seconds=0.009,
    words=("swing", "jazz combo", "walking bass"),
    moods={
        "major": ("playful", "happy", "warm", "romantic", "bright", "energetic"),
        "minor": ("mysterious", "melancholic", "romantic", "warm", "tense", "dark"),
    },
    scales={"major": ("ionian", "mixolydian"), "minor": ("dorian", "aeolian")},
    cadences={"major": ("ii9 V7", "ii7,V7 iii7,VI7 ii9 V9"), "minor": ("iih7 V7",)},
    finals={"major": "I6", "minor": "i6"},
    progressions={
        "major": {
            "": (
                "Imaj7 vi7 ii7 V7",
                "Imaj7,VI7 ii7,V7 iii7,VI7 ii7,V7",
                "ii9 V9 Imaj9 VI7",
                "Imaj7 Imaj7 II7 II7 ii7 V7 I6 V7",
                "Imaj9 IV9 iii7 VI7 ii9 V9 I6 I6",
                "I7 IV7 I7 I7 IV7 IV7 I7 V7",
            ),
            "bridge": (
                "v7 I7 IVmaj7 IVmaj7 vi7 II7 ii7 V7",
                "III7 III7 VI7 VI7 II7 II7 V7 V7",
                "IVmaj7 iv6 Imaj7 VI7 II7 II7 ii7 V7",
            ),
        },
        "minor": {
            "": (
                "i6 iih7,V7 i6 V7",
                "iv7 bVII7 bIIImaj7 bVImaj7 iih7 V7 i6 i6",
                "i7 i7 iv7 i7 bVI7 V7 i6 V7",
                "i9 IV9 i9 IV9",
                "iih7 V7 i6 i6",
            ),
            "bridge": ("iv7 bVII7 bIIImaj7 bIIImaj7 iih7 V7 i6 i6", "iv7 iv7 i7 i7 bVI7 bVI7 V7 V7"),
        },
    },
    forms=_JAZZ_FORMS,
    layers=(
        Layer(
            "drums",
            ("jazz kit", "brush kit"),
            (
                kit(
                    ({"ride": _SWING_RIDE, "pedal": "....x.......x..."},),
                    (
                        {
                            "ride": _SWING_RIDE,
                            "pedal": "....x.......x...",
                            "snare": "......g.......g.|..g.......o.....",
                        },
                        {
                            "ride": _SWING_RIDE,
                            "pedal": "....x.......x...",
                            "kick": "o.......o.......",
                            "rim": "............o...",
                        },
                    ),
                    (
                        {
                            "ride": "X...x.x.X...x.x.",
                            "pedal": "....x.......x...",
                            "snare": "......o...o.....|..o.......o...o.",
                            "kick": "o...........o...|......o.........",
                        },
                    ),
                    fills=(
                        {"snare": "........x.o.x.x."},
                        {"snare": "........x.x.....", "tom3": "............x.x."},
                        {"tom1": "........x.x.....", "tom4": "............x.x."},
                    ),
                    crash="",
                ),
            ),
            reverb=30,
            energy=(0.3, 1),
            volume=0.85,
        ),
        Layer("bass", ("double bass",), (walking,), energy=(0.3, 1), reverb=16, volume=1.0),
        Layer(
            "chords",
            ("grand", "jazz guitar", "bright piano", "vibraphone", "rhodes"),
            (stabs(*_COMP, gate=0.8),),
            reverb=34,
            pan=-0.25,
            volume=0.85,
        ),
        Layer(
            "lead",
            (
                "tenor sax",
                "alto sax",
                "muted trumpet",
                "trumpet",
                "grand",
                "vibraphone",
                "jazz guitar",
                "clarinet",
                "flute",
            ),
            (theme("song", "busy"), theme("busy"), theme("song")),
            only=("verse", "bridge"),
            reverb=44,
            pan=0.15,
        ),
        Layer(
            "lead",
            ("trombone", "tenor sax", "trumpet"),
            (harmony("song", "busy"),),
            only=("verse",),
            energy=(0.55, 1),
            chance=0.25,
            reverb=44,
            pan=0.35,
            volume=0.7,
        ),
        Layer(
            "lead",
            ("tenor sax", "alto sax", "trumpet", "grand", "vibraphone", "jazz guitar", "clarinet"),
            (solo(0.5),),
            only=("solo",),
            reverb=44,
            pan=0.15,
        ),
    ),
    weight=0.6,
)

BOSSA = replace(
    JAZZ,
    tempos=(112, 144),
    swing=(0.5, 0.5),
    weight=0.22,
    words=("bossa nova", "Latin groove", "jazz combo"),
    layers=(
        Layer(
            "drums",
            ("jazz kit", "brush kit"),
            (
                kit(
                    ({"hat": "o.o.o.o.o.o.o.o."},),
                    (
                        {
                            "rim": "x.....x.....x...|....x.....x.....",
                            "hat": "o.o.o.o.o.o.o.o.",
                            "kick": "x.....x.x.....x.",
                        },
                    ),
                    (
                        {
                            "rim": "x.....x.....x...|....x.....x.....",
                            "ride": "x.o.x.o.x.o.x.o.",
                            "kick": "x.....x.x.....x.",
                            "shaker": "ogogogogogogogog",
                        },
                    ),
                    fills=({"snare": "............o.xx"},),
                    crash="",
                ),
            ),
            reverb=30,
            energy=(0.3, 1),
            volume=0.8,
        ),
        Layer(
            "bass",
            ("double bass", "fretless bass"),
            (line("R-----5-5-----R-", "R-----r-5-----a-"),),
            energy=(0.3, 1),
            reverb=16,
        ),
        Layer(
            "chords",
            ("nylon guitar", "grand", "rhodes"),
            (stabs("x-..x-..x-..x-..|..x-..x-..x-..x-", "x-....x-..x-..x-|..x-..x-....x-..", gate=0.9),),
            reverb=34,
            pan=-0.25,
        ),
        *JAZZ.layers[3:],
    ),
)

JAZZ_WALTZ = replace(
    JAZZ,
    beats_per_bar=3,
    tempos=(120, 176),
    weight=0.18,
    words=("jazz waltz", "waltz time", "jazz combo"),
    layers=(
        Layer(
            "drums",
            ("jazz kit", "brush kit"),
            (
                kit(
                    ({"ride": "x...x.x.x...", "pedal": "....x......."},),
                    ({"ride": "x...x.x.x.x.", "pedal": "....x...x...", "kick": "o..........."},),
                    (
                        {
                            "ride": "X...x.x.x.x.",
                            "pedal": "....x...x...",
                            "snare": "......o.....|..o.......o.",
                            "kick": "o.........o.",
                        },
                    ),
                    fills=({"snare": "......x.x.x."},),
                    crash="",
                ),
            ),
            reverb=30,
            energy=(0.3, 1),
            volume=0.85,
        ),
        Layer("bass", ("double bass",), (walking, line("R-------5---", "R---5---a---")), energy=(0.3, 1), reverb=16),
        Layer(
            "chords",
            ("grand", "jazz guitar", "vibraphone"),
            (stabs("x-....x-....|..x-....x-..", "....x-......|x-....x-....", gate=0.85),),
            reverb=34,
            pan=-0.25,
        ),
        *JAZZ.layers[3:],
    ),
)
