from __future__ import annotations

import pytest

from audiogen.audio.measured import Measured
from audiogen.evaluation.obedience import Asked, floor, obedience
from audiogen.interfaces import Key

D_MINOR, F_MAJOR = Key(2, "minor"), Key(5, "major")


def test_shares() -> None:
    asked = [Asked(120, D_MINOR), Asked(100, F_MAJOR)]
    result = obedience(asked, [Measured(60, D_MINOR), Measured(100, D_MINOR)])
    assert result.tempo == {"strict": 0.5, "octave": 1.0, "octave and 3:2": 1.0} and result.key == 0.5


def test_floor_never_judges_a_clip_by_its_own_prompt() -> None:
    asked = [Asked(120, D_MINOR), Asked(97, F_MAJOR), Asked(140, Key(0, "major"))]
    right = [Measured(a.tempo_bpm, a.key) for a in asked]
    assert obedience(asked, right).key == 1
    assert floor(asked, right).key == 0 and floor(asked, right).tempo["octave"] == 0
    same = [Asked(120, D_MINOR)] * 3
    assert floor(same, [Measured(120, D_MINOR)] * 3).key == 1


def test_nothing_to_judge_is_refused() -> None:
    with pytest.raises(ValueError, match="no clips"):
        obedience([], [])
    with pytest.raises(ValueError, match="two clips"):
        floor([Asked(120, D_MINOR)], [Measured(120, D_MINOR)])
    with pytest.raises(ValueError):
        obedience([Asked(120, D_MINOR)], [])
