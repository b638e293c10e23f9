"""Files to codes and back, in blocks, so that memory does not grow with the length."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from audiogen.audio.io import read, read_header
from audiogen.audio.sinks import WavSink
from audiogen.codec.spectral import SpectralCodec
from audiogen.files import atomic_path
from audiogen.generation.models import model_folder
from audiogen.interfaces import AudiogenError, Waveform

_BLOCK_SECONDS = 30.0
_BLOCK_FRAMES = 250


def encode_file(audio: Path, output: Path, model: str) -> tuple[Tensor, float]:
    """Write the codes of `audio` to `output` (safetensors) → codes int16 `[K, T]` and the length in seconds.

    Files at the codec's rate are read in blocks; others are resampled whole.
    """
    from safetensors.torch import save_file

    header = read_header(audio)
    if not header.samples:
        raise AudiogenError(f"{audio}: holds no samples")
    codec = SpectralCodec.load(model_folder(model) / "codec")
    stream = codec.streaming_encoder(1)
    parts = []
    whole = header.sample_rate != codec.sample_rate
    seconds = header.samples / header.sample_rate
    start, samples = 0.0, 0
    while start < seconds - 1e-9:
        length = seconds if whole else _BLOCK_SECONDS
        block = read(audio, codec.sample_rate, codec.channels, start, length)
        samples += block.samples.shape[1]
        parts.append(stream.encode(block.samples[None]))
        start += length
    codes = torch.cat([*parts, stream.flush()], 2)[0].to(torch.int16).contiguous()
    told = {"codec": codec.fingerprint, "samples": str(samples), "sample_rate": str(codec.sample_rate)}
    with atomic_path(output) as temporary:
        save_file({"codes": codes}, temporary, metadata=told)
    return codes, samples / codec.sample_rate


def decode_file(path: Path, output: Path, model: str) -> float:
    """Write the audio of codes that `encode_file` wrote → its length in seconds. Raises AudiogenError for others."""
    from safetensors import SafetensorError, safe_open

    codec = SpectralCodec.load(model_folder(model) / "codec")
    try:
        with safe_open(path, "pt") as file:
            told, codes = file.metadata() or {}, file.get_tensor("codes")
    except (OSError, SafetensorError) as error:
        raise AudiogenError(f"{path}: no file of codes ({error})") from None
    if told.get("codec") != codec.fingerprint:
        raise AudiogenError(
            f"{path}: made by the codec {told.get('codec')}, but {model} has {codec.fingerprint}; give its --model"
        )
    left = int(told["samples"])
    stream = codec.streaming_decoder(1)
    with WavSink(output, codec.sample_rate, codec.channels) as sink:
        for start in range(0, codes.shape[1], _BLOCK_FRAMES):
            audio = stream.decode(codes[None, :, start : start + _BLOCK_FRAMES].long())
            if start + _BLOCK_FRAMES >= codes.shape[1]:
                audio = torch.cat([audio, stream.flush()], 2)
            sink.write(Waveform(audio[0, :, :left], codec.sample_rate))
            left -= min(left, audio.shape[2])
    return int(told["samples"]) / codec.sample_rate
