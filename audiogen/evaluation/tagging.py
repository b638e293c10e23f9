"""How often tags are right: against the labels of tracks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from audiogen.audio.measured import key_closeness, tempo_met
from audiogen.data.manifest import Track
from audiogen.files import atomic_path
from audiogen.interfaces import INSTRUMENTS, MOODS, STYLES, Key
from audiogen.style.tagger import LIKELY, Tags


def average_precision(scores: np.ndarray, present: np.ndarray) -> float:
    """Mean precision at each recording that has the label, the highest score first; equal scores share their rank.

    `scores` and `present` (bool) `[N]`. NaN where none has it.
    """
    if not present.any():
        return float("nan")
    taken = [scores >= threshold for threshold in scores[present]]
    return float(np.mean([present[chosen].mean() for chosen in taken]))


def score_tags(tags: Sequence[Tags], tracks: Sequence[Track]) -> dict[str, Any]:
    """Figures for labelled tracks, ready for JSON: accuracies 0…1, mean average precisions, correlation of energy."""
    styles = [
        (tag.style, STYLES.index(track.style)) for tag, track in zip(tags, tracks, strict=True) if track.style in STYLES
    ]
    keys = [(Key.parse(track.key), tag) for tag, track in zip(tags, tracks, strict=True) if track.key]
    tempos = [(track.tempo_bpm, tag.tempo_bpm) for tag, track in zip(tags, tracks, strict=True) if track.tempo_bpm]
    metres = [
        (track.beats_per_bar, tag) for tag, track in zip(tags, tracks, strict=True) if track.beats_per_bar in (3, 4)
    ]
    each = {
        "instruments": precisions(
            np.stack([tag.instruments for tag in tags]), [t.instruments for t in tracks], INSTRUMENTS
        ),
        "moods": precisions(np.stack([tag.moods for tag in tags]), [t.moods for t in tracks], MOODS),
    }
    return {
        "recordings": len(tags),
        "style": _mean([chances.argmax() == index for chances, index in styles]),
        "style_cross_entropy": _mean([-np.log(chances[index] + 1e-9) for chances, index in styles]),
        "style_sure": _mean([chances.max() for chances, _ in styles]),
        "key": _mean([tag.key_name == key for key, tag in keys]),
        "key_closeness": _mean([key_closeness(key, tag.key_name) for key, tag in keys]),
        "key_sure": _mean([tag.key.max() for _, tag in keys]),
        "tempo": _mean([tempo_met(asked, heard, "strict") for asked, heard in tempos]),
        "tempo_octave": _mean([tempo_met(asked, heard, "octave") for asked, heard in tempos]),
        "metre": _mean([tag.beats_per_bar == asked for asked, tag in metres]),
        "instruments_map": _mean([value for value in each["instruments"].values() if value is not None]),
        "moods_map": _mean([value for value in each["moods"].values() if value is not None]),
        "instruments_f1": f1(tags, tracks),
        "energy_correlation": energy_correlation(tags, tracks),
        "average_precision": each,
    }


def precisions(chances: np.ndarray, labels: Sequence[Sequence[str]], names: Sequence[str]) -> dict[str, float | None]:
    """Average precision of each name over recordings, None where none has it; `chances` `[N, names]`."""
    present = np.array([[name in label for name in names] for label in labels])
    found = {name: average_precision(chances[:, i], present[:, i]) for i, name in enumerate(names)}
    return {name: None if np.isnan(value) else round(value, 4) for name, value in found.items()}


def f1(tags: Sequence[Tags], tracks: Sequence[Track]) -> float:
    """Harmonic mean of precision and recall of the instruments said to be present, over all recordings together."""
    said = np.stack([tag.instruments >= LIKELY for tag in tags])
    true = np.array([[name in track.instruments for name in INSTRUMENTS] for track in tracks])
    return float(2 * (said & true).sum() / max(1, said.sum() + true.sum()))


def energy_correlation(tags: Sequence[Tags], tracks: Sequence[Track]) -> float:
    """Mean over tracks of the correlation of the curve heard with the curve meant; flat ones do not count."""
    found = []
    for tag, track in zip(tags, tracks, strict=True):
        if len(track.energy) > 1 and len(tag.energy) > 2:
            meant = np.interp(tag.energy[:, 0], *np.array(track.energy).T)
            if meant.std() > 0.02 and tag.energy[:, 1].std() > 0:
                found.append(np.corrcoef(meant, tag.energy[:, 1])[0, 1])
    return _mean(found)


def confusion(tags: Sequence[Tags], tracks: Sequence[Track]) -> np.ndarray:
    """How many recordings of each style (rows) are heard as each (columns), `[10, 10]`."""
    counts = np.zeros((len(STYLES), len(STYLES)), int)
    for tag, track in zip(tags, tracks, strict=True):
        if track.style in STYLES:
            counts[STYLES.index(track.style), int(tag.style.argmax())] += 1
    return counts


def _mean(values: Sequence[Any]) -> float:
    return round(float(np.mean(values)), 4) if len(values) else 0.0


def confusion_figure(counts: np.ndarray, path: str | Path) -> None:
    """Draw a confusion matrix of the styles, shares of each row, as a PNG."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(6.4, 5.6), dpi=110, layout="constrained")
    axis = drawing.subplots()
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axis.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=9)
    axis.set_xticks(range(len(STYLES)), STYLES, rotation=45, ha="right")
    axis.set_yticks(range(len(STYLES)), STYLES)
    axis.set(xlabel="heard", ylabel="is")
    with atomic_path(path) as temporary:
        drawing.savefig(temporary, format="png")
