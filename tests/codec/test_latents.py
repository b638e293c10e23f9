from __future__ import annotations

import pytest
import torch
from tiny import CODEC, codec, notes

from audiogen.codec import latents
from audiogen.codec.latents import decode_latents, encode_latents
from audiogen.codec.spectral import SpectralCodec
from audiogen.interfaces import AudiogenError


def test_rounded_to_the_codebooks_they_give_what_the_codec_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    made, audio = codec(), notes(2.0)[None, :, :20_123]
    monkeypatch.setattr(latents, "_BLOCK_FRAMES", 7)
    through = torch.cat(list(encode_latents(made, audio)), 1)
    codes = made.quantizer.encode(through)
    assert torch.equal(codes, made.encode(audio))
    played = torch.cat(list(decode_latents(made, made.quantizer.decode(codes).split(5, 1))), 2)
    torch.testing.assert_close(played, made.decode(codes), atol=1e-5, rtol=0)


def test_a_gaussian_codec_has_latents_and_no_codes() -> None:
    torch.manual_seed(0)
    made = SpectralCodec(CODEC.model_copy(update={"bottleneck": "gaussian"})).eval()
    audio = notes(1.0)[None]
    through = torch.cat(list(encode_latents(made, audio)), 1)
    assert through.shape == (1, 25, CODEC.latent_dim)
    assert torch.cat(list(decode_latents(made, [through])), 2).shape == audio.shape
    for no_codes in (lambda: made.encode(audio), lambda: made.codebooks):
        with pytest.raises(AudiogenError, match="Gaussian bottleneck"):
            no_codes()


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (torch.zeros(1, 2, 0), "samples"),
        (torch.zeros(1, 1, 99), "2, samples"),
        (torch.full((1, 2, 9), torch.nan), "NaN"),
    ],
)
def test_bad_audio(audio: torch.Tensor, message: str) -> None:
    with pytest.raises(AudiogenError, match=message):
        next(encode_latents(codec(), audio))
    assert not list(decode_latents(codec(), []))
