from __future__ import annotations

import pytest
import torch

from audiogen.audio.seams import seam
from audiogen.interfaces import AudiogenError, Waveform
from tests.tiny import RATE, notes


def test_a_seam_that_is_none_does_not_stand_out() -> None:
    whole = notes(20.0)
    ranks = [seam(Waveform(whole, RATE), place) for place in (6.13, 9.31, 12.47)]
    assert min(one.spectrum_rank for one in ranks) < 0.9


def test_a_drop_of_level_and_another_sound_are_found() -> None:
    whole = notes(20.0)
    quieter = whole.clone()
    quieter[:, 10 * RATE :] *= 0.05
    found = seam(Waveform(quieter, RATE), 10.0)
    assert found.level_rank > 0.97 and found.level_db > 15
    muffled = whole.clone()
    muffled[:, 10 * RATE :] = torch.nn.functional.avg_pool1d(whole[:, 10 * RATE :][None], 15, 1, 7)[0]
    assert seam(Waveform(muffled, RATE), 10.0).spectrum_rank > 0.97


def test_too_near_an_end() -> None:
    with pytest.raises(AudiogenError, match="2 s are needed"):
        seam(Waveform(notes(5.0), RATE), 4.5)
