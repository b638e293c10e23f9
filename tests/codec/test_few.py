from __future__ import annotations

from pathlib import Path

import pytest
import torch
from processors import OF_X86, compiled_for
from tiny import CODEC, notes

from audiogen import compiler
from audiogen.codec import few
from audiogen.codec.layers import CausalConvNeXt
from audiogen.codec.spectral import SpectralCodec

pytestmark = pytest.mark.skipif(isinstance(compiler.few(), compiler.NoKernel), reason="no C compiler here")


def rounded(layer: torch.nn.Linear) -> torch.nn.Linear:
    """As storage keeps it in int8."""
    scale = (layer.weight.detach().abs().amax(1, keepdim=True) / 127).half().float()
    layer.weight.data = (layer.weight.detach() / scale).round().clamp(-127, 127) * scale
    return layer


def block(dim: int = 48, hidden: int = 80) -> CausalConvNeXt:
    torch.manual_seed(1)
    made = CausalConvNeXt(dim, hidden, quick=True).eval().requires_grad_(False)
    made.scale.data.normal_()
    rounded(made.up), rounded(made.down)
    return made


def test_levels_are_found_again_or_there_are_none() -> None:
    layer = rounded(torch.nn.Linear(40, 32))
    found = few.levels(layer.weight.detach())
    assert found is not None and found[0].dtype == torch.int8
    assert torch.equal(found[0] * found[1][:, None], layer.weight.detach())
    assert few.levels(torch.randn(32, 40)) is None


@pytest.mark.parametrize("rows", [1, 3, 4, 7, 16])
@pytest.mark.parametrize("out", [16, 64, 112])
def test_a_layer_is_pytorchs(rows: int, out: int) -> None:
    torch.manual_seed(rows)
    layer = rounded(torch.nn.Linear(37, out))
    x = torch.randn(1, rows, 37)
    quick = few.FewRows(layer)
    assert quick.told is not None
    with torch.inference_mode():
        torch.testing.assert_close(quick(x), layer(x), atol=2e-6, rtol=1e-5)
        torch.testing.assert_close(quick(x[:, ::2]), layer(x[:, ::2]), atol=2e-6, rtol=1e-5)  # strided


@pytest.mark.parametrize("rows", [1, 4, 6])
def test_a_block_is_pytorchs(rows: int) -> None:
    made, x, past = block(), torch.randn(1, rows, 48), torch.randn(1, 6, 48)
    with torch.inference_mode():
        plain, following = made(x, past)
        made.settle()
        assert made._few is not None and made._few.told is not None
        quick, also = made(x, past)
    torch.testing.assert_close(quick, plain, atol=5e-6, rtol=1e-5)
    assert torch.equal(following, also) and not torch.equal(quick, plain)  # it was another way


@pytest.mark.parametrize("case", ["several streams", "many rows", "other weights", "odd width", "no compiler"])
def test_pytorch_does_what_it_does_not_serve(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if case == "no compiler":
        monkeypatch.setattr(few, "few", lambda: compiler.NoKernel("no C compiler is installed"))
    made = block(hidden=70) if case == "odd width" else block()
    if case == "other weights":
        made.up.weight.data.add_(1e-4)
    streams, rows = (2 if case == "several streams" else 1), (33 if case == "many rows" else 2)
    x, past = torch.randn(streams, rows, 48), torch.randn(streams, 6, 48)
    with torch.inference_mode():
        plain, _ = made(x, past)
        made.settle()
        assert torch.equal(made(x, past)[0], plain)
        assert torch.equal(few.FewRows(made.up)(x[:, :0]), made.up(x[:, :0]))


def test_a_stored_codec_streams_what_it_decodes_at_once(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = CODEC.model_copy(update={"fast_dim": 64, "slow_dim": 64})  # smaller matrices are not kept in int8
    SpectralCodec(config).save(tmp_path / "codec", "int8")
    made = SpectralCodec.load(tmp_path / "codec")
    assert all(block._few.told is not None for block in made.dec_fast.blocks)
    codes = made.encode(notes(1.5)[None])
    stream = made.streaming_decoder()
    parts = [stream.decode(codes[:, :, index : index + 1]) for index in range(codes.shape[2])]
    torch.testing.assert_close(torch.cat([*parts, stream.flush()], 2), made.decode(codes), atol=1e-5, rtol=0)


@OF_X86
@pytest.mark.parametrize("level", ["x86-64", "x86-64-v3"])
def test_processors_without_its_instructions_give_the_same(
    level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = compiled_for(level, compiler.FEW, tmp_path)
    made, x, past = block(), torch.randn(1, 4, 48), torch.randn(1, 6, 48)
    with torch.inference_mode():
        plain, _ = made(x, past)
        monkeypatch.setattr(few, "few", lambda: library)
        made.settle()
        torch.testing.assert_close(made(x, past)[0], plain, atol=5e-6, rtol=1e-5)
