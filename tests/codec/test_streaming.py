"""Laws 1 and 4 for every codec."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from laws import memory_is_constant, streamed_codec_is_the_offline_one
from tiny import MINI, codec, notes

from audiogen.codec.spectral import SpectralCodec
from audiogen.codec.streaming import BlockEncoder, FrameDecoder
from audiogen.interfaces import Codec, StreamingDecoder, StreamingEncoder

CODECS = ["tiny", *(["mini"] if (MINI / "codec" / "config.json").is_file() else [])]


@pytest.fixture(scope="module", params=CODECS)
def any_codec(request: pytest.FixtureRequest) -> Iterator[SpectralCodec]:
    yield codec() if request.param == "tiny" else SpectralCodec.load(MINI / "codec")


def test_protocols(any_codec: SpectralCodec) -> None:
    assert isinstance(any_codec, Codec)
    assert isinstance(any_codec.streaming_encoder(), StreamingEncoder)
    assert isinstance(any_codec.streaming_decoder(), StreamingDecoder)


@pytest.mark.parametrize("samples_off", [0, 1, -1])
def test_streamed_is_offline(any_codec: SpectralCodec, samples_off: int) -> None:
    whole = 40 * any_codec.hop_length + samples_off
    audio = torch.stack([notes(2.0, any_codec.sample_rate, seed)[:, :whole] for seed in (3, 4)])
    audio = torch.nn.functional.pad(audio, (0, whole - audio.shape[2]))
    streamed_codec_is_the_offline_one(any_codec, audio, seeds=[samples_off + 1, 7])


def test_blocks_inside_a_call_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    made, audio = codec(), notes(3.0)[None]
    codes = made.encode(audio)
    decoded = made.decode(codes)
    monkeypatch.setattr(BlockEncoder, "max_frames", 7)
    monkeypatch.setattr(FrameDecoder, "max_frames", 7)
    assert torch.equal(made.encode(audio), codes)
    torch.testing.assert_close(made.decode(codes), decoded, atol=1e-5, rtol=0)


def test_memory_is_constant_over_thousands_of_frames() -> None:
    made = codec()
    audio = notes(1.0)[None, :, : 20 * made.hop_length]
    encoder, decoder = made.streaming_encoder(), made.streaming_decoder()
    codes = made.encode(audio)
    memory_is_constant(decoder, lambda: decoder.decode(codes), times=120)
    memory_is_constant(encoder, lambda: encoder.encode(audio), times=120)


def test_what_the_encoder_keeps_of_the_audio_is_less_than_a_frame() -> None:
    made = codec()
    encoder = made.streaming_encoder()
    encoder.encode(notes(2.0)[None])
    assert encoder._rest is not None and encoder._rest.untyped_storage().nbytes() < 2 * 4 * made.hop_length
