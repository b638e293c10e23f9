from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from audiogen.interfaces import AudiogenError
from audiogen.training.micro_batch import Share, is_out_of_memory


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 30), st.integers(0, 50))
def test_the_shares_of_a_step_are_its_batch(processes: int, accumulation: int, micro: int, step: int) -> None:
    share: Share | None = Share(processes * accumulation * micro, processes, accumulation)
    sizes = []
    while share is not None:
        found = [
            position
            for turn in range(share.accumulation)
            for process in range(processes)
            for position in share.positions(step, turn, process)
        ]
        assert found == list(share.of_step(step))
        sizes.append(share.micro_batch)
        share = share.smaller()
    assert sizes[0] == micro and sizes[-1] == 1
    assert all(b * 2 <= a for a, b in pairwise(sizes))


def test_half_the_batch_in_twice_the_turns() -> None:
    half = Share(16, 2, 1).smaller()
    assert half == Share(16, 2, 2) and half.micro_batch == 4
    assert Share(16, 1, 1).at_most(3) == Share(16, 1, 8) and Share(16, 1, 4).at_most(4) == Share(16, 1, 4)
    with pytest.raises(AudiogenError, match="batch_size 4 must be a multiple of processes × accumulation = 3"):
        Share(4, 3, 1)


def test_what_is_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)  # a pebibyte
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(MemoryError()) and is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("shapes do not fit")) and not is_out_of_memory(ValueError())
