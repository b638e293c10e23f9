"""Laws 2, 3 and 4 for the LSTM, and how it hears its prefix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from laws import (
    chunks_do_not_matter,
    company_does_not_matter,
    memory_is_constant,
    steps_are_forward,
    stream_is_the_naive_one,
)
from tiny import LM, LSTM, language_model
from torch import Tensor

from audiogen.interfaces import Attributes, AudiogenError, Condition, LanguageModel, Prompt
from audiogen.lm.engine import make_engine
from audiogen.lm.model import MusicLM, MusicLMConfig
from audiogen.lm.recurrent import RecurrentConfig
from audiogen.lm.sampling import Sampling
from audiogen.lm.score import NUM_LANES
from audiogen.lm.stream import CodeStream
from audiogen.training.optimiser import MuonAdamW


@pytest.fixture(scope="module")
def model() -> MusicLM:
    return language_model(config=LSTM)


@pytest.fixture(scope="module")
def prefix(model: MusicLM) -> Tensor:
    return model.prefix.encode([Prompt("a calm harp", Attributes(style="folk", tempo_bpm=120.0)), None])


def source(first: int, frames: int) -> Any:
    position = torch.arange(first, first + frames)[:, None] * torch.linspace(0.1, 1, NUM_LANES)
    return position.sin().numpy()


def given(model: MusicLM, frames: int, batch: int = 2) -> tuple[Tensor, Condition]:
    random = torch.Generator().manual_seed(1)
    codes = torch.randint(0, LSTM.codebook_size + 1, (batch, LSTM.num_codebooks, frames), generator=random)
    prefix = model.prefix.encode([Prompt("warm pads", Attributes(style="ambient")), None, None][:batch])
    return codes, Condition(prefix, torch.randn(batch, frames, NUM_LANES, generator=random))


def stepped(model: MusicLM, codes: Tensor, condition: Condition, state: Any) -> Tensor:
    frames = range(codes.shape[2])
    return torch.cat([model.step(codes[:, :, t : t + 1], condition.lanes[:, t : t + 1], state) for t in frames], 2)


# --- the laws ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(32, 1, 16), (24, 3, 40), (40, 2, 24)])
def test_steps_are_forward(sizes: tuple[int, int, int]) -> None:
    dim, depth, hidden = sizes
    told = LSTM.model_copy(update={"recurrent": RecurrentConfig(dim=dim, depth=depth, hidden=hidden)})
    model = language_model(config=told)
    assert isinstance(model, LanguageModel)
    steps_are_forward(model, *given(model, 60, batch=3))


@torch.inference_mode()
def test_steps_in_half_precision_stay_near_for_long(model: MusicLM) -> None:
    codes, condition = given(model, 600)
    exact = model.forward(codes, condition)
    half = language_model(config=LSTM).bfloat16()
    told = Condition(condition.prefix.bfloat16(), condition.lanes.bfloat16())
    state = half.init_state(told.prefix)
    logits = stepped(half, codes, told, state)
    assert logits.dtype == torch.bfloat16 and all(cell.dtype == torch.float32 for cell in state.cells)
    error = (logits - exact).square().mean((0, 1, 3)).sqrt() / exact.std()
    assert float(error.mean()) < 0.02 and float(error[-100:].mean()) < 1.5 * float(error[:100].mean())
    torch.testing.assert_close(half.forward(codes, told).float(), exact, atol=0.1 * float(exact.std()), rtol=0.1)


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(guidance=1.0, temperature=0)])
def test_the_stream_is_the_naive_one(model: MusicLM, prefix: Tensor, sampling: Sampling) -> None:
    stream_is_the_naive_one(model, prefix, source, 25, sampling, seed=11)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_chunks_and_company_do_not_matter(prefix: Tensor, precision: Any) -> None:
    engine = make_engine(language_model(config=LSTM), precision)
    chunks_do_not_matter(lambda: CodeStream(engine, prefix, source, Sampling(), seed=5), frames=40)

    def make(number: int) -> CodeStream:
        return CodeStream(engine, prefix, source, Sampling(guidance=1.0 + number % 2), number)

    company_does_not_matter(make, frames=20, seeds=range(1))


def test_memory_is_constant(model: MusicLM, prefix: Tensor) -> None:
    stream = CodeStream(make_engine(model, "float32"), prefix, source, Sampling(), seed=5)
    memory_is_constant(stream, lambda: stream.advance(4), times=250)
    state = stream._state
    assert sum(part.numel() for part in [*state.hidden, *state.cells]) == 2 * 2 * 2 * 40  # rows, layers, kinds


# --- the prefix -------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def test_a_prefix_is_heard_as_a_set(model: MusicLM) -> None:
    codes, condition = given(model, 8)
    shuffled = condition.prefix[:, torch.randperm(condition.prefix.shape[1])]
    torch.testing.assert_close(
        model.forward(codes, Condition(shuffled, condition.lanes)), model.forward(codes, condition), atol=1e-5, rtol=0
    )


@torch.inference_mode()
def test_a_long_clip_does_not_forget_its_prompt(model: MusicLM) -> None:
    codes, condition = given(model, 1000)
    other = model.forward(codes, Condition(condition.prefix.flip(0), condition.lanes))
    apart = (model.forward(codes, condition) - other).abs().amax((0, 1, 3))
    assert float(apart[-100:].min()) > 0.1 * float(apart.mean()) > 1e-3


@torch.inference_mode()
def test_steering_is_heard_in_the_next_frame_and_leaves_what_was_played(model: MusicLM) -> None:
    codes, condition = given(model, 20)
    other = condition.prefix.flip(0)
    whole = model.forward(codes, condition)
    before, after = codes.split([10, 10], 2)
    later = Condition(condition.prefix, condition.lanes[:, 10:])
    state = model.init_state(condition.prefix)
    stepped(model, before, condition, state)
    memory = [part.clone() for part in (*state.hidden, *state.cells)]
    model.set_prefix(other, state)
    assert all(torch.equal(a, b) for a, b in zip(memory, (*state.hidden, *state.cells), strict=True))
    steered = model.step(after[:, :, :1], later.lanes[:, :1], state)
    assert float((steered - whole[:, :, 10:11]).abs().max()) > 1e-3
    back = model.init_state(other)
    model.set_prefix(condition.prefix, back)  # before anything was played: as one built with it
    torch.testing.assert_close(stepped(model, before, condition, back), whole[:, :, :10], atol=1e-5, rtol=0)
    torch.testing.assert_close(stepped(model, after, later, back), whole[:, :, 10:], atol=1e-5, rtol=0)


@torch.inference_mode()
def test_the_past_is_remembered_and_the_future_unknown(model: MusicLM) -> None:
    codes, condition = given(model, 20)
    changed = codes.clone()
    changed[:, :, 8] = (changed[:, :, 8] + 1) % LSTM.codebook_size
    moved = (model.forward(changed, condition) - model.forward(codes, condition)).abs().amax((0, 1, 3))
    assert not moved[:8].any() and bool((moved[8:] > 1e-6).all())


# --- training and files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_autocast_gives_nearly_the_gradients_of_float32(training: bool) -> None:
    model = language_model(config=LSTM).requires_grad_(True).train(training)
    codes, condition = given(model, 40)
    found = []
    for enabled in (False, True):
        model.zero_grad()
        condition = Condition(given(model, 1)[1].prefix, condition.lanes)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            model.forward(codes, condition).float().logsumexp(-1).square().mean().backward()
        found.append(torch.cat([weight.grad.flatten() for weight in model.recurrent.parameters()]))  # type: ignore[union-attr]
    assert float(torch.cosine_similarity(*found, 0)) > 0.999


def test_muon_turns_the_gates_and_the_prefix_matters_to_the_loss() -> None:
    model = language_model(config=LSTM).requires_grad_(True)
    optimiser = MuonAdamW(model, betas=(0.9, 0.95), weight_decay=0.0, not_matrices=("heads",))
    turned = {id(weight) for group in optimiser.param_groups if group["matrices"] for weight in group["params"]}
    trunk = {name for name, weight in model.named_parameters() if name.startswith("recurrent") and id(weight) in turned}
    parts = [f"layers.{layer}.{part}" for layer in range(2) for part in ("inputs", "back", "out")]
    assert trunk == {f"recurrent.{part}.weight" for part in (*parts, "hear", "tell")}
    codes, condition = given(model, 12)
    model.forward(codes, condition).logsumexp(-1).mean().backward()
    assert all(float(weight.grad.abs().sum()) > 0 for weight in model.recurrent.parameters())  # type: ignore[union-attr]


def test_a_new_model_begins_with_open_forget_gates_near_the_identity() -> None:
    torch.manual_seed(0)
    model = MusicLM(LSTM)
    for layer in model.recurrent.requires_grad_(False).layers:
        take, keep, candidate, give = layer.inputs.bias.chunk(4)
        assert bool((keep == 1).all()) and not torch.cat([take, candidate, give]).any()
        x = torch.randn(2, 50, 32)
        assert float(layer(x).std()) < 0.1
        gates = layer.inputs(layer.norm(x)) - layer.inputs.bias
        assert float(gates.std()) == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("storage", ["float32", "int8"])
@torch.inference_mode()
def test_saved_and_loaded(model: MusicLM, tmp_path: Path, storage: Any) -> None:
    model.save(tmp_path / "lm", storage)
    again = MusicLM.load(tmp_path / "lm")
    assert again.config == model.config and again.state_dict().keys() == model.state_dict().keys()
    codes, condition = given(model, 30)
    logits, expected = again.forward(codes, condition), model.forward(codes, condition)
    far = float((logits - expected).abs().max() / expected.std())
    assert far == 0 if storage == "float32" else 0 < far < 0.3
    steps_are_forward(again, codes, condition)


def test_a_model_without_an_lstm_is_what_it_was() -> None:
    told = LM.model_dump(exclude={"recurrent"})  # as files of before have it
    assert MusicLMConfig.build(told, "config.json") == LM and MusicLMConfig().recurrent is None
    assert not any("recurrent" in name for name in MusicLM(LM).state_dict())
    assert not any("transformer" in name for name in MusicLM(LSTM).state_dict())


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"recurrent": {"dim": 0}}, r"recurrent\.dim: .*greater than 0"),
        ({"recurrent": {"depth": -1}}, r"recurrent\.depth"),
        ({"recurrent": {"hidden": 2.5}}, r"recurrent\.hidden"),
        ({"recurrent": {"heads": 4}}, r"recurrent\.heads: Extra"),
        ({"recurrent": {}, "transformer": {"depth": 4}}, "a Transformer or an LSTM"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(told: dict[str, Any], message: str) -> None:
    with pytest.raises(AudiogenError, match=rf"(?s)lm\.toml.*{message}"):
        MusicLMConfig.build(told, "lm.toml")
