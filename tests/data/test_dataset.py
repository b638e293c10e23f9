from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import RATE, catalogue, notes

from audiogen.data.dataset import AudioSegments, Mixture, SegmentOrder, permuted
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


# --- permutations, weights, mixtures ----------------------------------------------------------------------------------


@given(st.integers(1, 3000), st.integers(0, 2**64))
@settings(max_examples=40, deadline=None)
def test_a_permutation_meets_everything_once(size: int, key: int) -> None:
    assert sorted(permuted(index, size, key) for index in range(size)) == list(range(size))


def test_permutations_differ_and_are_spread() -> None:
    found = [[permuted(index, 1000, key) for index in range(1000)] for key in range(30)]
    assert len({tuple(each) for each in found}) == 30
    places = np.array(found)
    assert abs(places.mean(0) - 499.5).max() < 4.5 * 288.7 / 30**0.5
    assert abs(np.corrcoef(places[:, :-1].ravel(), places[:, 1:].ravel())[0, 1]) < 0.03


def test_an_order_over_a_million_hours_takes_no_time() -> None:
    order = SegmentOrder(np.full(1_000_000, 90_000), 512, 1)  # tracks of an hour
    assert order.epoch_size == 175_000_000
    assert len({order[position] for position in range(10**9, 10**9 + 1000)}) == 1000


def test_weights_are_how_often_an_item_is_met() -> None:
    order = SegmentOrder([200, 200, 200, 210], 20, 3, [1.0, 2.0, 0.5, 0.0])
    assert order.epoch_size == 35
    seen = [[order[epoch * 35 + position] for position in range(35)] for epoch in range(40)]
    for epoch in seen:
        counts = [sum(item == wanted for item, _ in epoch) for wanted in range(4)]
        assert counts == [10, 20, 5, 0]
        assert len({place for place in epoch if place[0] == 0}) == 10
    assert len({place for epoch in seen for place in epoch if place[0] == 2}) == 10  # every part in time
    with pytest.raises(AudiogenError, match="none of a weight above 0"):
        SegmentOrder([200], 20, 3, [0.0])


@given(st.lists(st.floats(0.1, 10.0), min_size=1, max_size=5), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_a_mixture_keeps_its_proportions_and_meets_every_place_once(shares: list[float], seed: int) -> None:
    mixture = Mixture(shares, seed)
    found = [mixture[position] for position in range(2000)]
    for order, share in enumerate(shares):
        places = [place for which, place in found if which == order]
        assert sorted(places) == list(range(len(places)))
        first = sum(which == order for which, _ in found[:1000])
        assert abs(first - 1000 * share / sum(shares)) <= 1 and len(places) == 2 * first


def test_a_share_too_small_to_be_met_is_refused() -> None:
    with pytest.raises(AudiogenError, match="source 2: its share is less than 1/1000"):
        Mixture([1.0, 1e-5], 0)
