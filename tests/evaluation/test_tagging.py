from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from audiogen.evaluation.tagging import average_precision, confusion, confusion_figure, energy_correlation, score_tags
from audiogen.interfaces import INSTRUMENTS, MOODS, STYLES, Key
from audiogen.style.ears import tempo_classes
from audiogen.style.tagger import Tags
from tests import tiny


def test_average_precision_by_hand() -> None:
    present = np.array([True, False, True, False])
    assert average_precision(np.array([0.9, 0.8, 0.7, 0.1]), present) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(np.array([0.9, 0.1, 0.8, 0.2]), present) == 1
    assert average_precision(np.full(4, 0.5), present) == 0.5  # no order, no knowledge
    assert np.isnan(average_precision(np.ones(2), np.zeros(2, bool)))


def told(style: str, key: str, bpm: float, beats: int, instruments: tuple[str, ...], energy: list[float]) -> Tags:
    """Tags that are sure of these answers."""
    spoken = Key.parse(key)
    tempo = np.zeros(58)
    tempo[np.abs(np.log(tempo_classes().numpy() / bpm)).argmin()] = 1
    return Tags(
        4.0, np.eye(10)[STYLES.index(style)], np.array([0.9 if name == "calm" else 0.1 for name in MOODS]),
        np.array([0.9 if name in instruments else 0.1 for name in INSTRUMENTS]),
        np.eye(24)[spoken.tonic + 12 * (spoken.mode == "minor")], tempo, np.eye(2)[beats - 3],
        np.array([[at, value] for at, value in enumerate(energy)]), np.ones((1, 4)), tempo_classes().numpy(),
    )  # fmt: skip


def test_figures_of_right_and_of_wrong_answers(tmp_path: Path) -> None:
    """The catalogue: three tracks of folk in A minor at 240 bpm, with a harp, energy rising."""
    tracks = tiny.catalogue(tmp_path)[:2]
    right = told("folk", "A minor", 235.0, 4, ("harp",), [0.2, 0.3, 0.4, 0.5])
    wrong = told("jazz", "C major", 117.0, 3, ("drums",), [0.5, 0.4, 0.3, 0.2])
    scores = score_tags([right, wrong], tracks)
    assert scores["style"] == scores["key"] == scores["metre"] == scores["tempo"] == 0.5
    assert scores["tempo_octave"] == 1 and scores["key_closeness"] == pytest.approx(0.65)
    assert scores["instruments_f1"] == 0.5 and scores["energy_correlation"] == pytest.approx(0, abs=1e-6)
    assert scores["average_precision"]["instruments"]["harp"] == 1
    assert scores["average_precision"]["instruments"]["drums"] is None and scores["instruments_map"] == 1
    counts = confusion([right, wrong], tracks)
    folk = STYLES.index("folk")
    assert counts.sum() == 2 and counts[folk, folk] == counts[folk, STYLES.index("jazz")] == 1
    confusion_figure(counts, tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


def test_a_flat_curve_does_not_count(tmp_path: Path) -> None:
    track = tiny.catalogue(tmp_path)[0].model_copy(update={"energy": ((0.0, 0.5), (4.0, 0.5))})
    tags = told("folk", "A minor", 240, 4, (), [0.1, 0.2, 0.3, 0.4])
    assert energy_correlation([tags], [track]) == 0.0
