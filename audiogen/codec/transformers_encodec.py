"""EnCodec weights from outside: sizes and names of the transformers layout, and names of the `encodec` package.

The layers here are built in the same order, so most names agree; weight norm (Salimans and Kingma 2016) is folded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from audiogen.config import Config
from audiogen.foreign import Checkpoint
from audiogen.interfaces import AudiogenError

ORIGIN = (
    "EnCodec's weights are not part of audiogen: fetch facebook/encodec_24khz, facebook/encodec_48khz or "
    "facebook/encodec_32khz from huggingface.co (their licence is CC-BY-NC-4.0) and give the path of the folder that "
    "holds their config.json and model.safetensors"
)

_RENAMED = (
    (".parametrizations.weight.original0", ".weight_g"),
    (".parametrizations.weight.original1", ".weight_v"),
    (".model.", ".layers."),  # from here on the `encodec` package
    (".conv.conv.", ".conv."),
    (".conv.norm.", ".norm."),
    (".convtr.convtr.", ".conv."),
    (".convtr.norm.", ".norm."),
    (".vq.layers.", ".layers."),
    ("._codebook.", ".codebook."),
)
_TRAINING = (".codebook.inited", ".codebook.cluster_size", ".codebook.embed_avg")


class _Told(Config):
    """The fields of a transformers EncodecConfig that decide the computation; others are of no concern."""

    model_config = ConfigDict(extra="ignore")

    model_type: Literal["encodec"]
    target_bandwidths: tuple[PositiveFloat, ...] = Field((1.5, 3.0, 6.0, 12.0, 24.0), min_length=1)
    sampling_rate: PositiveInt = 24_000
    audio_channels: Literal[1, 2] = 1
    normalize: bool = False
    chunk_length_s: PositiveFloat | None = None
    overlap: NonNegativeFloat | None = Field(None, lt=1)
    hidden_size: PositiveInt = 128
    num_filters: PositiveInt = 32
    num_residual_layers: int = 1
    upsampling_ratios: tuple[PositiveInt, ...] = Field((8, 5, 4, 2), min_length=1)
    norm_type: Literal["weight_norm", "time_group_norm"] = "weight_norm"
    kernel_size: int = 7
    last_kernel_size: int = 7
    residual_kernel_size: int = 3
    dilation_growth_rate: int = 2
    use_causal_conv: bool = True
    pad_mode: str = "reflect"
    compress: int = 2
    num_lstm_layers: int = 2
    trim_right_ratio: float = 1.0
    codebook_size: int = Field(1024, ge=2)
    codebook_dim: int | None = None
    use_conv_shortcut: bool = True


def sizes(config: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The config.json of an EnCodec, or of a MusicGen that holds one, → values of an `EncodecConfig`.

    Raises AudiogenError naming the `source` and the fields that cannot be met.
    """
    stereo_from_mono = False
    if config.get("model_type") == "musicgen":
        language_model, config = (config.get(part) or {} for part in ("decoder", "audio_encoder"))
        stereo_from_mono = language_model.get("audio_channels") == 2
    if config.get("model_type") != "encodec":
        raise AudiogenError(f"{source}: model_type is {config.get('model_type')!r}: expected 'encodec' or 'musicgen'")
    told = _Told.build(dict(config), source)
    hop_length = math.prod(told.upsampling_ratios)
    if told.codebook_dim not in (None, told.hidden_size):
        raise AudiogenError(
            f"{source}: codebook_dim {told.codebook_dim} must be hidden_size {told.hidden_size}: there is no layer to "
            "map one onto the other"
        )
    bits_a_second = math.ceil(told.sampling_rate / hop_length) * math.ceil(math.log2(told.codebook_size))
    chunk: dict[str, int] = {}
    if told.chunk_length_s is not None:
        length = int(told.chunk_length_s * told.sampling_rate)
        if not told.normalize or length % hop_length:
            raise AudiogenError(
                f"{source}: chunks must be normalized and of whole frames, got normalize {told.normalize} and "
                f"chunk_length_s {told.chunk_length_s}, which is {length / hop_length:g} frames"
            )
        frames = length // hop_length
        stride = int((1 - (told.overlap or 0)) * length) // hop_length
        chunk = {"chunk_frames": frames, "overlap_frames": frames - stride}
    elif told.normalize:
        raise AudiogenError(f"{source}: normalize needs chunk_length_s, since a stream's loudness is not known before")
    return {
        "sample_rate": told.sampling_rate,
        "num_codebooks": int(1000 * told.target_bandwidths[-1] // bits_a_second),
        "codebook_size": told.codebook_size,
        "stereo_from_mono": stereo_from_mono,
        **chunk,
        "network": {
            "channels": told.audio_channels,
            "latent_dim": told.hidden_size,
            "filters": told.num_filters,
            "ratios": told.upsampling_ratios,
            "kernel_size": told.kernel_size,
            "last_kernel_size": told.last_kernel_size,
            "residual_kernel_size": told.residual_kernel_size,
            "residual_layers": told.num_residual_layers,
            "dilation_growth": told.dilation_growth_rate,
            "compress": told.compress,
            "lstm_layers": told.num_lstm_layers,
            "conv_shortcut": told.use_conv_shortcut,
            "causal": told.use_causal_conv,
            "pad_mode": told.pad_mode,
            "trim_right_ratio": told.trim_right_ratio,
            "time_group_norm": told.norm_type == "time_group_norm",
        },
    }


def prefix(config: Mapping[str, Any]) -> str:
    """What the names of the codec's tensors begin with."""
    return "audio_encoder." if config.get("model_type") == "musicgen" else ""


def renamed(tensors: Mapping[str, Tensor], codebooks: tuple[int, int, int], source: str) -> dict[str, Tensor]:
    """Tensors under foreign names → under ours, float32, weight norm folded, codebooks `[K, V, D]` in one.

    Raises AudiogenError for codebooks and weight norms that are not whole; other names are passed on as they are.
    """
    found = {}
    for name, tensor in tensors.items():
        for theirs, ours in _RENAMED:
            name = name.replace(theirs, ours)
        if not name.endswith(_TRAINING):
            found[name] = tensor.float()
    for name in [name for name in found if name.endswith(".weight_g")]:
        whole = name.removesuffix("_g")
        size, direction = found.pop(name), found.pop(f"{whole}_v", None)
        if direction is None or size.shape != (direction.shape[0], 1, 1):
            shape = "nothing" if direction is None else list(direction.shape)
            raise AudiogenError(f"{source}: {name} {list(size.shape)} does not fit {whole}_v, which is {shape}")
        found[whole] = direction * (size / direction.norm(2, (1, 2), keepdim=True))
    count, *shape = codebooks
    names = [f"quantizer.layers.{index}.codebook.embed" for index in range(count)]
    for name in names:
        if name not in found or list(found[name].shape) != shape:
            got = f"of shape {list(found[name].shape)}" if name in found else "missing"
            raise AudiogenError(f"{source}: {name} is {got}: its config.json tells of {count} codebooks of {shape}")
    found["quantizer.codebooks"] = torch.stack([found.pop(name) for name in names])
    return found


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration and the codec's tensors, float32. Raises AudiogenError that says where weights come from when there
    are none, and for files that are damaged or pickled."""
    if not (folder / "config.json").is_file() or not any(
        path.name.endswith((".safetensors", ".index.json", ".bin")) for path in folder.iterdir()
    ):
        raise AudiogenError(f"{folder}: there is no config.json with a model.safetensors. {ORIGIN}")
    checkpoint = Checkpoint(folder)
    start = prefix(checkpoint.config)
    names = [start + name for name in checkpoint.names(start)]
    return checkpoint.config, {name: checkpoint.read(name, torch.float32) for name in names}
