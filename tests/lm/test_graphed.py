"""The GPU engine: all of it but the capture on the CPU, with a stand-in; the same tests on a GPU where there is one."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from laws import chunks_do_not_matter, company_does_not_matter, memory_is_constant
from tiny import LM, language_model
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from audiogen.capture import _plain
from audiogen.capture import capture as as_usual
from audiogen.interfaces import Attributes, Prompt
from audiogen.lm import graphed
from audiogen.lm.engine import EagerEngine, OutOfRoomError
from audiogen.lm.graphed import GraphedEngine
from audiogen.lm.model import MusicLM, MusicLMConfig
from audiogen.lm.musicgen import MusicGen, MusicGenConfig
from audiogen.lm.pool import Pool
from audiogen.lm.sampling import Sampling
from audiogen.lm.stream import CodeStream, WindowedStream, advance_together
from audiogen.lm.transformer import TransformerConfig
from tests.lm.test_stream import source

WIDE = MusicLMConfig(  # a window that is no multiple of anything, over more than one piece of places
    num_codebooks=2, codebook_size=64, code_dim=8,
    transformer=TransformerConfig(dim=48, depth=1, heads=3, kv_heads=3, hidden=40, window_frames=151),
)  # fmt: skip


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def engine_on(device: str, model: Any, precision: Any = "float32", **told: Any) -> GraphedEngine:
    return GraphedEngine(copy.deepcopy(model), precision, torch.device(device), **told)


def plain_on(device: str, model: Any) -> EagerEngine:
    return EagerEngine(copy.deepcopy(model).to(device))


def prefixes(model: MusicLM) -> tuple[Tensor, Tensor]:
    calm = model.prefix.encode([Prompt("a calm harp", Attributes(style="folk", tempo_bpm=120.0)), None])
    return calm, model.prefix.encode([Prompt("fast drums", Attributes(style="drum and bass")), None])


# --- the same codes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [LM, WIDE], ids=["tiny", "wide"])
def test_codes_are_those_of_the_plain_engine(config: MusicLMConfig, device: str) -> None:
    """Streams of all kinds together, each of which joins, pauses, is steered and leaves at another time."""
    model = language_model(2, config)
    calm, fast = prefixes(model)
    samplings = [
        Sampling(), Sampling(guidance=1.0), Sampling(guidance=3.5, temperature=1.2), Sampling(guidance=0.0),
        Sampling(temperature=0), Sampling(guidance=1.0, temperature=0), Sampling(top_k=3), Sampling(top_p=0.7),
    ]  # fmt: skip
    known = CodeStream(plain_on(device, model), calm, source, Sampling(), seed=8).advance(9)[0]

    def stream(engine: Any, number: int) -> CodeStream:
        prompt = known if number % 3 == 2 else None
        return CodeStream(engine, calm, source, samplings[number], 10**17 + number, prompt, first_draw=number)

    def together(made: list[CodeStream]) -> list[Tensor]:
        """`made[n]` begins in round n and misses round n + 2; stream 2 is steered, stream 3 leaves."""
        parts: list[list[Tensor]] = [[] for _ in made]
        for turn in range(len(made) + 3):
            if turn == 6:
                made[2].steer(fast, source)
            playing = [n for n in range(min(turn + 1, len(made))) if n != turn - 2 and not (n == 3 and turn > 7)]
            for number, codes in zip(playing, advance_together([made[n] for n in playing], 3 + turn), strict=True):
                parts[number].append(codes)
        return [torch.cat(part, 2) for part in parts]

    plain, engine = plain_on(device, model), engine_on(device, model)
    expected = together([stream(plain, number) for number in range(8)])
    found = together([stream(engine, number) for number in range(8)])
    assert expected[0].shape[2] > 60
    for number in range(8):
        assert torch.equal(found[number], expected[number]), number


def test_long_runs_and_any_chunks_give_the_same(device: str) -> None:
    model = language_model()
    engine, (prefix, _) = engine_on(device, model), prefixes(model)

    def make() -> CodeStream:
        return CodeStream(engine, prefix, source, Sampling(), seed=5)

    chunks_do_not_matter(make, frames=2 * graphed._PART + 9)
    plain = CodeStream(plain_on(device, model), prefix, source, Sampling(), seed=5)
    assert torch.equal(make().advance(150), plain.advance(150))


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(guidance=1.0)])
def test_what_is_there_already_is_gone_on_from(sampling: Sampling, device: str) -> None:
    model = language_model()
    engine, (prefix, _) = engine_on(device, model), prefixes(model)
    whole = CodeStream(engine, prefix, source, sampling, seed=5).advance(45)
    for count in (1, 3, 19):
        rest = CodeStream(engine, prefix, source, sampling, seed=5, prompt=whole[0, :, :count])
        assert torch.equal(rest.advance(45 - count), whole[:, :, count:])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_company_does_not_matter(precision: str, device: str) -> None:
    """Bit for bit, all in one bucket."""
    model = language_model()
    engine, (calm, fast) = engine_on(device, model, precision, streams=32, least=32), prefixes(model)

    def make(number: int) -> CodeStream:
        sampling = Sampling(guidance=(1.0, 2.0, 3.5)[number % 3], top_k=5 + number, temperature=0.5 + number % 2)
        return CodeStream(engine, calm if number % 2 else fast, source, sampling, number)

    company_does_not_matter(make, frames=12, seeds=range(1))


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@torch.inference_mode()
def test_a_graph_gives_what_it_recorded(precision: str) -> None:
    """Bit for bit what the same operators give when the host launches them one by one."""
    model = language_model(2, WIDE)
    prefix, _ = prefixes(model)
    codes = torch.randint(0, WIDE.codebook_size, (WIDE.num_codebooks, 200))
    by_hand = engine_on("cuda", model, precision, capture=lambda run, device: _plain(run))
    assert torch.equal(
        logits(engine_on("cuda", model, precision), prefix, codes, 2.0), logits(by_hand, prefix, codes, 2.0)
    )


def logits(engine: Any, prefix: Tensor, codes: Tensor, guidance: float) -> Tensor:
    """Of all positions of known codes `[K, T]`, `[T, K, V]`."""
    stream = CodeStream(engine, prefix, source, Sampling(guidance=guidance), seed=1)
    stream._prompt = codes
    turn = stream.ask(codes.shape[1])
    turn.logits = torch.zeros(*turn.forced.shape, engine.config.codebook_size)
    engine.run([turn])
    return turn.logits


@pytest.mark.parametrize("guidance", [1.0, 2.0])
@torch.inference_mode()
def test_logits_in_bfloat16(guidance: float, device: str) -> None:
    model = language_model(3).bfloat16()
    prefix, _ = prefixes(model)
    codes = torch.randint(0, LM.codebook_size, (LM.num_codebooks, 50))
    exact = logits(EagerEngine(language_model(3)), prefix.float(), codes, guidance)
    plain = logits(plain_on(device, model), prefix, codes, guidance)
    found = logits(engine_on(device, model, "bfloat16"), prefix, codes, guidance)
    assert float((found - exact).std()) < 1.2 * float((plain - exact).std()) < 0.2 * float(exact.std())


# --- MusicGen ---------------------------------------------------------------------------------------------------------


def musicgen(channels: int = 1, melody_frames: int = 0, window_frames: int = 36) -> MusicGen:
    torch.manual_seed(channels)
    config = MusicGenConfig(
        num_codebooks=4 * channels, codebook_size=32, channels=channels, dim=32, depth=2, heads=4, hidden=48,
        text_dim=24, melody_pitches=12 if melody_frames else 0, melody_frames=melody_frames,
        window_frames=window_frames, stride_frames=window_frames // 2,
    )  # fmt: skip
    made = MusicGen(config)
    for name, weight in made.named_parameters():
        if name not in ("codes.weight", "heads.weight") and weight.ndim == 2:
            nn.init.normal_(weight, std=0.3)
    return made.eval().requires_grad_(False)


@pytest.mark.parametrize("told", [{}, {"melody_frames": 11, "window_frames": 130}, {"channels": 2}])
def test_codes_of_a_musicgen(told: dict[str, int], device: str) -> None:
    """Prompts of many lengths together, over several windows where they are short."""
    model = musicgen(**told)
    config, frames = model.config, 100

    def stream(engine: Any, number: int) -> WindowedStream:
        torch.manual_seed(number)
        melody = torch.randint(0, 12, (config.melody_frames,)) if config.melody_frames else None
        prefix = model.prefix(torch.randn(1, (3, 20, 7, 40)[number], config.text_dim), melody)
        sampling = Sampling(guidance=(3.0, 1.0, 2.0, 3.0)[number], temperature=(1.0, 1.0, 0.0, 0.8)[number], top_k=250)
        return WindowedStream(engine, lambda first: prefix, sampling, seed=number)

    plain, engine = plain_on(device, model), engine_on(device, model)
    expected = [stream(plain, number).advance(frames) for number in range(4)]
    assert all(codes.unique().numel() > 10 for codes in expected)
    made: list[WindowedStream] = []
    parts: list[list[Tensor]] = [[] for _ in expected]
    while any(sum(c.shape[2] for c in part) < frames for part in parts):
        made += [stream(engine, len(made))] if len(made) < len(expected) else []
        for part, codes in zip(parts, advance_together(made, 13), strict=False):
            part.append(codes)
    for part, codes in zip(parts, expected, strict=True):
        assert torch.equal(torch.cat(part, 2)[:, :, :frames], codes)


# --- slots and graphs -------------------------------------------------------------------------------------------------


def test_a_paused_stream_is_untouched(device: str) -> None:
    model = language_model()
    engine, (prefix, _) = engine_on(device, model), prefixes(model)
    first, second, third = (CodeStream(engine, prefix, source, Sampling(), seed=n) for n in range(3))
    advance_together([first, second, third], 12)

    def remembered() -> list[Tensor]:
        keys, values = engine._pool.memory(second._state)
        return [*keys, *values]

    before = [part.clone() for part in remembered()]
    advance_together([first, third], 30)
    assert all(torch.equal(*pair) for pair in zip(before, remembered(), strict=True))
    alone = CodeStream(engine_on(device, model), prefix, source, Sampling(), seed=1)
    alone.advance(12)
    assert torch.equal(second.advance(20), alone.advance(20))


def test_slots_come_back_and_too_many_are_refused(device: str) -> None:
    model = language_model()
    engine, (prefix, _) = engine_on(device, model, streams=3), prefixes(model)
    streams = [CodeStream(engine, prefix, source, Sampling(), seed=n) for n in range(3)]
    assert [stream._state.index for stream in streams] == [0, 1, 2]
    with pytest.raises(OutOfRoomError, match="no place for another stream: 3 fit"):
        engine.begin(prefix)
    expected = CodeStream(engine_on(device, model, streams=3), prefix, source, Sampling(), seed=9).advance(20)
    del streams[1]
    gc.collect()
    again = CodeStream(engine, prefix, source, Sampling(), seed=9)
    assert again._state.index == 1 and torch.equal(again.advance(20), expected)  # nothing is left of the one before
    del again, streams
    gc.collect()
    assert sorted(engine._free) == [0, 1, 2]


def test_each_bucket_is_captured_once() -> None:
    model, captures = language_model(), []

    def capture(run: Callable[[], Any], device: torch.device) -> Any:
        captures.append(run)
        return as_usual(run, device)

    engine, (prefix, _) = engine_on("cpu", model, capture=capture), prefixes(model)
    streams: list[CodeStream] = []
    counts = []
    for _ in range(6):
        streams.append(CodeStream(engine, prefix, source, Sampling(), seed=1))
        counts.append(len(captures))
    assert counts == [1, 2, 3, 3, 4, 4] and engine._pool.slots == 8  # the pool grew to 1, 2, 4, 8
    for size in (6, 5, 3, 4, 2, 1, 6, 3, 1):
        advance_together(streams[:size], 5)
    assert len(captures) == 7  # 4, 2 and 1 anew, since the larger pool has other addresses


def test_memory_is_constant(device: str) -> None:
    model = language_model()
    engine, (prefix, _) = engine_on(device, model), prefixes(model)
    stream = CodeStream(engine, prefix, source, Sampling(), seed=1)
    memory_is_constant(stream, lambda: stream.advance(7), times=60)


@pytest.mark.parametrize("where", ["pool", "capture"])
def test_without_memory_nobody_has_moved(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = language_model()
    full = []

    def capture(run: Callable[[], Any], device: torch.device) -> Any:
        if full and where == "capture":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return as_usual(run, device)

    def pool(*told: Any) -> Pool:
        if full:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return Pool(*told)

    if where == "pool":
        monkeypatch.setattr(graphed, "Pool", pool)
    engine, (prefix, _) = engine_on("cpu", model, capture=capture), prefixes(model)
    streams = [CodeStream(engine, prefix, source, Sampling(), seed=n) for n in range(2)]
    advance_together(streams, 8)
    other = engine_on("cpu", model)
    expected = [CodeStream(other, prefix, source, Sampling(), seed=n) for n in range(2)]
    advance_together(expected, 8)
    full.append(True)
    with pytest.raises(OutOfRoomError, match="out of GPU memory for 4 streams with prompts of 12 tokens: 2 fit"):
        engine.begin(prefix)
    assert torch.equal(streams[0].advance(8), expected[0].advance(8))  # by a graph that is there, if not by its own
    full.clear()
    for codes, alone in zip(advance_together(streams, 8), advance_together(expected, 8), strict=True):
        assert torch.equal(codes, alone)
    assert len(engine._free) == engine.streams - 2
    assert CodeStream(engine, prefix, source, Sampling(), seed=2).advance(5).shape == (1, 4, 5)


@pytest.mark.gpu
def test_out_of_a_gpus_memory_the_streams_that_are_there_go_on() -> None:
    config = WIDE.model_copy(update={"transformer": WIDE.transformer.model_copy(update={"window_frames": 20_000})})
    model = language_model(2, config)
    prefix, _ = prefixes(model)
    engine, alone = engine_on("cuda", model, streams=1024), engine_on("cuda", model, streams=1)
    whole = CodeStream(alone, prefix, source, Sampling(), seed=0).advance(24)
    streams = [CodeStream(engine, prefix, source, Sampling(), seed=0)]
    parts = [streams[0].advance(12)]
    held = torch.cuda.memory_reserved() + 2**29
    torch.cuda.set_per_process_memory_fraction(held / torch.cuda.get_device_properties(0).total_memory)
    try:
        with pytest.raises(OutOfRoomError, match="out of GPU memory for"):
            for seed in range(1, 1024):
                streams.append(CodeStream(engine, prefix, source, Sampling(), seed))
        parts.append(streams[0].advance(12))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert len(streams) > 2 and torch.equal(torch.cat(parts, 2), whole)


# --- what a capture does not forgive ----------------------------------------------------------------------------------


class Watch(TorchDispatchMode):
    """No operator may touch the host's memory, and none may copy what all streams remember."""

    def __init__(self, most_elements: int) -> None:
        super().__init__()
        self.most_elements, self.seen = most_elements, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, made)) if isinstance(x, Tensor)]
        assert all(tensor.is_meta for tensor in tensors), func
        self.seen += 1
        if isinstance(made, Tensor) and not func.is_view and not func._schema.is_mutable:
            assert made.numel() < self.most_elements, f"{func} makes {tuple(made.shape)}"
        return made


@pytest.mark.parametrize("kind", ["own", "text", "melody"])
def test_a_step_does_nothing_that_cannot_be_captured(kind: str) -> None:
    """With tensors that have a shape and no value: what depends on a value, and so waits for it, is an error."""
    melody_frames, watched = 11 * (kind == "melody"), []
    watch = Watch(most_elements=2 * 2 * 48 * 151)  # fewer than the keys of a layer of two streams

    def capture(run: Callable[[], Any], device: torch.device) -> Any:
        with torch.no_grad(), watch:
            made = run()
        watched.append(watch.seen)
        return run, made

    model: Any = MusicLM(WIDE) if kind == "own" else musicgen(melody_frames=melody_frames, window_frames=800)
    engine = GraphedEngine(model, "float32", torch.device("meta"), least=4, capture=capture)
    with torch.inference_mode():
        engine.begin(torch.zeros(2, melody_frames + 12, model.heads.in_features))
        engine._graph(2)
    assert len(watched) == 2 and watched[0] > 100
