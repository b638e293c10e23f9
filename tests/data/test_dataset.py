from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import RATE, catalogue, notes

from audiogen.data.dataset import AudioSegments, SegmentOrder
from audiogen.interfaces import AudiogenError


@given(st.lists(st.integers(1, 500), min_size=1, max_size=12), st.integers(1, 120), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_an_epoch_meets_every_item_inside_its_bounds_without_overlap(
    lengths: list[int], segment: int, seed: int
) -> None:
    order = SegmentOrder(lengths, segment, seed)
    for epoch in (0, 3):
        starts: dict[int, list[int]] = {index: [] for index in range(len(lengths))}
        for position in range(order.epoch_size):
            item, start = order[epoch * order.epoch_size + position]
            starts[item].append(start)
        for item, length in enumerate(lengths):
            assert len(starts[item]) == max(1, length // segment)
            found = sorted(starts[item])
            assert all(b - a == segment for a, b in pairwise(found))
            assert found == [0] if length <= segment else found[0] >= 0 and found[-1] + segment <= length


def test_the_order_is_a_pure_function_of_seed_and_position() -> None:
    lengths = [1000, 70, 5, 333]
    one, other = SegmentOrder(lengths, 50, 1), SegmentOrder(lengths, 50, 1)
    count = 5 * one.epoch_size
    forward = [one[position] for position in range(count)]
    shuffled = np.random.default_rng(0).permutation(count).tolist()
    jumping = {position: other[position] for position in shuffled}
    assert forward == [jumping[position] for position in range(count)]
    assert forward != [SegmentOrder(lengths, 50, 2)[position] for position in range(count)]


def test_each_epoch_shuffles_and_cuts_anew() -> None:
    order = SegmentOrder([1003] * 10, 50, 1)
    epochs = [[order[epoch * order.epoch_size + p] for p in range(order.epoch_size)] for epoch in range(8)]
    assert len({tuple(epoch) for epoch in epochs}) == 8
    assert len({tuple(item for item, _ in epoch) for epoch in epochs}) == 8
    offsets = {start % 50 for epoch in epochs for _, start in epoch}
    assert offsets == {0, 1, 2, 3}  # the slack of 3, its ends included


def test_nothing_to_train_on_is_said() -> None:
    with pytest.raises(AudiogenError, match="nothing to train on"):
        SegmentOrder([], 50, 1)


def test_audio_segments_are_the_audio_at_their_place(tmp_path: Path) -> None:
    tracks = catalogue(tmp_path)
    segments = AudioSegments(tracks, tmp_path, 12_345, RATE, seed=3)
    for position in (0, 7, 40):
        item, start = segments.order[position]
        found = segments[position]
        assert found.shape == (2, 12_345) and found.dtype == np.float32
        original = notes(4.0, seed=item).numpy()[:, start : start + 12_345]
        np.testing.assert_allclose(found, original, atol=1e-4)  # 16-bit files


def test_a_short_track_is_padded_with_silence(tmp_path: Path) -> None:
    tracks = catalogue(tmp_path, seconds=0.5)
    found = AudioSegments(tracks[:1], tmp_path, 12_000, RATE, seed=3)[0]
    assert found.shape == (2, 12_000) and found[:, :8000].any() and not found[:, 8000:].any()


def test_another_rate_is_resampled_on_the_way(tmp_path: Path) -> None:
    tracks = catalogue(tmp_path)
    segments = AudioSegments(tracks, tmp_path, 12_345, 8000, seed=3)
    for position in (0, 5):
        item, start = segments.order[position]
        assert start + 12_345 <= 4 * 8000
        found = segments[position]
        assert found.shape == (2, 12_345)
        original = notes(4.0, seed=item).numpy()[:, 2 * start : 2 * (start + 12_345) : 2]
        assert np.corrcoef(found[0, 200:-200], original[0, 200:-200])[0, 1] > 0.97


def test_nothing_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(AudiogenError, match="nothing to train on"):
        AudioSegments([], tmp_path, 12_345, 8000, seed=3)
