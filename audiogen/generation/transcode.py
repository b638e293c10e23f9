"""Files to codes and back, in blocks, so that memory does not grow with the length."""

from __future__ import annotations

from pathlib import Path

import torch

from audiogen.audio.io import read, read_header
from audiogen.audio.sinks import WavSink
from audiogen.codec.container import CodedAudio, read_codes, write_codes
from audiogen.codec.spectral import SpectralCodec
from audiogen.generation.models import model_folder
from audiogen.interfaces import AudiogenError, Waveform

_BLOCK_SECONDS = 30.0
_BLOCK_FRAMES = 250


def encode_file(audio: Path, output: Path, model: str, codebooks: int | None = None) -> tuple[CodedAudio, int]:
    """Write the codes of `audio` to `output` (.agc) → what was written and the file's size in bytes.

    The first `codebooks` are kept, all when None. Audio at the codec's rate is read in blocks, other is resampled
    whole. Raises AudiogenError for bad audio and for a number of codebooks that the codec does not have.
    """
    header = read_header(audio)
    if not header.samples:
        raise AudiogenError(f"{audio}: holds no samples")
    codec = SpectralCodec.load(model_folder(model) / "codec")
    if codebooks is not None and not 1 <= codebooks <= codec.num_codebooks:
        raise AudiogenError(f"--codebooks {codebooks}: the codec of {model} has 1 to {codec.num_codebooks}")
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
    codes = torch.cat([*parts, stream.flush()], 2)[0, :codebooks]
    coded = CodedAudio(codes, codec.codebook_size, codec.sample_rate, codec.hop_length, samples, codec.fingerprint)
    return coded, write_codes(output, coded)


def decode_file(path: Path, output: Path, model: str) -> float:
    """Write the audio of an .agc file → its length in seconds. Raises AudiogenError for a damaged or foreign one."""
    coded = read_codes(path)
    codec = SpectralCodec.load(model_folder(model) / "codec")
    if coded.fingerprint != codec.fingerprint:
        raise AudiogenError(
            f"{path}: made by the codec {coded.fingerprint}, but {model} has {codec.fingerprint}; give its --model"
        )
    left = coded.samples
    stream = codec.streaming_decoder(1)
    with WavSink(output, codec.sample_rate, codec.channels) as sink:
        for codes in coded.codes[None].split(_BLOCK_FRAMES, 2):
            audio = stream.decode(codes)
            sink.write(Waveform(audio[0, :, :left], codec.sample_rate))
            left -= min(left, audio.shape[2])
        sink.write(Waveform(stream.flush()[0, :, :left], codec.sample_rate))
    return coded.samples / codec.sample_rate
