"""EncodecCodec against the reference (transformers, the `encodec` package) and the design's laws."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from laws import held, memory_is_constant, streamed_codec_is_the_offline_one
from tiny import notes
from tiny_encodec import LAYOUTS, any_codec, audio, make_lively, ours, reference_audio, reference_codes

from audiogen.codec.encodec import EncodecCodec, EncodecConfig
from audiogen.interfaces import AudiogenError, Codec, StreamingDecoder, StreamingEncoder

ONE_STREAM = ["24 kHz", "32 kHz", "odd"]


# --- parity -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ONE_STREAM)
@pytest.mark.parametrize("frames", [1, 3, 60])
def test_codes_and_audio_are_the_references(layout: str, frames: int) -> None:
    codec, samples = ours(layout), audio(1, frames * 24)
    codes, _ = reference_codes(layout, samples)
    assert frames < 60 or min(len(row.unique()) for row in codes.transpose(0, 1)) > 5
    assert torch.equal(codec.encode(samples), codes)
    for books in (4, 1):
        expected = reference_audio(layout, codes[:, :books])
        torch.testing.assert_close(codec.decode(codes[:, :books]), expected, atol=1e-5, rtol=0)


def test_each_chunk_is_the_references_and_fades_into_the_next() -> None:
    codec, samples = ours("48 kHz"), audio(2, 50 * 24, 4800)
    layout = codec.chunks
    assert layout is not None and (layout.frames, layout.stride, codec.num_codebooks) == (20, 18, 5)
    codes = codec.encode(samples)
    decoded = codec.decode(codes)
    fading = None
    for start in range(0, 50, 18):
        frames = min(20, 50 - start)
        expected, scale = reference_codes("48 kHz", samples[:, :, start * 24 : (start + frames) * 24])
        assert scale is not None and len(expected.unique()) == 16
        found, told = layout.unpack(codes[:, :, start : start + min(frames, 18)], frames)
        assert torch.equal(found, expected)
        torch.testing.assert_close(told, scale, rtol=2e-5, atol=0)
        chunk = reference_audio("48 kHz", expected, scale)
        if fading is not None:
            rise = torch.arange(1, 49) / 49
            chunk = torch.cat([fading * (1 - rise) + chunk[:, :, :48] * rise, chunk[:, :, 48:]], 2)
        step = decoded[:, :, start * 24 : (start + 18) * 24]
        torch.testing.assert_close(step, chunk[:, :, : step.shape[2]], atol=1e-4, rtol=0)
        fading = chunk[:, :, 18 * 24 :]


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_the_encodec_package_agrees_at_24_khz_in_full_size() -> None:
    from encodec import EncodecModel as Package

    torch.manual_seed(0)
    there = Package.encodec_model_24khz(pretrained=False)
    samples = notes(0.2, 24_000)[None, :1]
    make_lively([layer._codebook.embed for layer in there.quantizer.vq.layers], there.encoder(samples))
    there.set_target_bandwidth(24.0)
    codec = EncodecCodec.from_transformers({"model_type": "encodec"}, there.state_dict())
    assert codec.config == EncodecConfig() and codec.num_codebooks == 32
    [(codes, _)] = there.encode(samples)
    assert torch.equal(codec.encode(samples), codes)
    torch.testing.assert_close(codec.decode(codes), there.decode([(codes, None)]), atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_encodec_package_agrees_at_48_khz() -> None:
    from encodec import EncodecModel as Package
    from encodec.modules import SEANetDecoder, SEANetEncoder
    from encodec.quantization import ResidualVectorQuantizer

    torch.manual_seed(0)
    network = {"channels": 2, "n_filters": 4, "dimension": 8, "ratios": [4, 3, 2], "norm": "time_group_norm"}
    books = ResidualVectorQuantizer(dimension=8, n_q=4, bins=16)
    there = Package(
        SEANetEncoder(**network), SEANetDecoder(**network), books, [3.2], 4800, 2, normalize=True, segment=0.1
    ).eval()
    samples = audio(2, 20 * 24, 4800)
    heard = samples / samples.std((1, 2), keepdim=True)
    make_lively([layer._codebook.embed for layer in books.vq.layers], there.encoder(heard))
    there.set_target_bandwidth(3.2)
    codec = EncodecCodec.from_transformers({**LAYOUTS["48 kHz"], "model_type": "encodec"}, there.state_dict())
    codes, scale = there.encode(samples)[0]
    assert codec.chunks is not None
    found, told = codec.chunks.unpack(codec.encode(samples)[:, :, :18], 20)
    assert torch.equal(found, codes)
    decoded = codec.decode(codec.chunks.pack(codes, told))
    assert decoded.shape[2] == 18 * 24  # nothing follows: the columns say so
    whole = there.decode([(codes[:, :, :18], scale)])
    torch.testing.assert_close(decoded, whole, atol=1e-4, rtol=0)


# --- the laws ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "samples_off"),
    [("24 kHz", 0), ("24 kHz", 1), ("32 kHz", 0), ("32 kHz", -1), ("odd", 5), ("48 kHz", 0), ("48 kHz", 1),
     ("stereo from mono", -1)],
)  # fmt: skip
def test_streamed_is_offline(name: str, samples_off: int) -> None:
    codec = any_codec(name)
    assert isinstance(codec, Codec)
    assert isinstance(codec.streaming_encoder(), StreamingEncoder)
    assert isinstance(codec.streaming_decoder(), StreamingDecoder)
    samples = audio(codec.channels, 42 * 24 + samples_off, codec.sample_rate)
    streamed_codec_is_the_offline_one(codec, samples, seeds=[samples_off + 1])


@pytest.mark.parametrize("frames", [1, 2, 18, 19, 20, 21])
def test_ends_of_chunks(frames: int) -> None:
    streamed_codec_is_the_offline_one(ours("48 kHz"), audio(2, frames * 24, 4800), seeds=[frames])


@pytest.mark.parametrize("name", [*LAYOUTS, "stereo from mono"])
def test_memory_is_constant(name: str) -> None:
    codec = any_codec(name)
    samples = audio(codec.channels, 18 * 24, codec.sample_rate)  # as much as the stride of a chunk
    codes = codec.encode(samples)
    encoder, decoder = codec.streaming_encoder(2), codec.streaming_decoder(2)
    memory_is_constant(encoder, lambda: encoder.encode(samples), times=12, settle=4)
    memory_is_constant(decoder, lambda: decoder.decode(codes), times=12, settle=4)
    at_once, again = codec.streaming_encoder(2), codec.streaming_decoder(2)
    at_once.encode(torch.cat([samples] * 12, 2))
    again.decode(torch.cat([codes] * 12, 2))
    assert held(at_once) == held(encoder) and held(again) == held(decoder)


@pytest.mark.parametrize("name", [*LAYOUTS, "stereo from mono"])
def test_any_number_of_rows_decodes(name: str) -> None:
    codec = any_codec(name)
    codes = codec.encode(audio(codec.channels, 30 * 24, codec.sample_rate))
    heard = [codec.decode(codes[:, :rows]) for rows in range(1, codec.num_codebooks + 1)]
    assert all(item.shape == heard[0].shape and bool(item.isfinite().all()) for item in heard)
    assert all(not torch.equal(one, other) for one, other in pairwise(heard))


def test_a_stream_of_nothing_is_nothing() -> None:
    for name in LAYOUTS:
        codec = ours(name)
        assert codec.streaming_encoder(2).flush().shape == (2, codec.num_codebooks, 0)
        decoder = codec.streaming_decoder(2)
        none = torch.zeros(2, codec.num_codebooks, 0, dtype=torch.long)
        assert decoder.decode(none).shape == decoder.flush().shape == (2, codec.channels, 0)


# --- two channels, and chunks -----------------------------------------------------------------------------------------


def test_stereo_from_mono_codes_each_side_by_itself() -> None:
    codec, samples = any_codec("stereo from mono"), audio(2, 30 * 24)
    codes = codec.encode(samples)
    assert codes.shape == (2, 8, 30)
    for side in (0, 1):  # the order in which MusicgenForConditionalGeneration.generate takes them apart
        own = samples[:, side : side + 1]
        assert torch.equal(codes[:, side::2], reference_codes("32 kHz", own)[0])
        expected = reference_audio("32 kHz", codes[:, side::2])
        torch.testing.assert_close(codec.decode(codes)[:, side : side + 1], expected, atol=1e-5, rtol=0)
    left_has_more = codec.decode(codes[:, :3])
    torch.testing.assert_close(left_has_more[:, 0], reference_audio("32 kHz", codes[:, 0:3:2])[:, 0])
    torch.testing.assert_close(left_has_more[:, 1], reference_audio("32 kHz", codes[:, 1:3:2])[:, 0])


def test_silence_stays_silent() -> None:
    codec = ours("48 kHz")
    assert float(codec.decode(codec.encode(torch.zeros(1, 2, 1200))).abs().max()) < 1e-6


# --- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*LAYOUTS, "stereo from mono"])
def test_training_hears_what_decoding_plays(name: str) -> None:
    codec = any_codec(name)
    samples = audio(codec.channels, 18 * 24, codec.sample_rate)  # one chunk, of which nothing is shared
    codes = codec.encode(samples)
    for rows in (codec.num_codebooks, 3):
        made = codec(samples, torch.tensor([rows, rows]))
        torch.testing.assert_close(made.samples, codec.decode(codes[:, :rows]), atol=1e-4, rtol=0)


def test_training_from_nothing() -> None:
    torch.manual_seed(0)
    codec = EncodecCodec(ours("48 kHz").config).train()
    samples, levels = audio(2, 18 * 24, 4800), torch.tensor([5, 2])
    made = codec(samples, levels)
    assert not bool(codec.quantizer.started) and made.bottled.cost > 0
    codec.quantizer.start_from(codec.latents_of(samples).detach().flatten(0, 1))
    made = codec(samples, levels)
    assert made.samples.shape == samples.shape and made.bottled.codes.shape == (2, 4, 18)
    ((made.samples - samples).square().mean() + made.bottled.cost).backward()
    for name, weight in codec.named_parameters():
        assert weight.grad is not None and bool(weight.grad.isfinite().all()), name
    assert float(next(codec.encoder.parameters()).grad.abs().sum()) > 0


# --- files and bad inputs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*LAYOUTS, "stereo from mono"])
def test_what_save_wrote_is_loaded(tmp_path: Path, name: str) -> None:
    codec = any_codec(name)
    codec.save(tmp_path / "codec", "float32")
    loaded = EncodecCodec.load(tmp_path / "codec")
    assert loaded.config == codec.config and loaded.fingerprint == codec.fingerprint
    codes = codec.encode(audio(codec.channels, 240, codec.sample_rate))
    assert torch.equal(loaded.decode(codes), codec.decode(codes))


def test_the_fingerprint_is_of_what_decides_the_codes() -> None:
    codec = EncodecCodec(ours("24 kHz").config)
    codec.load_state_dict(ours("24 kHz").state_dict())
    before = codec.fingerprint
    with torch.no_grad():
        next(codec.decoder.parameters()).add_(1)
        assert codec.fingerprint == before
        next(codec.encoder.parameters()).add_(1)
    assert codec.fingerprint != before


def test_audio_and_codes_that_cannot_be_are_refused() -> None:
    for codec in (ours("24 kHz"), ours("48 kHz")):
        with pytest.raises(AudiogenError, match="no samples"):
            codec.encode(torch.zeros(1, codec.channels, 0))
        with pytest.raises(AudiogenError, match="channels"):
            codec.encode(torch.zeros(1, 3, 100))
        with pytest.raises(AudiogenError, match="NaN"):
            codec.encode(torch.full((1, codec.channels, 100), math.nan))
        with pytest.raises(AudiogenError, match="0…15, got 0…16"):
            codec.decode(torch.tensor([[[0, 16]]]))
        with pytest.raises(AudiogenError, match=f"1 to {codec.num_codebooks} codebooks"):
            codec.decode(torch.zeros(1, codec.num_codebooks + 1, 3, dtype=torch.long))
