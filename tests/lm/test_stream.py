"""Laws 2, 3 and 4 for streams of codes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from laws import chunks_do_not_matter, company_does_not_matter, memory_is_constant, stream_is_the_naive_one
from tiny import LM, language_model

from audiogen.interfaces import Attributes, Chord, Prompt, Score
from audiogen.lm.engine import EagerEngine, Engine, make_engine
from audiogen.lm.model import MusicLM
from audiogen.lm.sampling import Sampling
from audiogen.lm.score import lanes
from audiogen.lm.stream import CodeStream

SCORE = Score(
    2.0, np.arange(0, 2, 0.5), np.arange(0, 2, 1.0), (Chord(0.0, 9, "min"),), ((0.0, "intro"), (1.0, "outro"))
)


def source(first: int, frames: int) -> np.ndarray:
    return lanes(SCORE, first, frames, LM.frame_rate)


@pytest.fixture(scope="module")
def model() -> MusicLM:
    return language_model()


@pytest.fixture(scope="module")
def prefix(model: MusicLM) -> torch.Tensor:
    return model.prefix.encode([Prompt("a calm harp", Attributes(style="folk", tempo_bpm=120.0)), None])


@pytest.fixture(scope="module", params=["float32", "bfloat16", "int8", "int8 on two threads"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each way of computing a step; the kernel is compiled where there is a compiler, as in CI."""
    precision, _, threads = request.param.partition(" ")
    return make_engine(language_model(), precision, 2 if threads else 1)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(), Sampling(guidance=1.0), Sampling(guidance=0.0), Sampling(temperature=0),
        Sampling(guidance=1.0, temperature=0), Sampling(top_k=3, temperature=0.7), Sampling(top_p=0.7),
    ],
)  # fmt: skip
def test_the_stream_is_the_naive_one(model: MusicLM, prefix: torch.Tensor, sampling: Sampling) -> None:
    stream_is_the_naive_one(model, prefix, source, 25, sampling, seed=11)


@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_chunks_do_not_matter(engine: Engine, prefix: torch.Tensor, guidance: float) -> None:
    sampling = Sampling(guidance=guidance)
    chunks_do_not_matter(lambda: CodeStream(engine, prefix, source, sampling, seed=5), frames=40)


def test_company_does_not_matter(engine: Engine, model: MusicLM, prefix: torch.Tensor) -> None:
    other = model.prefix.encode([Prompt("fast drums", Attributes(style="drum and bass")), None])
    known = CodeStream(engine, prefix, source, Sampling(), seed=8).advance(7)[0]

    def make(number: int) -> CodeStream:
        sampling = Sampling(guidance=(1.0, 2.0, 3.5)[number % 3], top_k=5 + number, temperature=0.5 + number % 2)
        told = prefix if number % 2 else other
        return CodeStream(engine, told, source, sampling, number, prompt=known if number % 4 == 3 else None)

    company_does_not_matter(make, frames=25)


def test_what_is_there_already_is_gone_on_from(engine: Engine, prefix: torch.Tensor) -> None:
    whole = CodeStream(engine, prefix, source, Sampling(), seed=5).advance(45)
    for count in (1, 3, 6, 19):  # fewer and more than the delays, and than the window of 8
        rest = CodeStream(engine, prefix, source, Sampling(), seed=5, prompt=whole[0, :, :count])
        # the finer codebooks of the last frames are known here and were drawn there: the same codes, if all were read
        assert torch.equal(rest.advance(45 - count), whole[:, :, count:])


def test_the_seed_the_prompt_and_the_score_matter(engine: Engine, prefix: torch.Tensor) -> None:
    def made(seed: int = 5, told: torch.Tensor = prefix, score: Score = SCORE) -> torch.Tensor:
        def here(first: int, frames: int) -> np.ndarray:
            return lanes(score, first, frames, LM.frame_rate)

        return CodeStream(engine, told, here, Sampling(), seed).advance(20)

    codes = made()
    assert codes.shape == (1, 4, 20) and codes.dtype == torch.int64
    assert int(codes.min()) >= 0 and int(codes.max()) < LM.codebook_size
    assert not torch.equal(codes, made(seed=6))
    assert not torch.equal(codes, made(told=prefix.flip(0)))
    assert not torch.equal(codes, made(score=Score(9.0)))


def test_steering_takes_effect_from_the_next_frame_on(engine: Engine, model: MusicLM, prefix: torch.Tensor) -> None:
    plain, steered, unmoved = (CodeStream(engine, prefix, source, Sampling(), seed=5) for _ in range(3))
    whole = plain.advance(40)
    assert torch.equal(steered.advance(15), whole[:, :, :15])
    unmoved.advance(15)
    unmoved.steer(prefix, source)
    assert torch.equal(unmoved.advance(25), whole[:, :, 15:])  # to where it was already: nothing changes
    other = model.prefix.encode([Prompt("fast drums", Attributes(style="drum and bass")), None])
    steered.steer(other, source)
    after = steered.advance(25)
    # what was drawn ahead, of the finer codebooks' delay, is played as it was; then the codes part
    assert torch.equal(after[:, 0, :3], whole[:, 0, 15:18]) and not torch.equal(after, whole[:, :, 15:])


def test_a_stream_may_be_steered_inside_and_outside_of_inference_mode(model: MusicLM) -> None:
    trainable = language_model()
    trainable.requires_grad_(True)
    prefix = trainable.prefix.encode([Prompt("calm"), None])
    with torch.inference_mode():
        stream = CodeStream(EagerEngine(trainable), prefix, source, Sampling(), seed=1)
    stream.steer(prefix, source)
    assert not stream.advance(2).requires_grad
    assert not any(keys.requires_grad for keys in stream._state.keys)


def test_nothing_asked_nothing_given(engine: Engine, prefix: torch.Tensor) -> None:
    stream = CodeStream(engine, prefix, source, Sampling(), seed=5)
    assert stream.advance(0).shape == (1, 4, 0)
    assert stream._position == 0


def test_memory_is_constant_over_a_thousand_frames(engine: Engine, prefix: torch.Tensor) -> None:
    stream = CodeStream(engine, prefix, source, Sampling(), seed=5)
    memory_is_constant(stream, lambda: stream.advance(4), times=250)
    assert len(stream._delayed) == LM.num_codebooks - 1
