"""Columns of one chunk; streams of chunks stand in test_encodec.py."""

from __future__ import annotations

import pytest
import torch

from audiogen.codec.chunks import Chunks


def test_the_side_row_holds_scales_of_every_size() -> None:
    layout = Chunks(frames=20, overlap=2, channels=2, hop_length=24, num_codebooks=4, codebook_size=16)
    assert layout.digits == 5 and layout.stride == 18
    scales = torch.logspace(-8, 1, 50)
    codes = torch.randint(16, (50, 4, 20))
    columns = layout.pack(codes, scales)
    assert columns.shape == (50, 5, 18) and int(columns.max()) < 16 and int(columns.min()) >= 0
    found, told = layout.unpack(columns, 20)
    assert torch.equal(found, codes)
    torch.testing.assert_close(told, scales, rtol=2e-5, atol=0)
    _, coarse = layout.unpack(columns[:, :, :2], 2)  # a last chunk of two frames has two of five digits
    assert float((coarse / scales).log10().abs().max()) <= 0.54 * 9 / 16**2
    assert torch.equal(layout.unpack(columns[:, :3], 20)[0], codes[:, :2])
    _, beyond = layout.unpack(layout.pack(codes[:2], torch.tensor([0.0, 1e6])), 20)
    torch.testing.assert_close(beyond, torch.tensor([1e-8, 10.0]))


def test_a_chunk_too_short_for_what_it_carries_is_refused() -> None:
    Chunks(frames=16, overlap=2, channels=1, hop_length=1, num_codebooks=4, codebook_size=1024)
    with pytest.raises(ValueError, match="10 frames cannot carry the 2"):
        Chunks(frames=10, overlap=2, channels=1, hop_length=1, num_codebooks=4, codebook_size=1024)
