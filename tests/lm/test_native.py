"""The compiled kernel against PyTorch doing the same arithmetic."""

from __future__ import annotations

import copy
import ctypes
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import tiny_musicgen
import torch
from processors import OF_X86, compiled_for
from tiny import LM, language_model
from torch import Tensor, nn

from audiogen import compiler
from audiogen.foreign import Checkpoint
from audiogen.interfaces import Attributes, AudiogenError, Prompt
from audiogen.lm import musicgen, native, transformer
from audiogen.lm.engine import EagerEngine, Settled, make_engine, settle_precision
from audiogen.lm.model import MusicLM, MusicLMConfig
from audiogen.lm.musicgen import MusicGen, MusicGenConfig
from audiogen.lm.native import NativeEngine
from audiogen.lm.sampling import Sampling
from audiogen.lm.stream import CodeStream
from audiogen.lm.transformer import TransformerConfig
from tests.lm.test_stream import source

ODD = MusicLMConfig(  # nothing is a multiple of the kernel's vectors
    num_codebooks=3, codebook_size=37, code_dim=5,
    transformer=TransformerConfig(dim=60, depth=2, heads=5, kv_heads=1, hidden=50, window_frames=21),
)  # fmt: skip
WIDE = MusicLMConfig(
    num_codebooks=2, codebook_size=64, code_dim=8,
    transformer=TransformerConfig(dim=288, depth=1, heads=3, kv_heads=3, hidden=320, window_frames=40),
)  # fmt: skip


def rounded(x: Tensor, precision: str) -> Tensor:
    """What the kernel makes of a row that goes into a linear layer."""
    if precision == "bfloat16":
        return x.bfloat16().float()
    top = x.abs().amax(-1, keepdim=True).clamp_min(1e-30)
    return ((x * (127 / top) + 128.5).floor() - 128) * (top / 127)


def emulated(model: Any, precision: str, monkeypatch: pytest.MonkeyPatch) -> EagerEngine:
    """The model in PyTorch with the kernel's roundings: of weights, of what goes in, of keys and values."""
    model = copy.deepcopy(model)
    packed = [m for n, m in model.named_modules() if isinstance(m, nn.Linear) and _is_packed(n)]
    assert packed
    for linear in packed:
        weight = linear.weight.data
        scale = weight.abs().amax(1, keepdim=True) / 127
        linear.weight.data = weight.bfloat16().float() if precision == "bfloat16" else (weight / scale).round() * scale
        linear.register_forward_pre_hook(lambda _, given: (rounded(given[0], precision),))
    for module, name in ((transformer, "_grouped"), (musicgen, "_attend")):
        plain = getattr(module, name)

        def attend(q: Tensor, keys: Tensor, values: Tensor, *mask: Any, plain: Any = plain) -> Tensor:
            return plain(q, keys.bfloat16().float(), values.bfloat16().float(), *mask)  # type: ignore[no-any-return]

        monkeypatch.setattr(module, name, attend)
    return EagerEngine(model)


def _is_packed(name: str) -> bool:
    return name in ("heads", "lanes_in.2") or name.startswith(("transformer.", "blocks."))


def logits(engine: Any, prefix: Tensor, codes: Tensor, guidance: float) -> Tensor:
    """Of all positions of known codes `[K, T]`, `[T, K, V]`."""
    stream = CodeStream(engine, prefix, source, Sampling(guidance=guidance), seed=1)
    stream._prompt = codes
    turn = stream.ask(codes.shape[1])
    turn.logits = torch.zeros(*turn.forced.shape, engine.config.codebook_size)
    engine.run([turn])
    return turn.logits


def close(found: Tensor, expected: Tensor) -> None:
    """Equal but for roundings that fell to the other side here and there."""
    error, spread = (found - expected).abs(), float(expected.std())
    assert spread > 0.1 and found.isfinite().all()
    assert float(error.median()) < 1e-3 * spread and float(error.mean()) < 0.02 * spread


@pytest.mark.parametrize("precision", ["int8", "bfloat16"])
@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("config", [LM, ODD, WIDE], ids=["tiny", "odd", "wide"])
@torch.inference_mode()
def test_logits_are_those_of_the_same_arithmetic(
    config: MusicLMConfig, guidance: float, precision: Settled, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = language_model(3, config)
    prefix = model.prefix.encode([Prompt("a calm harp", Attributes(style="folk")), None])
    codes = torch.randint(0, config.codebook_size, (config.num_codebooks, 50))  # beyond the window
    expected = logits(emulated(model, precision, monkeypatch), prefix, codes, guidance)
    monkeypatch.undo()
    close(logits(make_engine(copy.deepcopy(model), precision, 1), prefix, codes, guidance), expected)


@pytest.mark.parametrize("precision", ["int8", "bfloat16"])
@pytest.mark.parametrize("told", [{}, {"melody": True}, {"channels": 2, "num_attention_heads": 2}])
@torch.inference_mode()
def test_logits_of_a_musicgen(
    told: dict[str, Any], precision: Settled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Checkpoint(tiny_musicgen.save(tiny_musicgen.model(5, **told), tmp_path / "model"))
    config = MusicGenConfig.from_transformers(checkpoint.config, "config", 50.0)
    model = MusicGen.from_transformers(checkpoint, config, torch.float32)
    melody = torch.arange(config.melody_frames) % 12 if config.melody_frames else None
    prefix = model.prefix(torch.randn(1, 7, config.text_dim), melody)
    codes = torch.randint(0, config.codebook_size, (config.num_codebooks, 40))
    expected = logits(emulated(model, precision, monkeypatch), prefix, codes, 3.0)
    monkeypatch.undo()
    close(logits(make_engine(copy.deepcopy(model), precision, 2), prefix, codes, 3.0), expected)


@pytest.mark.parametrize("precision", ["int8", "bfloat16"])
def test_threads_do_not_matter(precision: Settled) -> None:
    model = language_model(config=WIDE)
    prefix = model.prefix.encode([Prompt("calm"), None])
    made = [
        CodeStream(make_engine(copy.deepcopy(model), precision, n), prefix, source, Sampling(), 4).advance(60)
        for n in (1, 2, 3)
    ]
    assert torch.equal(made[0], made[1]) and torch.equal(made[0], made[2])


@OF_X86
@pytest.mark.parametrize("level", ["x86-64", "x86-64-v3"])
def test_processors_without_its_instructions_give_the_same(
    level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """int8 sums are exact on every path; what is left is the rounding of floats."""
    older = compiled_for(level, compiler.SOURCE, tmp_path)
    older.memory_size.restype = ctypes.c_int64
    for precision in ("int8", "bfloat16"):
        model = language_model(config=ODD)
        prefix = model.prefix.encode([Prompt("calm"), None]).detach()
        codes = torch.randint(0, ODD.codebook_size, (ODD.num_codebooks, 30))
        expected = logits(make_engine(copy.deepcopy(model), precision, 1), prefix, codes, 2.0)  # type: ignore[arg-type]
        with monkeypatch.context() as patch:
            patch.setattr(native, "kernel", lambda: older)
            close(logits(NativeEngine(model, precision, 1), prefix, codes, 2.0), expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("sampling", [Sampling(top_k=9, top_p=0.8), Sampling(temperature=0), Sampling(top_k=999)])
def test_codes_are_drawn_as_pytorch_draws_them(sampling: Sampling) -> None:
    from audiogen.lm.sampling import draw, uniform

    model = language_model(config=WIDE)
    engine = make_engine(model, "int8", 1)
    prefix = language_model(config=WIDE).prefix.encode([Prompt("calm"), None]).detach()
    turn = CodeStream(engine, prefix, source, sampling, seed=6).ask(80)
    turn.logits = torch.zeros(80, WIDE.num_codebooks, WIDE.codebook_size)
    (drawn,) = engine.run([turn])
    expected = draw(turn.logits, sampling, uniform(torch.tensor(6), torch.arange(80), WIDE.num_codebooks))
    free = turn.forced < 0
    assert torch.equal(drawn[free], expected[free]) and torch.equal(drawn[~free], turn.forced[~free])


def test_the_model_gives_its_weights_up() -> None:
    model = language_model(config=WIDE)
    stored = sum(p.numel() for name, p in model.named_parameters() if not name.startswith("prefix."))
    engine = make_engine(model, "int8", 1)
    assert isinstance(engine, NativeEngine)
    left = sum(p.numel() for name, p in model.named_parameters() if not name.startswith("prefix."))
    assert left < stored / 100 and model.prefix.encode([Prompt("calm")]).shape[1] == model.prefix.length
    assert stored / 2 < engine.weight_bytes < stored


@pytest.mark.parametrize("told", [{}, {"melody": True}])
@pytest.mark.parametrize("precision", ["int8", "bfloat16", "float32"])
@torch.inference_mode()
def test_a_musicgen_comes_from_its_file_weight_by_weight(
    told: dict[str, Any], precision: Settled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same engine as of a whole model; of what was read no more than the parts of one weight are there at once."""
    checkpoint = Checkpoint(tiny_musicgen.save(tiny_musicgen.model(5, **told), tmp_path / "model"))
    config = MusicGenConfig.from_transformers(checkpoint.config, "config", 50.0)
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    whole = make_engine(MusicGen.from_transformers(checkpoint, config, dtype), precision, 1)
    alive: list[weakref.ref[Tensor]] = []
    read = Checkpoint.read

    def watched(self: Checkpoint, name: str, dtype: torch.dtype) -> Tensor:
        value = read(self, name, dtype)
        alive.append(weakref.ref(value))
        assert sum(there() is not None for there in alive) <= 2  # this one and the one before
        return value

    monkeypatch.setattr(Checkpoint, "read", watched)
    model = MusicGen.open_transformers(checkpoint, config, dtype)
    first = len(alive)
    assert first == (4 if told else 2) and any(value.is_meta for value in model.parameters())
    engine = make_engine(model, precision, 1)
    assert len(alive) == len(checkpoint.names("decoder.")) + first
    assert not any(value.is_meta for value in model.parameters())
    melody = torch.arange(config.melody_frames) % 12 if config.melody_frames else None
    prefix = model.prefix(torch.randn(1, 7, config.text_dim), melody)
    codes = torch.randint(0, config.codebook_size, (config.num_codebooks, 40))
    assert torch.equal(logits(engine, prefix, codes, 3.0), logits(whole, prefix, codes, 3.0))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="asks Linux for the most memory since a moment")
@pytest.mark.parametrize("precision", ["int8", "bfloat16"])
def test_loading_a_musicgen_takes_little_more_than_its_weights(precision: Settled, tmp_path: Path) -> None:
    """What the system counted, so that pages of a mapped file, copies and room that is never filled count as well."""
    sizes = {"hidden_size": 512, "ffn_dim": 2048, "num_hidden_layers": 6, "max_position_embeddings": 100}
    tiny_musicgen.model(**sizes).bfloat16().save_pretrained(tmp_path)
    stored = (tmp_path / "model.safetensors").stat().st_size
    checkpoint = Checkpoint(tmp_path)
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    model = MusicGen.open_transformers(
        checkpoint, MusicGenConfig.from_transformers(checkpoint.config, "config", 50.0), dtype
    )
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # else it would be filled with what this process freed before
    Path("/proc/self/clear_refs").write_text("5")  # the most is counted from here on
    status = Path("/proc/self/status")
    before = int(status.read_text().split("VmRSS:")[1].split()[0])
    engine = make_engine(model, precision, 1)
    most = int(status.read_text().split("VmHWM:")[1].split()[0])
    assert isinstance(engine, NativeEngine)
    assert 0.4 * stored < 1024 * (most - before) < 1.8 * stored


def test_without_a_compiler_pytorch_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audiogen.lm.engine.kernel", lambda: compiler.NoKernel("no C compiler is installed"))
    assert settle_precision("auto") in ("bfloat16", "float32")
    assert isinstance(make_engine(language_model(), "bfloat16"), EagerEngine)
    with pytest.raises(AudiogenError, match="int8 needs the compiled kernel: no C compiler"):
        settle_precision("int8")


def test_too_long_a_text_is_refused(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tiny_musicgen.save(tiny_musicgen.model(), tmp_path / "model"))
    config = MusicGenConfig.from_transformers(checkpoint.config, "config", 50.0)
    engine = make_engine(MusicGen.from_transformers(checkpoint, config, torch.float32), "int8", 1)
    with pytest.raises(AudiogenError, match="1025 tokens"):
        engine.begin(torch.ones(2, 1025, config.dim))


def test_the_shipped_model_settles_on_int8() -> None:
    assert settle_precision("auto") == "int8"
    assert settle_precision("auto", ours=False) == "bfloat16"
    assert isinstance(make_engine(language_model(), "float32"), EagerEngine)


def test_models_of_other_kinds_have_no_kernel() -> None:
    assert settle_precision("auto", recurrent=True) != "int8"
    with pytest.raises(AudiogenError, match="an LSTM has none"):
        settle_precision("int8", recurrent=True)
    assert isinstance(language_model(), MusicLM)
