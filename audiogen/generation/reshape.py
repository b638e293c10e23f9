"""Recordings made into others by the codec: one turned into another; what a low sample rate cut off brought back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from audiogen.audio.io import read, read_header, to_channels
from audiogen.audio.sinks import WavSink
from audiogen.codec.latents import decode_latents, encode_latents
from audiogen.codec.spectral import SpectralCodec
from audiogen.interfaces import AudiogenError, Waveform

_HIGHEST_RATE = 16_000
_TAPS = 1023

Progress = Callable[[float, float], None]
"""called with the seconds done and the seconds in all"""


def morph(first: Path, second: Path, output: Path, codec_folder: Path, progress: Progress) -> float:
    """Write a recording that begins as `first` and ends as `second` → its length in seconds, that of the shorter.

    The latents of each frame move in a straight line from those of the one recording to those of the other, slowly at
    both ends. Raises AudiogenError for bad audio and for less than a second of it.
    """
    for path in (first, second):
        header = read_header(path)
        if header.samples < header.sample_rate:
            raise AudiogenError(
                f"{path}: {header.samples / header.sample_rate:.2f} s; a morph needs a second of each recording or more"
            )
    codec = SpectralCodec.load(codec_folder)
    sounds = [read(path, codec.sample_rate, codec.channels).samples for path in (first, second)]
    samples = min(sound.shape[1] for sound in sounds)
    begin, end = (encode_latents(codec, sound[None, :, :samples]) for sound in sounds)
    between = _between(begin, end, -(-samples // codec.hop_length))
    _write(output, codec, samples, decode_latents(codec, between), codec.channels, progress)
    return samples / codec.sample_rate


def upsample(audio: Path, output: Path, codec_folder: Path, progress: Progress) -> float:
    """Write `audio`, of 8 to 16 kHz, at the codec's rate, with what its rate cut off made up by the codec → the
    frequency in Hz from which on that is so.

    Below it the recording is kept as it is. Mono stays mono. Raises AudiogenError for bad audio and other rates.
    """
    header = read_header(audio)
    if not 8000 <= header.sample_rate <= _HIGHEST_RATE:
        raise AudiogenError(
            f"{audio}: {header.sample_rate} Hz; upsample restores recordings of 8,000 to {_HIGHEST_RATE:,} Hz "
            "(`ffmpeg -i IN -ar 48000 OUT.wav` converts the rate alone)"
        )
    if not header.samples:
        raise AudiogenError(f"{audio}: holds no samples")
    codec = SpectralCodec.load(codec_folder)
    recording = read(audio, codec.sample_rate, codec.channels).samples[None]
    cut_hz = 0.47 * header.sample_rate
    played = decode_latents(codec, encode_latents(codec, recording, restore=True))
    made_up = _above(played, codec.channels, cut_hz, codec.sample_rate)
    samples, channels = recording.shape[2], min(header.channels, codec.channels)
    _write(output, codec, samples, _added(recording, made_up), channels, progress)
    return cut_hz


def _added(recording: Tensor, others: Iterable[Tensor]) -> Iterator[Tensor]:
    done = 0
    for other in others:
        part = recording[:, :, done : done + other.shape[2]]
        done += other.shape[2]
        yield part + other[:, :, : part.shape[2]]


def _above(blocks: Iterable[Tensor], channels: int, cut_hz: float, sample_rate: int) -> Iterator[Tensor]:
    """High-pass without delay: a windowed sinc, in blocks `[1, C, s]`."""
    from torchaudio.functional import fftconvolve

    half = _TAPS // 2
    time = torch.arange(-half, half + 1, dtype=torch.float64)
    low = torch.sinc(2 * cut_hz / sample_rate * time) * torch.blackman_window(_TAPS, periodic=False).double()
    taps = -low / low.sum()
    taps[half] += 1
    weights = taps.float().expand(1, channels, -1)
    edge = torch.zeros(1, channels, half)
    held = edge
    for block in chain(blocks, [edge]):
        held = torch.cat([held, block], 2)
        if held.shape[2] >= _TAPS:
            passed = fftconvolve(held, weights, mode="valid")
            held = held[:, :, passed.shape[2] :]
            yield passed


def _between(begin: Iterable[Tensor], end: Iterable[Tensor], frames: int) -> Iterator[Tensor]:
    done = 0
    for one, other in zip(begin, end, strict=True):
        place = torch.arange(done, done + one.shape[1])[:, None] / max(1, frames - 1)
        done += one.shape[1]
        yield torch.lerp(one, other, place.square() * (3 - 2 * place))


def _write(
    output: Path, codec: SpectralCodec, samples: int, blocks: Iterable[Tensor], channels: int, progress: Progress
) -> None:
    """The first `samples` of the blocks as a WAV file."""
    rate, done = codec.sample_rate, 0
    with WavSink(output, rate, channels) as sink:
        for block in blocks:
            part = block[0, :, : samples - done]
            done += part.shape[1]
            sink.write(to_channels(Waveform(part, rate), channels))
            progress(done / rate, samples / rate)
