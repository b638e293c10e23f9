"""Law 2 for every language model: step repeated is forward."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from laws import failed_save_changes_nothing, memory_is_constant, steps_are_forward
from tiny import LM, MINI, language_model
from torch import Tensor

from audiogen.interfaces import Attributes, AudiogenError, Condition, LanguageModel, Prompt
from audiogen.lm.model import MusicLM, MusicLMConfig
from audiogen.lm.score import NUM_LANES
from audiogen.lm.transformer import TransformerConfig
from audiogen.storage import save_weights

MODELS = ["tiny", *(["mini"] if (MINI / "lm" / "config.json").is_file() else [])]


def prompts(model: MusicLM, batch: int = 2) -> Tensor:
    said = [Prompt("warm pads", Attributes(style="ambient")), None, Prompt("fast drums", Attributes(tempo_bpm=174.0))]
    return model.prefix.encode(said[:batch])


def given(model: MusicLM, frames: int, batch: int = 2) -> tuple[Tensor, Condition]:
    random = torch.Generator().manual_seed(1)
    shape = (batch, model.config.num_codebooks, frames)
    codes = torch.randint(0, model.config.codebook_size + 1, shape, generator=random)
    return codes, Condition(prompts(model, batch), torch.randn(batch, frames, NUM_LANES, generator=random))


@pytest.mark.parametrize("name", MODELS)
def test_steps_are_forward(name: str) -> None:
    model = language_model() if name == "tiny" else MusicLM.load(MINI / "lm")
    assert isinstance(model, LanguageModel)
    frames = 30 if name == "tiny" else 12  # the tiny one's window is 8
    steps_are_forward(model, *given(model, frames), tolerance=1e-5 if name == "tiny" else 1e-4)


@pytest.mark.parametrize("heads", [(4, 4), (4, 1), (2, 2)])
def test_steps_are_forward_for_every_grouping(heads: tuple[int, int]) -> None:
    sizes = TransformerConfig(dim=32, depth=3, heads=heads[0], kv_heads=heads[1], hidden=48, window_frames=5)
    model = language_model(config=LM.model_copy(update={"transformer": sizes}))
    steps_are_forward(model, *given(model, 17, batch=3))


@pytest.mark.parametrize("stretch", [1, 4, 7])
def test_attention_in_stretches_is_attention_at_once(stretch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = language_model().train().requires_grad_(True)
    found = []
    for rows in (1000, stretch):
        monkeypatch.setattr("audiogen.lm.transformer._STRETCH", rows)
        logits = model(*given(model, 40))  # the window is 8
        gradients = torch.autograd.grad(logits.square().mean(), [model.codes.weight, *model.trunk.parameters()])
        found.append([logits, *gradients])
    for whole, cut in zip(*found, strict=True):
        torch.testing.assert_close(cut, whole, atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_the_window_ends_and_the_prefix_stays() -> None:
    shallow = LM.transformer.model_copy(update={"depth": 1})
    model = language_model(config=LM.model_copy(update={"transformer": shallow}))
    codes, condition = given(model, 24)
    logits = model.forward(codes, condition)
    other = codes.clone()
    other[:, :, 3] = (other[:, :, 3] + 1) % LM.codebook_size
    reached = (model.forward(other, condition) - logits).abs().amax((0, 1, 3)) > 1e-6
    assert reached.nonzero()[:, 0].tolist() == list(range(3, 11))  # itself and seven after it
    swapped = model.forward(codes, Condition(condition.prefix.flip(0), condition.lanes))
    assert bool(((swapped - logits).abs().amax((0, 1, 3)) > 1e-3).all())


@torch.inference_mode()
def test_a_prefix_swapped_mid_stream_is_as_one_built_with() -> None:
    shallow = LM.transformer.model_copy(update={"depth": 1})  # deeper, frames remember the prefix they were heard under
    model = language_model(config=LM.model_copy(update={"transformer": shallow}))
    codes, condition = given(model, 24)
    other = condition.prefix.flip(0)
    expected = model.forward(codes, Condition(other, condition.lanes))
    state = model.init_state(condition.prefix)
    for t in range(24):
        if t == 13:
            model.set_prefix(other, state)
        logits = model.step(codes[:, :, t : t + 1], condition.lanes[:, t : t + 1], state)
        same = torch.allclose(logits, expected[:, :, t : t + 1], atol=1e-5)
        assert same == (t >= 13)


@torch.inference_mode()
def test_a_swap_replaces_the_prefix_and_leaves_the_frames() -> None:
    model = language_model()
    codes, condition = given(model, 10)
    other = condition.prefix.flip(0)
    state = model.init_state(condition.prefix)
    for t in range(10):
        model.step(codes[:, :, t : t + 1], condition.lanes[:, t : t + 1], state)
    frames = [keys[:, :, model.prefix.length :].clone() for keys in state.keys]
    model.set_prefix(other, state)
    fresh = model.init_state(other)
    for layer in range(LM.transformer.depth):
        for mine, built in ((state.keys, fresh.keys), (state.values, fresh.values)):
            assert torch.equal(mine[layer][:, :, : model.prefix.length], built[layer][:, :, : model.prefix.length])
        assert torch.equal(state.keys[layer][:, :, model.prefix.length :], frames[layer])
    assert state.position == 10


@torch.inference_mode()
def test_state_is_constant_over_thousands_of_frames() -> None:
    shallow = LM.transformer.model_copy(update={"depth": 1})
    model = language_model(config=LM.model_copy(update={"transformer": shallow}))
    codes, condition = given(model, 1)
    state = model.init_state(condition.prefix)
    memory_is_constant(state, lambda: model.step(codes, condition.lanes, state), times=2000)
    assert state.position == 2000


def test_angles_stay_exact_in_half_precision() -> None:
    model = language_model().half()
    assert model.transformer.frequencies.dtype == torch.float64
    assert model.heads.weight.dtype == torch.float16


@pytest.mark.parametrize("sizes", [{"heads": 5}, {"kv_heads": 3}, {"dim": 24, "heads": 4, "kv_heads": 2}])
def test_sizes_that_do_not_fit_are_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(AudiogenError, match="transformer"):
        MusicLMConfig.build({"transformer": {"dim": 32, "heads": 4, "kv_heads": 2} | sizes}, "lm.toml")


def test_embeddings_begin_at_the_codebooks_where_the_sizes_agree() -> None:
    model = language_model()
    before = model.codes.weight.clone()
    model.start_from_codebooks(torch.randn(6, 32, LM.code_dim + 1))
    assert torch.equal(model.codes.weight, before)
    codebooks = torch.randn(6, 32, LM.code_dim) * torch.logspace(0, -3, 6)[:, None, None]
    model.start_from_codebooks(codebooks)
    tables, old = model.codes.weight.view(4, 33, -1), before.view(4, 33, -1)
    assert torch.equal(tables[:, 32], old[:, 32])  # that of no code at all stays
    torch.testing.assert_close(tables[:, :32].square().mean((1, 2)), torch.ones(4))
    torch.testing.assert_close(tables[2, :32] / tables[2, 0, 0], codebooks[2] / codebooks[2, 0, 0])


def test_saved_and_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = language_model()

    def save() -> None:
        model.save(tmp_path / "lm", "float32")

    failed_save_changes_nothing(save, tmp_path / "lm", "safetensors.torch.save_file", monkeypatch)
    save()
    again = MusicLM.load(tmp_path / "lm")
    codes, condition = given(model, 5)
    assert again.config == model.config
    assert torch.equal(again.forward(codes, condition), model.forward(codes, condition))


def test_a_model_made_before_there_were_so_many_lanes_hears_nothing_of_the_later_ones(tmp_path: Path) -> None:
    model = language_model()
    first = model.lanes_in[0]
    first.weight.data[:, 48:] = 0
    state = {**model.state_dict(), "lanes_in.0.weight": first.weight.data[:, :48].clone()}
    save_weights(tmp_path / "lm", "music_lm", model.config.model_dump(mode="json"), state, "float32")
    codes, condition = given(model, 5)
    assert torch.equal(MusicLM.load(tmp_path / "lm").forward(codes, condition), model.forward(codes, condition))


def test_a_codec_is_no_language_model(tmp_path: Path) -> None:
    from tiny import codec

    codec().save(tmp_path / "codec", "float16")
    with pytest.raises(AudiogenError, match="not a music_lm"):
        MusicLM.load(tmp_path / "codec")
