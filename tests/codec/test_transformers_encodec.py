"""EnCodec weights from outside: folders that are read, and those that are refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_encodec import LAYOUTS, ours, reference
from transformers import MusicgenConfig, MusicgenForConditionalGeneration

from audiogen.codec.encodec import EncodecCodec, EncodecConfig
from audiogen.codec.transformers_encodec import sizes
from audiogen.interfaces import AudiogenError


def saved(folder: Path, layout: str = "24 kHz", **kwargs: Any) -> Path:
    reference(layout).save_pretrained(folder, **kwargs)
    return folder


@pytest.mark.parametrize("layout", LAYOUTS)
def test_folders_of_transformers_are_read_in_one_piece_or_many(tmp_path: Path, layout: str) -> None:
    whole = EncodecCodec.read_transformers(saved(tmp_path / "whole", layout))
    shards = EncodecCodec.read_transformers(saved(tmp_path / "shards", layout, max_shard_size="20KB"))
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    assert whole.fingerprint == shards.fingerprint == ours(layout).fingerprint
    assert not whole.training and not any(weight.requires_grad for weight in whole.parameters())


@pytest.mark.parametrize("channels", [1, 2])
def test_the_codec_of_a_musicgen_is_read(tmp_path: Path, channels: int) -> None:
    text = {"vocab_size": 9, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2, "model_type": "t5"}
    decoder = {
        "vocab_size": 16, "hidden_size": 8, "num_hidden_layers": 1, "ffn_dim": 8, "num_attention_heads": 2,
        "num_codebooks": 4 * channels, "audio_channels": channels,
    }  # fmt: skip
    there = reference("32 kHz")
    config = MusicgenConfig(text_encoder=text, audio_encoder=there.config.to_dict(), decoder=decoder)
    musicgen = MusicgenForConditionalGeneration(config)
    musicgen.audio_encoder.load_state_dict(there.state_dict())
    musicgen.save_pretrained(tmp_path)
    codec = EncodecCodec.read_transformers(tmp_path)
    assert codec.channels == channels and codec.num_codebooks == musicgen.decoder.num_codebooks
    assert codec.fingerprint == ours("32 kHz").fingerprint


def test_sizes_of_the_three_public_ones() -> None:
    shared = {"model_type": "encodec", "audio_channels": 1}
    told = {
        "24 kHz": {**shared, "sampling_rate": 24_000, "target_bandwidths": [1.5, 3, 6, 12, 24]},
        "32 kHz": {
            **shared, "sampling_rate": 32_000, "target_bandwidths": [2.2], "upsampling_ratios": [8, 5, 4, 4],
            "codebook_size": 2048, "num_filters": 64, "use_causal_conv": False, "use_conv_shortcut": False,
        },
        "48 kHz": {
            **shared, "sampling_rate": 48_000, "target_bandwidths": [3, 6, 12, 24], "audio_channels": 2,
            "use_causal_conv": False, "norm_type": "time_group_norm", "normalize": True, "chunk_length_s": 1.0,
            "overlap": 0.01,
        },
    }  # fmt: skip
    made = {}
    for name, config in told.items():
        with torch.device("meta"):
            codec = EncodecCodec(EncodecConfig.build(sizes(config, name), name))
        made[name] = (codec.hop_length, codec.num_codebooks, codec.codebook_size, codec._latency_frames)
    assert made == {"24 kHz": (320, 32, 1024, 6), "32 kHz": (640, 4, 2048, 4), "48 kHz": (320, 17, 1024, 149)}


def changed(folder: Path, values: dict[str, Any]) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return folder


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "dac"}, "model_type is 'dac'"),
        ({"model_type": "musicgen"}, "model_type is None"),
        ({"norm_type": "layer"}, "norm_type"),
        ({"hidden_size": "wide"}, "hidden_size"),
        ({"codebook_dim": 5}, "codebook_dim 5 must be hidden_size 8"),
        ({"normalize": True}, "normalize needs chunk_length_s"),
        ({"chunk_length_s": 1.0}, "normalize False"),
        ({"chunk_length_s": 0.1234, "normalize": True}, "12.3333 frames"),
        ({"chunk_length_s": 0.1, "normalize": True, "overlap": 0.5}, "cannot carry the 5"),
        ({"norm_type": "time_group_norm"}, "time_group_norm.*chunk_frames"),
        ({"pad_mode": "circular"}, "pad_mode"),
    ],
)
def test_configs_that_cannot_be_met_name_the_field(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(AudiogenError, match=message) as raised:
        EncodecCodec.read_transformers(changed(saved(tmp_path), values))
    assert str(tmp_path) in str(raised.value)


def test_tensors_that_do_not_fit_are_named(tmp_path: Path) -> None:
    path = saved(tmp_path) / "model.safetensors"
    whole = load_file(path)
    conv, size = "encoder.layers.0.conv", "parametrizations.weight.original0"
    book = "quantizer.layers.1.codebook.embed"
    cases = {
        rf"Missing.*{conv}\.bias": {f"{conv}.bias": None},
        r"Unexpected.*encoder\.layers\.99": {"encoder.layers.99.conv.bias": torch.zeros(3)},
        rf"size mismatch.*{conv}\.bias": {f"{conv}.bias": torch.zeros(3)},
        rf"{conv}\.weight_g \[4, 1, 1\] does not fit .*, which is nothing": {f"{conv}.{size.replace('0', '1')}": None},
        rf"{conv}\.weight_g \[5, 1, 1\] does not fit": {f"{conv}.{size}": torch.ones(5, 1, 1)},
        rf"{book} is missing.*4 codebooks": {book: None},
        rf"{book} is of shape \[16, 9\]": {book: torch.zeros(16, 9)},
        rf"{conv}\.bias holds NaN": {f"{conv}.bias": torch.full((4,), math.nan)},
        rf"{book} holds NaN": {book: torch.full((16, 8), math.inf)},
        rf"{conv}\.weight hold NaN": {f"{conv}.{size.replace('0', '1')}": torch.zeros(4, 1, 7)},
    }
    for message, change in cases.items():
        save_file({name: value for name, value in (whole | change).items() if value is not None}, path)
        with pytest.raises(AudiogenError, match=message) as raised:
            EncodecCodec.read_transformers(tmp_path)
        assert str(tmp_path) in str(raised.value)


def test_damaged_and_missing_files_are_named(tmp_path: Path) -> None:
    origin = r"no config\.json with a model\.safetensors.*facebook/encodec_24khz.*facebook/encodec_48khz.*CC-BY-NC-4\.0"
    with pytest.raises(AudiogenError, match=origin):
        EncodecCodec.read_transformers(tmp_path / "nowhere")
    path = saved(tmp_path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(AudiogenError, match=r"model\.safetensors: truncated or damaged"):
        EncodecCodec.read_transformers(tmp_path)
    path.unlink()
    with pytest.raises(AudiogenError, match=origin):
        EncodecCodec.read_transformers(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(AudiogenError, match=r"pytorch_model\.bin: a pickle, .* refused"):
        EncodecCodec.read_transformers(tmp_path)
