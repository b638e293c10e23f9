"""Our MusicGen against transformers' own: the same weights, the same numbers."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tiny_musicgen
import torch
from laws import chunks_do_not_matter, failed_save_changes_nothing, memory_is_constant, steps_are_forward
from torch import Tensor

from audiogen.foreign import Checkpoint
from audiogen.interfaces import AudiogenError, Condition, LanguageModel
from audiogen.lm.engine import EagerEngine
from audiogen.lm.musicgen import MusicGen, MusicGenConfig
from audiogen.lm.sampling import Sampling
from audiogen.lm.stream import WindowedStream
from audiogen.lm.text import TextEncoder

TOLERANCE = 1e-4
VARIANTS: dict[str, dict[str, Any]] = {
    "mono": {},
    "no projection, one layer": {"text_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_codebooks": 3},
    "stereo": {"channels": 2, "hidden_size": 48, "ffn_dim": 64},
    "melody": {"melody": True, "num_hidden_layers": 3},
    "stereo melody": {"melody": True, "channels": 2, "text_dim": 32},
}


class Pair(NamedTuple):
    theirs: Any
    ours: MusicGen
    folder: Path


def load(folder: Path) -> MusicGen:
    checkpoint = Checkpoint(folder)
    config = MusicGenConfig.from_transformers(checkpoint.config, str(folder), 50.0)
    return MusicGen.from_transformers(checkpoint, config, torch.float32)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    made = {}
    for seed, (name, told) in enumerate(VARIANTS.items()):
        theirs = tiny_musicgen.model(seed, **told)
        folder = tiny_musicgen.save(theirs, tmp_path_factory.mktemp(f"variant{seed}"))
        made[name] = Pair(theirs, load(folder), folder)
    return made


def states(pair: Pair) -> Tensor:
    """The text's, `[1, L, text_dim]`, by transformers."""
    return pair.theirs.text_encoder(tiny_musicgen.token_ids()).last_hidden_state  # type: ignore[no-any-return]


def pitches(pair: Pair, seed: int = 0) -> Tensor | None:
    frames = pair.ours.config.melody_frames
    return torch.randint(0, 12, (frames,), generator=torch.Generator().manual_seed(seed)) if frames else None


def given(pair: Pair, frames: int = 20) -> tuple[Tensor, Condition]:
    """Delayed codes of two rows, with the prompt and without."""
    config = pair.ours.config
    codes = torch.randint(0, config.codebook_size + 1, (2, config.num_codebooks, frames))
    return codes, Condition(pair.ours.prefix(states(pair), pitches(pair)), torch.zeros(2, frames, 0))


def told_to_transformers(pair: Pair) -> dict[str, Tensor]:
    """The prompt and the melody of `given` in transformers' words."""
    melody, ids = pitches(pair), tiny_musicgen.token_ids()
    told = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if melody is not None:
        told["input_features"] = torch.nn.functional.one_hot(melody, 12)[None].float()
    return told


@pytest.mark.parametrize("name", VARIANTS)
@torch.inference_mode()
def test_logits_are_theirs_with_the_prompt(pairs: dict[str, Pair], name: str) -> None:
    pair = pairs[name]
    codes, condition = given(pair)
    expected = pair.theirs(**told_to_transformers(pair), decoder_input_ids=codes[0]).logits
    logits = pair.ours.forward(codes, condition)
    assert logits.std() > 0.3
    assert float((expected[:, -20:] - logits[0]).abs().max()) <= TOLERANCE


@pytest.mark.parametrize("name", VARIANTS)
@torch.inference_mode()
def test_logits_are_theirs_without_the_prompt(pairs: dict[str, Pair], name: str) -> None:
    """As guidance has them in transformers: states of zeros, a mask of zeros, a melody of the first pitch class."""
    pair = pairs[name]
    codes, condition = given(pair)
    ids = tiny_musicgen.token_ids()
    told = {"input_ids": ids, "attention_mask": torch.zeros_like(ids)}
    expected = pair.theirs(**told, decoder_input_ids=codes[1]).logits
    logits = pair.ours.forward(codes, condition)
    assert float((expected[:, -20:] - logits[1]).abs().max()) <= TOLERANCE
    assert (
        float((logits[0] - pair.ours.forward(codes[:1], Condition(condition.prefix[1:], condition.lanes))).abs().max())
        > 0.01
    )


@pytest.mark.parametrize(("name", "guidance"), [("mono", 3.0), ("stereo", 1.0), ("melody", 3.0)])
def test_greedy_codes_are_theirs_over_500_steps(pairs: dict[str, Pair], name: str, guidance: float) -> None:
    pair = pairs[name]
    longest = max(pair.ours.config.delays)
    told = {key: value for key, value in told_to_transformers(pair).items() if key == "input_features"}
    expected, _ = tiny_musicgen.generate(pair.theirs, 500 + longest, guidance, **told)
    prefix = pair.ours.prefix(states(pair), pitches(pair))
    sampling = Sampling(guidance=guidance, temperature=0)
    stream = WindowedStream(EagerEngine(pair.ours), lambda first: prefix, sampling, seed=0)
    codes = stream.advance(500)
    assert pair.ours.config.window_frames > 500 and codes.unique().numel() >= 8
    assert torch.equal(codes, expected[:, :, :500])


@pytest.mark.parametrize(("channels", "frames"), [(1, 40), (2, 36)])
def test_windows_go_on_as_their_authors_describe(channels: int, frames: int, tmp_path: Path) -> None:
    """Each window of transformers' own `generate` begins with the end of the one before."""
    theirs = tiny_musicgen.model(7, channels=channels, max_position_embeddings=44)
    pair = Pair(theirs, load(tiny_musicgen.save(theirs, tmp_path / "model")), tmp_path)
    stride = pair.ours.config.stride_frames
    assert (pair.ours.config.window_frames, stride) == (frames, round(0.6 * frames))
    whole, _ = tiny_musicgen.generate(theirs, frames, 3.0)
    window = whole
    for _ in range(4):
        window, _ = tiny_musicgen.generate(theirs, frames, 3.0, decoder_input_ids=window[0, :, stride:])
        whole = torch.cat([whole, window[:, :, frames - stride :]], 2)
    prefix, begun = pair.ours.prefix(states(pair)), []

    def source(first: int) -> Tensor:
        begun.append(first)
        return prefix

    stream = WindowedStream(EagerEngine(pair.ours), source, Sampling(guidance=3.0, temperature=0), seed=0)
    assert torch.equal(stream.advance(whole.shape[2]), whole)
    assert begun == [0, stride, 2 * stride, 3 * stride, 4 * stride]


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Of few positions."""
    theirs = tiny_musicgen.model(3, max_position_embeddings=24, num_hidden_layers=1)
    folder = tiny_musicgen.save(theirs, tmp_path_factory.mktemp("short"))
    return Pair(theirs, load(folder), folder)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_chunks_do_not_matter_across_windows(short: Pair, guidance: float) -> None:
    prefix, sampling = short.ours.prefix(states(short)), Sampling(guidance=guidance, top_k=250)
    engine = EagerEngine(short.ours)
    chunks_do_not_matter(lambda: WindowedStream(engine, lambda first: prefix, sampling, seed=5), frames=70)


def test_memory_is_constant_across_windows(short: Pair) -> None:
    prefix, stride = short.ours.prefix(states(short)), short.ours.config.stride_frames
    stream = WindowedStream(EagerEngine(short.ours), lambda first: prefix, Sampling(), seed=5)
    stream.advance(short.ours.config.window_frames)
    memory_is_constant(stream, lambda: stream.advance(stride), times=12, settle=2)


def test_steering_goes_on_from_what_was_played(short: Pair) -> None:
    one, other, greedy = short.ours.prefix(states(short)), short.ours.prefix(-states(short)), Sampling(temperature=0)
    plain, steered, unmoved = (WindowedStream(EagerEngine(short.ours), lambda first: one, greedy, 5) for _ in range(3))
    assert plain.advance(0).shape == (1, 4, 0)
    before = plain.advance(6)
    assert torch.equal(steered.advance(6), before) and torch.equal(unmoved.advance(6), before)
    unmoved.steer(lambda first: one)  # to where it was already: nothing changes
    steered.steer(lambda first: other)
    expected, after = plain.advance(30), steered.advance(30)
    assert torch.equal(unmoved.advance(30), expected) and not torch.equal(after, expected)


@pytest.mark.parametrize("name", VARIANTS)
def test_steps_are_forward(pairs: dict[str, Pair], name: str) -> None:
    assert isinstance(pairs[name].ours, LanguageModel)
    steps_are_forward(pairs[name].ours, *given(pairs[name], 12), tolerance=3e-5)  # of logits up to 8


@torch.inference_mode()
def test_the_melody_changes_the_logits(pairs: dict[str, Pair]) -> None:
    """Its silent loss is a known fault elsewhere."""
    pair = pairs["melody"]
    codes, _ = given(pair, 6)
    text, lanes = states(pair), torch.zeros(1, 6, 0)
    made = [
        pair.ours.forward(codes[:1], Condition(pair.ours.prefix(text, melody)[:1], lanes))
        for melody in (pitches(pair, 1), pitches(pair, 2), None)
    ]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert float((made[a] - made[b]).abs().max()) > 0.01


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.inference_mode()
def test_half_precision_in_shards(tmp_path: Path, dtype: torch.dtype) -> None:
    theirs = tiny_musicgen.model(1, channels=2).to(dtype)
    folder = tiny_musicgen.save(theirs, tmp_path / "half", max_shard_size="20KB")
    assert len(list(folder.glob("*.safetensors"))) > 3
    pair = Pair(type(theirs).from_pretrained(folder, dtype=torch.float32).eval(), load(folder), folder)
    codes, condition = given(pair)
    expected = pair.theirs(**told_to_transformers(pair), decoder_input_ids=codes[0]).logits
    logits = pair.ours.forward(codes, condition)
    assert float((expected - logits[0]).abs().max()) <= TOLERANCE


@torch.inference_mode()
def test_bfloat16_stays_near(pairs: dict[str, Pair]) -> None:
    pair = pairs["mono"]
    codes, condition = given(pair)
    exact = pair.ours.forward(codes, condition)
    near = load(pair.folder).to(torch.bfloat16)
    rough = near.forward(codes, Condition(near.prefix(states(pair)), condition.lanes))
    assert rough.dtype == torch.bfloat16 and float((rough - exact).abs().mean()) < 0.1


@torch.inference_mode()
def test_text_states_are_theirs(pairs: dict[str, Pair], tmp_path: Path) -> None:
    pair = pairs["mono"]
    text = TextEncoder.from_transformers(Checkpoint(pair.folder), torch.float32)
    torch.testing.assert_close(text.encode(tiny_musicgen.PROMPT), states(pair), atol=1e-5, rtol=0)
    text.save(tmp_path / "text", "float32")
    again = TextEncoder.load(tmp_path / "text", torch.float32)
    assert torch.equal(again.encode("a calm harp"), text.encode("a calm harp"))


def test_saved_and_loaded(pairs: dict[str, Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = pairs["stereo melody"]

    def save() -> None:
        pair.ours.save(tmp_path / "lm", "float32")

    failed_save_changes_nothing(save, tmp_path / "lm", "safetensors.torch.save_file", monkeypatch)
    save()
    again = MusicGen.load(tmp_path / "lm")
    codes, condition = given(pair, 5)
    assert again.config == pair.ours.config
    assert torch.equal(again.forward(codes, condition), pair.ours.forward(codes, condition))


def test_a_folder_of_ours_that_does_not_fit(pairs: dict[str, Pair], tmp_path: Path) -> None:
    folder = tmp_path / "lm"
    pairs["mono"].ours.save(folder, "float16")
    told = (folder / "config.json").read_text()
    for change, message in (('"depth": 3', r"Missing key.*blocks\.2"), ('"hidden": 64', "size mismatch")):
        (folder / "config.json").write_text(re.sub(change.split(":")[0] + r": \d+", change, told))
        with pytest.raises(AudiogenError, match=f"do not fit its config.json: .*{message}"):
            MusicGen.open(folder)
    broken = copy.deepcopy(pairs["mono"].ours)
    broken.blocks[1].down.weight[3, 4] = float("inf")  # type: ignore[union-attr, index, operator]
    broken.save(folder, "float16")
    opened = MusicGen.open(folder)
    with pytest.raises(AudiogenError, match=r"lm: blocks\.1\.down\.weight holds NaN or infinite"):
        opened.read_all()


def told_of(**changed: Any) -> dict[str, Any]:
    decoder = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 48, "vocab_size": 32}
    return {
        "model_type": "musicgen",
        "text_encoder": {"d_model": changed.pop("d_model", 24)},
        "decoder": decoder | {"pad_token_id": 32, "num_codebooks": 4} | changed,
    }


def test_the_window_is_30_seconds_with_a_stride_of_18() -> None:
    config = MusicGenConfig.from_transformers(told_of(), "c.json", 50.0)
    assert (config.window_frames, config.stride_frames) == (1500, 900)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"hidden_size": 10**9}, "dim"),
        ({"num_hidden_layers": 10**6}, "depth"),
        ({"ffn_dim": 10**12}, "hidden"),
        ({"vocab_size": 2**40, "pad_token_id": 2**40}, "codebook_size"),
        ({"hidden_size": -32}, "dim"),
        ({"hidden_size": "32k"}, "dim"),
        ({"num_attention_heads": 5}, "multiple of heads"),
        ({"activation_function": "relu"}, "activation_function 'relu'"),
        ({"pad_token_id": 0}, "pad_token_id 0"),
        ({"max_position_embeddings": 3}, "window_frames"),
        ({"max_position_embeddings": None}, "max_position_embeddings"),
        ({"audio_channels": 3}, "channels"),
        ({"num_codebooks": 3, "audio_channels": 2}, "channels"),
        ({"d_model": 10**9}, "text_dim"),
    ],
)
def test_absurd_and_foreign_sizes_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(AudiogenError, match=rf"(?s)c\.json.*{message}"):
        MusicGenConfig.from_transformers(told_of(**changed), "c.json", 50.0)


def test_a_config_without_parts_is_refused() -> None:
    with pytest.raises(AudiogenError, match="'decoder' and 'text_encoder'"):
        MusicGenConfig.from_transformers({"model_type": "musicgen", "decoder": 3}, "c.json", 50.0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"hidden_size": 64}, "of another shape than config.json says.*instead of"),
        ({"num_hidden_layers": 3}, r"missing.*layers\.2\."),
        ({"num_hidden_layers": 1}, r"not known.*layers\.1\."),
        ({"num_hidden_layers": 200, "hidden_size": 16_000, "ffn_dim": 100_000}, "tensors missing"),
        ({"vocab_size": 31, "pad_token_id": 31}, "lm_heads"),
        ({"d_model": 32}, r"not known: enc_to_dec_proj"),
    ],
)
def test_tensors_that_do_not_fit_are_named_before_anything_is_read(
    pairs: dict[str, Pair], changed: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Checkpoint, "read", lambda *_: pytest.fail("a tensor was read"))
    checkpoint = Checkpoint(pairs["mono"].folder)
    config = MusicGenConfig.from_transformers(told_of(**changed), "c.json", 50.0)
    with pytest.raises(AudiogenError, match=message):
        MusicGen.from_transformers(checkpoint, config, torch.float32)
