from __future__ import annotations

import numpy as np
import torch

from audiogen.evaluation.copying import CodeRuns, Fingerprints, fingerprint
from audiogen.interfaces import Waveform
from audiogen.style.hearing import hear
from tests.tiny import RATE, notes


def codes(seed: int, frames: int = 400) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1024, (frames, 4)).astype(np.int16)


def test_the_longest_equal_run_of_codes() -> None:
    pieces = [codes(0), codes(1)]
    runs = CodeRuns(pieces)
    assert runs.longest(codes(2)) <= 1
    clip = codes(3)
    clip[100:137, :2] = pieces[1][50:87, :2]  # the books beyond the second do not count
    assert runs.longest(clip) == 37
    across = np.concatenate([pieces[0][-5:], pieces[1][:5]])
    assert runs.longest(across) == 5  # no run crosses from one piece to the next


def test_silence_is_nobodys() -> None:
    silent = np.zeros((300, 4), np.int16)
    assert CodeRuns([np.concatenate([codes(0), silent])]).longest(silent) == 1


def test_a_copy_is_found_at_any_offset_and_level_and_what_is_not_one_is_not() -> None:
    pieces = [notes(30.0, seed=seed) for seed in range(5)]
    prints = Fingerprints.of([fingerprint(hear(Waveform(piece, RATE))) for piece in pieces])
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 12 * RATE)).astype(np.float32)) * 1e-3
    copied = 0.3 * pieces[3][:, round(7.77 * RATE) :][:, : 12 * RATE] + noise
    match = prints.match(fingerprint(hear(Waveform(copied, RATE))))
    assert match.piece == 3 and match.share > 0.3
    assert prints.match(fingerprint(hear(Waveform(notes(12.0, seed=9), RATE)))).share < 0.15


def test_runs_and_matches_are_those_of_a_plain_count() -> None:
    random = np.random.default_rng(5)
    few = [random.integers(0, 3, (60, 2)).astype(np.int16) for _ in range(3)]  # so few codes that runs are long
    runs = CodeRuns(few)

    def changes(codes: np.ndarray) -> list[tuple[int, ...]]:
        rows = [tuple(row) for row in codes.tolist()]
        return [row for row, before in zip(rows, [None, *rows], strict=False) if row != before]

    for _ in range(20):
        clip = random.integers(0, 3, (int(random.integers(1, 50)), 2)).astype(np.int16)
        own, theirs = changes(clip), [changes(piece) for piece in few]
        expected = max(
            length
            for length in range(len(own) + 1)
            if not length
            or any(
                own[i : i + length] == piece[j : j + length]
                for i in range(len(own) - length + 1)
                for piece in theirs
                for j in range(len(piece) - length + 1)
            )
        )
        assert runs.longest(clip) == expected
    pairs = [(random.integers(0, 9, 30), np.sort(random.integers(0, 40, 30))) for _ in range(4)]
    prints = Fingerprints.of(pairs)
    for _ in range(20):
        keys, frames = random.integers(0, 9, 12), np.sort(random.integers(0, 20, 12))
        votes: dict[tuple[int, int], int] = {}
        for number, (known, places) in enumerate(pairs):
            for key, frame in zip(keys, frames, strict=True):
                for offset in (places - frame)[abs(known - key) <= 1]:
                    votes[number, int(offset)] = votes.get((number, int(offset)), 0) + 1
        sums = {place: count + votes.get((place[0], place[1] + 1), 0) for place, count in votes.items()}
        match = prints.match((keys, frames))
        assert round(match.share * (12 + 200)) == max(sums.values())
        assert match.piece == min(place for place in sums if sums[place] == max(sums.values()))[0]
