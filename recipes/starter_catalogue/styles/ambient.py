"""Ambient: slow pads, single ringing tones, hardly a beat."""

from __future__ import annotations

from ..bass_parts import hold
from ..harmony_parts import arpeggio, pad, rolled
from ..melody_parts import counter, sparse, theme
from ..model import Layer, Style

AMBIENT = Style(
    name="ambient",
    tempos=(60, 84),
    major=0.55,
    loose_seconds=0.014,
    bars_per_chord=2,
    words=("atmospheric", "drifting", "spacious"),
    moods={
        "major": ("calm", "dreamy", "warm", "hopeful", "bright", "mysterious"),
        "minor": ("calm", "dreamy", "mysterious", "melancholic", "dark", "sad"),
    },
    scales={"major": ("lydian", "ionian", "major pentatonic"), "minor": ("dorian", "aeolian", "minor pentatonic")},
    cadences={"major": ("IVmaj7 Isus2", "IVmaj9 IVmaj9"), "minor": ("bVImaj7 bVImaj7", "bVII bVII")},
    finals={"major": "Imaj9", "minor": "i9"},
    progressions={
        "major": {
            "": (
                "Imaj9 IVmaj9",
                "Imaj7 II Imaj7 II",
                "Isus2 vi9 IVmaj7 IVmaj7",
                "Imaj9 iii7 IVmaj9 IVmaj9",
                "IVmaj9 Imaj7 vi7 Isus2",
            )
        },
        "minor": {
            "": ("i9 bVImaj9", "i9 IV9 i9 IV9", "i7 bIIImaj7 bVII bVImaj7", "bVImaj9 bVII i9 i9", "i9 v7 bVImaj7 iv9")
        },
    },
    forms=(
        "intro:1:.15>.3 verse:2:.35>.45 bridge:1:.45 chorus:2:.5>.6 break:1:.25 outro:1:.3>.15",
        "intro:1:.1>.3 verse:1:.3>.4 chorus:1:.5>.55 outro:1:.3>.15",
        "intro:1:.15>.3 verse:1:.35 chorus:1:.5 break:1:.2 chorus:1:.55 outro:1:.3>.15",
        "intro:1:.15>.25 verse:2:.35 chorus:2:.45>.6 outro:1:.3>.1",
        "verse:1:.2>.4 chorus:1:.45>.55 outro:1:.35>.15",
    ),
    layers=(
        Layer(
            "chords",
            ("warm pad", "sweep pad", "new age pad", "bowed pad", "halo pad", "soundtrack"),
            (pad(4, 0.62),),
            reverb=96,
            chorus=50,
            pan=-0.2,
        ),
        Layer(
            "chords",
            ("slow strings", "choir pad", "ooh choir", "synth strings", "choir"),
            (pad(3, 0.55),),
            energy=(0.28, 1),
            reverb=96,
            chorus=30,
            pan=0.25,
            chance=0.8,
            volume=0.8,
        ),
        Layer(
            "bass",
            ("round synth bass", "fretless bass", "cello", "low strings"),
            (hold(),),
            energy=(0.22, 1),
            reverb=50,
            volume=0.85,
        ),
        Layer(
            "lead",
            ("celesta", "music box", "crystal", "vibraphone", "grand", "rhodes", "kalimba", "harp"),
            (sparse(0.4, 1.0, 1.5), sparse(0.5, 1.0, 0.75), sparse(0.3, 0.5, 2.0)),
            energy=(0.2, 1),
            reverb=110,
            chorus=10,
            pan=0.2,
            volume=0.9,
        ),
        Layer(
            "chords",
            ("harp", "nylon guitar", "rhodes", "synth pluck", "vibraphone", "atmosphere"),
            (
                arpeggio("0123", "012321", "0213", "02.13.", step=0.5, ring=True),
                arpeggio("0.1.2.3.", "0123....", step=0.5, ring=True),
                rolled(4, 0.5, 0.25),
            ),
            energy=(0.32, 1),
            reverb=100,
            pan=-0.4,
            chance=0.75,
            volume=0.75,
        ),
        Layer(
            "lead",
            ("flute", "clarinet", "french horn", "calliope lead", "cello", "violin"),
            (theme("calm"), counter),
            energy=(0.42, 1),
            only=("chorus", "bridge"),
            reverb=110,
            chance=0.6,
            volume=0.75,
        ),
    ),
)
