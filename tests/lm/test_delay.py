from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audiogen.lm.delay import apply_delay, undo_delay


@given(st.integers(1, 3), st.integers(1, 12), st.integers(1, 40), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_round_trip(batch: int, books: int, frames: int, seed: int) -> None:
    codes = torch.randint(0, 1024, (batch, books, frames), generator=torch.Generator().manual_seed(seed))
    delayed = apply_delay(codes, 1024)
    assert delayed.shape == (batch, books, frames + books - 1)
    assert torch.equal(undo_delay(delayed), codes)
    assert int((delayed == 1024).sum()) == batch * books * (books - 1)


def test_codebook_k_is_k_late() -> None:
    codes = torch.tensor([[[1, 2, 3], [4, 5, 6], [7, 8, 9]]])
    assert apply_delay(codes, 0).tolist() == [[[1, 2, 3, 0, 0], [0, 4, 5, 6, 0], [0, 0, 7, 8, 9]]]


def test_less_than_a_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="2 delayed positions hold no whole frame of 3"):
        undo_delay(torch.zeros(1, 3, 2, dtype=torch.long))
