"""Every style with its variants, one module a style, in the order of the vocabulary."""

from __future__ import annotations

from audiogen.interfaces import STYLES

from ..model import Style
from . import ambient, cinematic, classical_piano, drum_and_bass, folk, house, jazz, lo_fi, rock, techno

VARIANTS: dict[str, tuple[Style, ...]] = {
    "ambient": (ambient.AMBIENT,),
    "cinematic": (cinematic.CINEMATIC,),
    "classical piano": (
        classical_piano.NOCTURNE,
        classical_piano.SONATINA,
        classical_piano.PRELUDE,
        classical_piano.PIANO_WALTZ,
    ),
    "drum and bass": (drum_and_bass.DRUM_AND_BASS,),
    "folk": (folk.FOLK, folk.FOLK_WALTZ),
    "house": (house.HOUSE,),
    "jazz": (jazz.JAZZ, jazz.BOSSA, jazz.JAZZ_WALTZ),
    "lo-fi": (lo_fi.LO_FI,),
    "rock": (rock.ROCK,),
    "techno": (techno.TECHNO,),
}
assert tuple(VARIANTS) == STYLES
