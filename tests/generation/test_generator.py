from __future__ import annotations

import pytest
import torch

from audiogen import AudiogenError, Generator


def test_generate_is_the_concatenated_stream(generator: Generator) -> None:
    chunks = list(generator.stream("jazz", seconds=1.5, seed=4))
    assert len(chunks) > 1
    assert torch.equal(torch.cat([c.samples for c in chunks], 1), generator.generate("jazz", 1.5, 4).samples)


def test_what_is_not_said_is_filled_in_and_flags_win(generator: Generator) -> None:
    request = generator.request("lo-fi, 80 bpm, D minor, 12 seconds", seed=1, bpm=95, key="F# major")
    assert request.attributes.tempo_bpm == 95 and str(request.attributes.key) == "F# major"
    assert request.score.seconds == 12 and request.attributes.style == "lo-fi" and request.attributes.instruments


def test_default_length_and_random_seeds(generator: Generator) -> None:
    one, two = generator.request("rock"), generator.request("rock")
    assert one.score.seconds == 30 and one.seed != two.seed


def test_a_plan_wins_over_the_prompt(generator: Generator) -> None:
    first = generator.request("house, 124 bpm", seconds=8, seed=1)
    again = generator.request("ambient", seed=1, score=(first.score, first.attributes))
    assert again.score == first.score and again.attributes.style == "house"
    with pytest.raises(AudiogenError, match="the plan lasts 8 s"):
        generator.request("ambient", seconds=9, seed=1, score=(first.score, first.attributes))


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"prompt": ""}, "empty"),
        ({"prompt": "x" * 10_000}, "10000|10,000"),
        ({"seconds": 0}, "--seconds 0"),
        ({"seconds": -1}, "--seconds -1"),
        ({"seconds": float("nan")}, "--seconds nan"),
        ({"seconds": 36_001}, "10 hours"),
        ({"bpm": 7}, "--bpm 7"),
        ({"key": "H#"}, "H#"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_bad_requests_say_what_is_wrong(generator: Generator, told: dict, message: str) -> None:
    with pytest.raises(AudiogenError, match=message):
        generator.request(told.pop("prompt", "jazz"), **told)


def test_ten_hours_begin_at_once(generator: Generator) -> None:
    chunk = next(generator.stream("ambient", seconds=36_000, seed=1))
    assert 0 < chunk.seconds <= 1
