"""Clips of a system → its column: marks with intervals and floors, sound, form, distances, diversity."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from audiogen.evaluation.clips import (
    ENDING_FROM_SECONDS,
    MARKS,
    ending_mark,
    faults,
    length_mark,
    marks,
    plan_marks,
    planned,
)
from audiogen.evaluation.prompts import EvaluationPrompt
from audiogen.evaluation.statistics import estimate, frechet_distance, kernel_distance
from audiogen.evaluation.systems import Clip
from audiogen.interfaces import AudiogenError, Score
from audiogen.storage import read_json
from audiogen.style.plan_file import score_from_json

SHUFFLES = 20
SOUND: dict[str, str] = {
    "loudness_lufs": "loudness, LUFS",
    "true_peak_db": "true peak, dBTP",
    "width_db": "side over mid, dB",
    "bandwidth_hz": "bandwidth, Hz",
    "clicks": "clicks in a minute",
    "silence_seconds": "longest silence, s",
    "stuck_seconds": "stuck loops, s",
    "clipped_share": "samples clipped, share",
}
FORM: dict[str, str] = {
    "boundaries": "section boundaries in a minute",
    "novelty": "novelty at boundaries",
    "repeated_share": "repeated to the letter, share",
    "drift_db": "drift of the level, dB",
    "key_kept": "key of both halves the same",
}
_DISTANCE_ROWS = 50  # a Fréchet distance of fewer says nothing


def plan_of(path: Path) -> Score | None:
    """The plan that the JSON beside a clip tells, if there is one."""
    try:
        told = read_json(path.with_suffix(".json"))
        return score_from_json(told["plan"], str(path))[0] if told.get("generated_by") == "audiogen" else None
    except (AudiogenError, KeyError, AttributeError, TypeError):
        return None


def marks_of(clip: Clip, folder: Path) -> dict[str, float]:
    """All marks of a clip: 0 for everything asked for where there is none."""
    asked = clip.prompt.asked
    if clip.measured is None:
        nothing = {
            "tempo_bpm": ("tempo", "tempo_octave"), "key": ("key", "key_closeness"), "beats_per_bar": ("metre",),
            "style": ("style",), "moods": ("moods",), "instruments": ("instruments",), "absent": ("absent",),
            "energy": ("energy",),
        }  # fmt: skip
        found = {mark: 0.0 for name, names in nothing.items() if getattr(asked, name) for mark in names}
        if clip.prompt.seconds >= ENDING_FROM_SECONDS:
            found["ending"] = 0.0
        plan = plan_of(folder / clip.prompt.file(clip.take))
        return found | {"length": 0.0} | dict.fromkeys(planned(plan) if plan else (), 0.0)
    found = marks(asked, clip.measured) | {"length": length_mark(clip.prompt.seconds, clip.measured)}
    ending = ending_mark(clip.measured)
    if ending is not None:
        found["ending"] = ending
    plan = plan_of(folder / clip.prompt.file(clip.take))
    return found if plan is None else found | plan_marks(plan, clip.measured)


def floors(clips: Sequence[Clip], seed: int = 0) -> dict[str, float]:
    """Marks of the same clips for other prompts' wishes: what chance gives. For each thing, wishes are exchanged among
    the clips whose prompts name it."""
    found: dict[str, list[float]] = {}
    random = np.random.default_rng(seed)
    sound = [clip for clip in clips if clip.measured is not None]
    for name in ("tempo_bpm", "key", "beats_per_bar", "style", "moods", "instruments", "absent", "energy"):
        those = [clip for clip in sound if getattr(clip.prompt.asked, name)]
        prompts = sorted({clip.prompt.id for clip in those})
        if len(prompts) < 2:
            continue
        wishes = {clip.prompt.id: clip.prompt.asked for clip in those}
        for _ in range(SHUFFLES):
            order = random.permutation(len(prompts))
            other = {prompts[order[i]]: wishes[prompts[order[i - 1]]] for i in range(len(order))}
            for clip in those:
                only = clip.prompt.asked.__class__(**{name: getattr(other[clip.prompt.id], name)})
                assert clip.measured is not None
                for mark, value in marks(only, clip.measured).items():
                    found.setdefault(mark, []).append(value)
    return {mark: round(float(np.mean(values)), 5) for mark, values in found.items()}


def summarise(clips: Sequence[Clip], folder: Path, reference: np.ndarray | None) -> dict[str, Any]:
    """The column of a system, ready for JSON. `reference`: vectors of held-out music, `[N, 128]`."""
    told = [marks_of(clip, folder) for clip in clips]
    chance = floors(clips)
    kinds = list(dict.fromkeys(clip.prompt.kind for clip in clips))
    sounding = [clip for clip in clips if clip.measured is not None]

    def column(name: str, chosen: Callable[[EvaluationPrompt], bool]) -> Any:
        pairs = [
            (m[name], clip.prompt.id) for m, clip in zip(told, clips, strict=True) if name in m and chosen(clip.prompt)
        ]
        return estimate([value for value, _ in pairs], [group for _, group in pairs])

    rows: dict[str, Any] = {}
    for name in MARKS:
        whole = column(name, lambda prompt: True)
        if whole.size:
            rows[name] = whole.to_json() | {"floor": chance.get(name)}
    return {
        "clips": len(clips),
        "failures": [
            {"file": clip.prompt.file(clip.take), "problem": clip.problem} for clip in clips if clip.problem is not None
        ],
        "faults": [
            {"file": clip.prompt.file(clip.take), "fault": ", ".join(found)}
            for clip in sounding
            if (found := faults(clip.prompt.seconds, clip.measured or {}))
        ],
        "marks": rows,
        "by_kind": {
            kind: {
                name: part.to_json()
                for name in MARKS
                if (part := column(name, lambda prompt, kind=kind: prompt.kind == kind)).size  # type: ignore[misc]
            }
            for kind in kinds
        },
        "sound": _means(sounding, SOUND, _sound_value),
        "form": _means([c for c in sounding if "form" in (c.measured or {})], FORM, _form_value),
        "distance": _distances(sounding, reference),
        "diversity": _diversity(sounding),
    }


def _means(clips: Sequence[Clip], names: dict[str, str], value: Callable[[dict[str, Any], str], Any]) -> dict[str, Any]:
    found = {}
    for name in names:
        pairs = [(value(clip.measured or {}, name), clip.prompt.id) for clip in clips]
        pairs = [(number, group) for number, group in pairs if number is not None]
        if pairs:
            found[name] = estimate([float(n) for n, _ in pairs], [group for _, group in pairs]).to_json()
    return found


def _sound_value(measured: dict[str, Any], name: str) -> Any:
    if name == "clicks":
        return measured["sound"]["clicks"] * 60 / measured["seconds"]
    return measured["sound"].get(name, measured["defects"].get(name))


def _form_value(measured: dict[str, Any], name: str) -> Any:
    if name == "boundaries":
        return len(measured["form"]["boundaries_seconds"]) * 60 / measured["seconds"]
    return measured["form"].get(name)


def _distances(clips: Sequence[Clip], reference: np.ndarray | None) -> dict[str, Any]:
    vectors = [clip.vectors for clip in clips if clip.vectors is not None]
    return distances(np.concatenate(vectors) if vectors else np.zeros((0, 1)), reference)


def distances(rows: np.ndarray, reference: np.ndarray | None) -> dict[str, Any]:
    """Between the vectors of all windows of the clips `[N, D]` and those of held-out music `[M, D]`; null of few."""
    if reference is None or min(len(rows), len(reference)) < _DISTANCE_ROWS:
        return {"rows": len(rows), "frechet": None, "kernel": None}
    return {
        "rows": len(rows),
        "frechet": round(frechet_distance(rows, reference), 4),
        "kernel": round(kernel_distance(rows, reference), 5),
    }


def _diversity(clips: Sequence[Clip]) -> dict[str, Any]:
    """Mean angle, as 1 less its cosine, between takes of one prompt, and between clips of different prompts."""
    means = {
        (clip.prompt.id, clip.take): clip.vectors.astype(np.float64).mean(0)
        for clip in clips
        if clip.vectors is not None
    }
    if not means:
        return {"takes": None, "prompts": None}
    matrix = np.stack(list(means.values()))
    matrix -= matrix.mean(0)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True) + 1e-9
    apart = 1 - matrix @ matrix.T
    ids = np.array([key[0] for key in means])
    same = ids[:, None] == ids
    upper = np.triu(np.ones_like(same), 1)

    def mean(chosen: np.ndarray) -> float | None:
        return round(float(apart[chosen].mean()), 5) if chosen.any() else None

    return {"takes": mean(same & upper), "prompts": mean(~same & upper)}


def finite(value: Any) -> Any:
    """A copy without NaN and infinities, which JSON does not have."""
    if isinstance(value, dict):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
