"""One clip: what is measured in it, and how much of what was asked for it has.

Measurements are plain values, kept as JSON, and marks are read from them alone: so marks against other prompts, the
floor, cost nothing.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from audiogen.audio.defects import find_defects
from audiogen.audio.io import read
from audiogen.audio.measured import key_closeness, tempo_met
from audiogen.audio.sound import measure_sound
from audiogen.evaluation.form import boundary_f, measure_form
from audiogen.evaluation.prompts import Asked
from audiogen.interfaces import Attributes, Key, Score, Waveform
from audiogen.style.hearing import hear_parts
from audiogen.style.tagger import LIKELY, Tagger

MARKS: dict[str, str] = {
    "tempo": "tempo within 4 %",
    "tempo_octave": "tempo within 4 %, octaves allowed",
    "key": "key",
    "key_closeness": "key, by the marks of MIREX",
    "metre": "beats a bar",
    "style": "style",
    "moods": "moods among the three likeliest, share",
    "instruments": "instruments heard, share",
    "absent": "instruments left out, share",
    "energy": "energy, 1 less the distance",
    "energy_curve": "energy over time, correlation with the plan",
    "sections": "section boundaries within 3 s of the plan's, F",
    "length": "length to the sample",
    "ending": "dies away at its end",
}
"""what each mark is; all lie in 0…1 but the correlation"""

ENDED_DB = -12.0
"""level of the last quarter of a second over that of the whole clip, at most, for it to have ended"""
ENDING_FROM_SECONDS = 20.0
FAULTY_SILENCE_SECONDS, FAULTY_REPEATS, FAULTY_CLICKS, FAULTY_CLIPPED = 1.0, 0.6, 2.0, 0.01
"""from where on a clip is at fault: seconds of silence, share repeated, clicks a minute, share of samples clipped"""
_FORM_KEY_SECONDS = 60.0
_LIKELIEST_MOODS = 3  # the tagger is seldom sure of a mood


def measure_clip(path: str | Path, tagger: Tagger) -> tuple[dict[str, Any], np.ndarray]:
    """→ what is measured in the file, ready for JSON, and the tagger's vectors `[W, 128]` float16.

    Raises AudiogenError for a file that is no audio, silent, or shorter than 3 s.
    """
    whole = read(path)

    def part(start: float, seconds: float) -> Waveform:
        rate = whole.sample_rate
        return Waveform(whole.samples[:, round(start * rate) : round((start + seconds) * rate)], rate)

    heard = hear_parts(part, whole.seconds, str(path))
    tags, form = tagger.tag(heard), measure_form(heard)
    told: dict[str, Any] = {
        "seconds": whole.samples.shape[1] / whole.sample_rate,
        "sample_rate": whole.sample_rate,
        "channels": whole.channels,
        "sound": {name: round(value, 4) for name, value in asdict(measure_sound(whole)).items()},
        "defects": {name: round(v, 6) for name, v in asdict(find_defects(part, whole.seconds)).items()},
        "tags": tags.to_json(),
    }
    if form is not None:
        told["form"] = {
            name: [round(each, 2) for each in value] if isinstance(value, tuple) else round(value, 5)
            for name, value in asdict(form).items()
        }
    if whole.seconds >= _FORM_KEY_SECONDS:
        half = heard.frames // 2
        keys = [tagger.tag(heard.cut(start, half), heard.loudest_db()).key_name for start in (0, half)]
        told["form"]["key_kept"] = keys[0] == keys[1]
    return told, tags.embeddings.astype(np.float16)


def marks(asked: Asked, measured: dict[str, Any]) -> dict[str, float]:
    """0…1 for each thing that `asked` names."""
    tags = measured["tags"]
    found: dict[str, float] = {}
    if asked.tempo_bpm is not None:
        heard = tags["tempo_bpm"]["heard"]
        found["tempo"] = float(tempo_met(asked.tempo_bpm, heard, "strict"))
        found["tempo_octave"] = float(tempo_met(asked.tempo_bpm, heard, "octave"))
    if asked.key is not None:
        wanted, key = Key.parse(asked.key), Key.parse(tags["key"]["heard"])
        found["key"], found["key_closeness"] = float(wanted == key), key_closeness(wanted, key)
    if asked.beats_per_bar is not None:
        found["metre"] = float(tags["beats_per_bar"]["heard"] == asked.beats_per_bar)
    if asked.style is not None:
        found["style"] = float(next(iter(tags["style"])) == asked.style)
    if asked.moods:
        found["moods"] = float(np.mean([name in list(tags["moods"])[:_LIKELIEST_MOODS] for name in asked.moods]))
    for name, wanted_names, present in (("instruments", asked.instruments, True), ("absent", asked.absent, False)):
        if wanted_names:
            chances = tags["instruments"]
            found[name] = float(np.mean([(chances[each] >= LIKELY) == present for each in wanted_names]))
    if asked.energy is not None:
        mean = float(np.mean([value for _, value in tags["energy"]]))
        found["energy"] = max(0.0, 1.0 - abs(mean - asked.energy))
    return found


def length_mark(seconds: float, measured: dict[str, Any]) -> float:
    """1 for the length asked for, to half a sample."""
    return float(abs(measured["seconds"] - seconds) * measured["sample_rate"] <= 0.5)


def ending_mark(measured: dict[str, Any]) -> float | None:
    """Whether a clip of 20 s or more dies away; None for a shorter one, a piece of the middle."""
    if measured["seconds"] < ENDING_FROM_SECONDS:
        return None
    return float(measured["sound"]["ending_db"] <= ENDED_DB)


def faults(seconds: float, measured: dict[str, Any]) -> list[str]:
    """What is plainly wrong in a clip that should last `seconds`, in words. None of the 150 measurements of held-out
    music, nor of the same through the codec, has any of it."""
    defects, sound, form = measured["defects"], measured["sound"], measured.get("form")
    clicks, clipped = sound["clicks"] * 60 / measured["seconds"], defects["clipped_share"]
    return [
        text
        for wrong, text in (
            (not length_mark(seconds, measured), f"lasts {measured['seconds']:.3f} s instead of {seconds:g}"),
            (defects["silence_seconds"] >= FAULTY_SILENCE_SECONDS, f"silent for {defects['silence_seconds']:.2f} s"),
            (defects["stuck_seconds"] > 0, f"stuck in a loop for {defects['stuck_seconds']:.1f} s"),
            (form and form["repeated_share"] >= FAULTY_REPEATS, "repeats itself to the letter"),
            (clicks >= FAULTY_CLICKS, f"{clicks:.0f} clicks a minute"),
            (clipped >= FAULTY_CLIPPED, f"{100 * clipped:.1f} % of its samples are clipped"),
        )
        if wrong
    ]


def planned(score: Score) -> list[str]:
    """The marks that a plan asks for; one whose energy stands still asks for no curve."""
    curve = len(score.energy) > 1 and float(np.std([value for _, value in score.energy])) > 0.0
    asked = {"energy_curve": curve, "sections": any(start > 0 for start, _ in score.sections)}
    return [name for name, wanted in asked.items() if wanted]


def plan_marks(score: Score, measured: dict[str, Any]) -> dict[str, float]:
    """How well the clip follows a plan that its JSON tells, or the labels of a recording."""
    found: dict[str, float] = {}
    asked = planned(score)
    if "energy_curve" in asked:
        times, heard = np.array(measured["tags"]["energy"]).T
        meant = np.interp(times, *np.array(score.energy).T)
        if meant.std() > 0.02 and heard.std() > 0:
            found["energy_curve"] = float(np.corrcoef(meant, heard)[0, 1])
    starts = [start for start, _ in score.sections if start > 0]
    if "sections" in asked and "form" in measured:
        found["sections"] = boundary_f(starts, measured["form"]["boundaries_seconds"])
    return found


def asked_of(labels: Attributes) -> Asked:
    """What a prompt that says all of `labels` asks for."""
    return Asked(
        style=labels.style, moods=labels.moods, instruments=labels.instruments, tempo_bpm=labels.tempo_bpm,
        key=None if labels.key is None else str(labels.key), beats_per_bar=labels.beats_per_bar, energy=labels.energy,
    )  # fmt: skip
