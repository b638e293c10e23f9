"""What house, techno and drum and bass share: forms and moods of the dance floor."""

from __future__ import annotations

DANCE_FORMS = (
    "intro:2:.2>.5 verse:2:.55 build:1:.5>.75 chorus:2:.9 break:1:.3 build:1:.45>.8 chorus:2:.95 outro:2:.6>.3",
    "intro:1:.3>.5 verse:2:.55>.65 chorus:2:.85 break:2:.25>.35 build:1:.5>.85 chorus:2:.95 outro:1:.5>.3",
    "intro:2:.25>.55 chorus:2:.8 verse:2:.6 break:1:.3 build:1:.5>.85 chorus:3:.95 outro:1:.5>.35",
    "intro:1:.35>.5 verse:2:.6 build:1:.6>.8 chorus:2:.9 outro:1:.5>.35",
    "intro:1:.3>.55 chorus:2:.85 break:1:.3>.45 chorus:2:.95 outro:1:.55>.4",
)

DANCE_MOODS = {
    "major": ("energetic", "happy", "bright", "hopeful", "warm", "playful", "dreamy"),
    "minor": ("energetic", "dark", "mysterious", "melancholic", "tense", "warm", "dreamy"),
}
