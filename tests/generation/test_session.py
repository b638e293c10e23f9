from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
import torch

from audiogen import Generator
from audiogen.generation.session import Session
from audiogen.lm.sampling import Sampling
from tests.laws import memory_is_constant


def whole(generator: Generator, chunks: list[int], **told: object) -> torch.Tensor:
    session = generator.session(generator.request("calm folk, 90 bpm", **told))
    parts, index = [], 0
    while not session.finished:
        parts.append(session.advance(chunks[index % len(chunks)]).samples)
        index += 1
    return torch.cat(parts, 1)


@pytest.mark.parametrize("chunks", [[1], [3, 7, 2], [1000]])
def test_the_chunk_size_does_not_matter(generator: Generator, chunks: list[int]) -> None:
    told = {"seconds": 1.7, "seed": 5}
    torch.testing.assert_close(whole(generator, chunks, **told), whole(generator, [25], **told), atol=1e-5, rtol=0)


@pytest.mark.parametrize("chunks", [[1], [2, 7], [1000]])
def test_halves_are_the_whole(generator: Generator, chunks: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, where the codec decodes the first half meanwhile."""
    told = {"seconds": 1.7, "seed": 5}
    expected = whole(generator, chunks, **told)
    monkeypatch.setattr(Session, "parts", lambda self, frames: [frames // 2, frames - frames // 2])
    torch.testing.assert_close(whole(generator, chunks, **told), expected, atol=1e-5, rtol=0)


@pytest.mark.gpu
@pytest.mark.parametrize("device", ["cuda", "auto"])
def test_on_a_gpu_it_is_the_same_clip(generator: Generator, model_folder: Path, device: str) -> None:
    there = Generator.from_pretrained(model_folder, precision="float32", device=device)
    assert there.model.device.type == "cuda"
    for chunks in ([25], [3, 7, 2]):
        audio = whole(there, chunks, seconds=1.7, seed=5)
        expected = whole(generator, [25], seconds=1.7, seed=5)
        torch.testing.assert_close(audio, expected, atol=1e-2, rtol=0)  # convolutions round to TF32


@pytest.mark.parametrize("seconds", [1e-4, 0.04, 0.5, 1.2345])
def test_length_is_exact_to_the_sample(generator: Generator, seconds: float) -> None:
    audio = whole(generator, [4], seconds=seconds, seed=1)
    assert audio.shape == (2, max(1, round(seconds * generator.sample_rate)))


def test_another_seed_gives_another_clip_and_the_same_seed_the_same(generator: Generator) -> None:
    one, again, other = (whole(generator, [9], seconds=1, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_steering_changes_what_follows_and_only_that(generator: Generator) -> None:
    request = generator.request("calm folk, 90 bpm", seconds=2, seed=3, sampling=Sampling(temperature=0))
    straight, steered = generator.session(request), generator.session(request)
    before = straight.advance(20).samples, steered.advance(20).samples
    assert torch.equal(*before)
    steered.steer("fast drum and bass, 174 bpm")
    assert steered.attributes.tempo_bpm == 174
    after = straight.advance(30).samples, steered.advance(30).samples
    assert after[0].shape == after[1].shape and not torch.equal(*after)
    assert steered.finished and straight.finished


def test_the_end_fades_out(generator: Generator) -> None:
    audio = whole(generator, [25], seconds=1, seed=1)
    assert float(audio[:, -1].abs().max()) == 0.0


def test_a_piece_that_comes_to_its_end_fades_for_longer(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    request = generator.request("techno", seconds=20, seed=1)
    assert request.score.sections[-1][1] == "outro"
    faded = torch.cat([chunk.samples for chunk in generator.play(request, 50)], 1)
    monkeypatch.setattr("audiogen.generation.session._LAST_FADE_SECONDS", 0.02)
    plain = torch.cat([chunk.samples for chunk in generator.play(request, 50)], 1)
    rate = generator.sample_rate
    before, during = faded.shape[1] - round(1.5 * rate), faded.shape[1] - round(0.75 * rate)
    assert torch.equal(faded[:, :before], plain[:, :before])
    torch.testing.assert_close(
        faded[:, during : during + 50], plain[:, during : during + 50] * 0.25, atol=1e-6, rtol=2e-2
    )
    assert float(plain[:, during:].abs().max()) > 0 and float(faded[:, -1].abs().max()) == 0


def test_memory_does_not_grow(generator: Generator) -> None:
    session = generator.session(generator.request("techno", seconds=3600, seed=1))
    memory_is_constant(session._codes, lambda: session.advance(5), times=60)


def test_a_session_that_nobody_keeps_is_gone(generator: Generator) -> None:
    session = generator.session(generator.request("techno", seconds=2, seed=1))
    session.advance(5)
    session.steer("calm folk")
    states = weakref.ref(session), weakref.ref(session._codes._state)  # type: ignore[union-attr]
    gc.disable()  # which would find what points to itself, some time
    try:
        del session
        assert states[0]() is None and states[1]() is None
    finally:
        gc.enable()


def test_no_peak_reaches_full_scale_however_the_stream_is_cut(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that plays far too loud: its peaks are limited, what lies away from them is as it was."""
    codec = generator.model.codec
    real = type(codec).streaming_decoder

    class Loud:
        def __init__(self, batch_size: int = 1) -> None:
            self._decoder = real(codec, batch_size)
            self.latency_frames = self._decoder.latency_frames

        def decode(self, codes: torch.Tensor) -> torch.Tensor:
            return 20 * self._decoder.decode(codes)

    request = generator.request("techno", seconds=3, seed=1)
    plain = torch.cat([chunk.samples for chunk in generator.play(request, 10)], 1)
    monkeypatch.setattr(type(codec), "streaming_decoder", lambda self, batch_size=1: Loud(batch_size))
    cuts = [torch.cat([chunk.samples for chunk in generator.play(request, frames)], 1) for frames in (7, 10, 1000)]
    assert cuts[0].shape == plain.shape
    for cut in cuts[1:]:
        torch.testing.assert_close(cut, cuts[0], atol=1e-4, rtol=0)
    assert 0.9 < float(cuts[0].abs().max()) <= 10 ** (-0.3 / 20) + 1e-6
    assert float((20 * plain).abs().max()) > 1
