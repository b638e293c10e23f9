"""Folk: strummed and picked guitars, fiddles and flutes, in four or in three."""

from __future__ import annotations

from dataclasses import replace

from ..bass_parts import line
from ..harmony_parts import arpeggio, pad, strum
from ..melody_parts import counter, harmony, solo, theme
from ..model import Layer, Style
from ..rhythm import kit

FOLK = Style(
    name="folk",
    tempos=(84, 124),
    major=0.65,
    loose_seconds=0.009,
    words=("acoustic", "campfire", "fingerpicked"),
    moods={
        "major": ("warm", "happy", "hopeful", "playful", "bright", "calm", "romantic"),
        "minor": ("melancholic", "sad", "warm", "mysterious", "calm", "hopeful"),
    },
    scales={"major": ("ionian", "major pentatonic", "mixolydian"), "minor": ("dorian", "aeolian", "minor pentatonic")},
    cadences={"major": ("IV V", "IV IV", "V7 V7"), "minor": ("bVII bVII", "v v", "iv V")},
    finals={"major": "I", "minor": "i"},
    progressions={
        "major": {
            "": ("I IV I V", "I V vi IV", "I I IV I", "I IV V I", "vi IV I V", "I bVII IV I"),
            "chorus": ("IV I V vi", "IV V I I", "I V IV I", "vi V IV I"),
            "bridge": ("vi iii IV V", "ii vi IV V"),
        },
        "minor": {
            "": ("i bVII i bVII", "i bVII bVI bVII", "i iv i v", "i bIII bVII i", "i IV i IV"),
            "chorus": ("bIII bVII i i", "bVI bIII bVII i", "iv i bVII i"),
            "bridge": ("bVI bVII bIII iv", "iv bVII i i"),
        },
    },
    forms=(
        "intro:1:.3 verse:2:.45 chorus:1:.65 verse:2:.5 chorus:1:.7 bridge:1:.5 chorus:2:.75 outro:1:.35",
        "intro:1:.3 verse:2:.45 chorus:2:.65 solo:1:.6 verse:1:.5 chorus:1:.7 outro:1:.3",
        "intro:1:.35 verse:1:.45 chorus:1:.65 verse:1:.5 chorus:1:.7 outro:1:.35",
        "verse:2:.4>.5 chorus:1:.65 verse:1:.5 break:1:.3 chorus:2:.7 outro:1:.3",
    ),
    layers=(
        Layer(
            "chords",
            ("steel guitar", "nylon guitar"),
            (
                strum("D---d-u-..u-d-u-", "D-------d-u-d-u-", "D---D-u-d-u-d-u-"),
                arpeggio("0213", "02132313", "03132313", "0123", step=0.5, size=5, ring=True),
            ),
            reverb=30,
            pan=-0.3,
        ),
        Layer(
            "chords",
            ("banjo", "steel guitar", "dulcimer", "nylon guitar", "harp"),
            (
                arpeggio("0123", "0213", "3120", "0321", step=0.25, gate=1.4),
                arpeggio("0213", "2130", step=0.5, ring=True),
            ),
            energy=(0.42, 1),
            chance=0.7,
            pan=0.45,
            reverb=34,
            volume=0.75,
        ),
        Layer(
            "bass",
            ("double bass", "finger bass", "fretless bass"),
            (line("R-------5-------", "R-------5-----a-"), line("R-----r-5-------", "R-------R---a---")),
            energy=(0.4, 1),
            reverb=14,
        ),
        Layer(
            "drums",
            ("brush kit", "hand percussion", "standard kit"),
            (
                kit(
                    ({"shaker": "x.o.x.o.x.o.x.o."}, {"tambourine": "....o.......o...", "shaker": "o.o.o.o.o.o.o.o."}),
                    (
                        {"kick": "X.......x.......", "shaker": "x.o.x.o.x.o.x.o.", "tambourine": "....x.......x..."},
                        {"kick": "X.......X.....o.", "rim": "....x.......x...", "shaker": "o.x.o.x.o.x.o.x."},
                    ),
                    (
                        {
                            "kick": "X.......X.x.....",
                            "snare": "....x.......x...",
                            "hat": "x.o.x.o.x.o.x.o.",
                            "tambourine": "....x.......x...",
                        },
                        {"kick": "X...X...X...X...", "tambourine": "..o.x.o...o.x.o.", "shaker": "xoxoxoxoxoxoxoxo"},
                    ),
                    fills=({"snare": "............o.xx"}, {"tom3": "............x.x."}),
                    crash="",
                ),
            ),
            energy=(0.4, 1),
            rests=("break",),
            reverb=24,
            volume=0.85,
        ),
        Layer(
            "lead",
            ("fiddle", "flute", "recorder", "clarinet", "violin", "steel guitar", "nylon guitar"),
            (theme("song"), theme("song", "calm"), theme("busy", "song")),
            energy=(0.35, 1),
            rests=("solo",),
            reverb=48,
            pan=0.1,
        ),
        Layer(
            "lead",
            ("fiddle", "flute", "recorder", "violin", "clarinet"),
            (harmony("song"), counter),
            energy=(0.6, 1),
            only=("chorus",),
            chance=0.6,
            reverb=48,
            pan=-0.15,
            volume=0.75,
        ),
        Layer(
            "lead",
            ("fiddle", "flute", "steel guitar", "banjo", "clarinet"),
            (solo(0.5),),
            only=("solo",),
            reverb=40,
            pan=0.1,
        ),
        Layer(
            "chords",
            ("slow strings", "ooh choir", "cello"),
            (pad(3, 0.5),),
            energy=(0.6, 1),
            chance=0.4,
            reverb=70,
            volume=0.7,
        ),
    ),
    weight=0.65,
)

FOLK_WALTZ = replace(
    FOLK,
    beats_per_bar=3,
    tempos=(96, 150),
    weight=0.35,
    words=("acoustic waltz", "waltz time", "fingerpicked"),
    layers=(
        Layer(
            "chords",
            ("steel guitar", "nylon guitar"),
            (
                strum("D---d---d---", "D---d-u-d-u-", "D-----u-d---"),
                arpeggio("012321", "021323", "013231", step=0.5, size=5, ring=True),
            ),
            reverb=30,
            pan=-0.3,
        ),
        Layer(
            "chords",
            ("banjo", "dulcimer", "harp", "nylon guitar"),
            (arpeggio("012321", "0213", step=0.5, ring=True),),
            energy=(0.42, 1),
            chance=0.7,
            pan=0.45,
            reverb=34,
            volume=0.75,
        ),
        Layer(
            "bass",
            ("double bass", "finger bass"),
            (line("R-----------|5-----------", "R-------a---"), line("R-----------")),
            energy=(0.4, 1),
            reverb=14,
        ),
        Layer(
            "drums",
            ("brush kit", "hand percussion", "standard kit"),
            (
                kit(
                    ({"shaker": "x.o.o.o.o.o."},),
                    (
                        {"kick": "X...........", "shaker": "x.o.x.o.x.o.", "tambourine": "....o...o..."},
                        {"kick": "X...........", "rim": "....o...o...", "shaker": "o.o.o.o.o.o."},
                    ),
                    (
                        {"kick": "X...........", "snare": "....o...x...", "hat": "x.o.x.o.x.o."},
                        {"kick": "X.........o.", "tambourine": "....x...x...", "shaker": "x.o.x.o.x.o."},
                    ),
                    fills=({"snare": "......o.x.xx"},),
                    crash="",
                ),
            ),
            energy=(0.4, 1),
            rests=("break",),
            reverb=24,
            volume=0.85,
        ),
        *FOLK.layers[4:],
    ),
)
