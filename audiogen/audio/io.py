"""Audio files and sample formats: the one door to soundfile and to torchaudio's resampler."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from audiogen.audio.sinks import Subtype, WavSink
from audiogen.interfaces import AudiogenError, Waveform

if TYPE_CHECKING:
    import soundfile
    import torch

DEFAULT_MAX_SAMPLES = 48_000 * 2 * 60 * 60  # summed over channels: an hour of 48 kHz stereo, 1.4 GB as float32
_BLOCK_FRAMES = 1 << 16
_MAX_KERNEL_TAPS = 100_000_000

# WAVE order of up to eight channels: left, right, Centre, low-frequency eXtra (dropped, as ITU-R BS.775 does),
# back and side pairs in lower case, back centre "b". Centre, back and side enter at -3 dB.
_LAYOUTS = {3: "LRC", 4: "LRlr", 5: "LRClr", 6: "LRCXlr", 7: "LRCXblr", 8: "LRCXlrlr"}
_TO_LEFT = {"L": 1.0, "C": math.sqrt(0.5), "l": math.sqrt(0.5), "b": 0.5}
_TO_RIGHT = {"R": 1.0, "C": math.sqrt(0.5), "r": math.sqrt(0.5), "b": 0.5}


@dataclass(frozen=True)
class Header:
    """What a file says of itself. `samples` counts one channel."""

    sample_rate: int
    channels: int
    samples: int


def read_header(path: str | Path) -> Header:
    """Sample rate, channels and length, without decoding. Raises AudiogenError for what is no whole audio file."""
    with _opened(path) as file:
        return Header(file.samplerate, file.channels, file.frames)


def read(
    path: str | Path,
    sample_rate: int | None = None,
    channels: int | None = None,
    start_seconds: float = 0.0,
    seconds: float | None = None,
    max_samples: int = DEFAULT_MAX_SAMPLES,
) -> Waveform:
    """Decode `seconds` from `start_seconds` on, or less at the end of the file; then convert channels and rate.

    A file of a few kilobytes can hold hours, so decoding goes block by block and is refused beyond `max_samples`
    (summed over channels, before and after resampling). Raises AudiogenError for a missing, empty, foreign or
    truncated file, a start past the end, and samples that are NaN or infinite.
    """
    import torch

    if not (0 <= start_seconds < math.inf) or (seconds is not None and not 0 < seconds < math.inf):
        raise AudiogenError(f"{path}: cannot read {seconds} seconds from {start_seconds} on: start at 0 or later")
    with _opened(path) as file:
        start = round(start_seconds * file.samplerate)
        if start >= file.frames:
            raise AudiogenError(
                f"{path}: a start at {start_seconds:g} s lies past the end, {file.frames / file.samplerate:g} s"
            )
        wanted = file.frames - start
        if seconds is not None:
            wanted = min(wanted, max(1, round(seconds * file.samplerate)))
        growth = max(1.0, (sample_rate or file.samplerate) / file.samplerate)
        held = wanted * growth * max(file.channels, channels or 1)
        if held > max_samples:
            raise AudiogenError(
                f"{path}: {wanted / file.samplerate:g} s of {file.channels} channels would be {held:.3g} samples, "
                f"more than the {max_samples:.3g} allowed; read a shorter part"
            )
        file.seek(start)
        samples = np.empty((file.channels, wanted), dtype=np.float32)
        for first in range(0, wanted, _BLOCK_FRAMES):
            block = file.read(min(_BLOCK_FRAMES, wanted - first), dtype="float32", always_2d=True)
            if len(block) < min(_BLOCK_FRAMES, wanted - first):
                raise AudiogenError(f"{path}: truncated: it ends {wanted - first - len(block)} samples early")
            if not np.isfinite(block).all():
                where = (start + first) / file.samplerate
                raise AudiogenError(f"{path}: holds NaN or infinite samples near {where:.2f} s; export it again")
            samples[:, first : first + len(block)] = block.T
        waveform = Waveform(torch.from_numpy(samples), file.samplerate)
    if channels is not None:
        waveform = to_channels(waveform, channels)
    return waveform if sample_rate is None else resample(waveform, sample_rate)


def write(path: str | Path, waveform: Waveform, subtype: Subtype = "PCM_16") -> None:
    """Write a WAV file, whole or not at all. See `WavSink` for the errors."""
    with WavSink(path, waveform.sample_rate, waveform.channels, subtype) as sink:
        sink.write(waveform)


def flac(waveform: Waveform) -> bytes:
    """The waveform as a FLAC file of 16 bits, for a page that brings its audio along."""
    import io

    import soundfile

    data = io.BytesIO()
    soundfile.write(data, waveform.samples.T.numpy(), waveform.sample_rate, format="FLAC", subtype="PCM_16")
    return data.getvalue()


def resample(waveform: Waveform, sample_rate: int) -> Waveform:
    """Band-limited resampling (windowed sinc, torchaudio) to `sample_rate`; length `ceil(S · new / old)`."""
    if waveform.sample_rate == sample_rate:
        return waveform
    from torchaudio.functional import resample as sinc_resample

    divisor = math.gcd(waveform.sample_rate, sample_rate)
    if sample_rate < 1 or (waveform.sample_rate // divisor) * (sample_rate // divisor) > _MAX_KERNEL_TAPS:
        raise AudiogenError(
            f"cannot resample {waveform.sample_rate} Hz to {sample_rate} Hz: use a common rate, such as 44100 or 48000"
        )
    samples = sinc_resample(
        waveform.samples,
        waveform.sample_rate,
        sample_rate,
        lowpass_filter_width=32,
        rolloff=0.97,
        resampling_method="sinc_interp_kaiser",
    )
    return Waveform(samples, sample_rate)


def to_channels(waveform: Waveform, channels: int) -> Waveform:
    """Convert to `channels`: mono is copied to both sides, stereo is averaged to mono, more are mixed down.

    Three to eight channels in WAVE order become stereo after ITU-R BS.775 (centre, back and side at -3 dB, the
    low-frequency channel left out), scaled so that full scale cannot clip. Raises AudiogenError for other layouts.
    """
    samples = waveform.samples
    if waveform.channels > 2 and channels in (1, 2):
        samples = _downmix(samples)
    if len(samples) == channels:
        return Waveform(samples, waveform.sample_rate)
    if len(samples) == 2 and channels == 1:
        return Waveform(samples.mean(0, keepdim=True), waveform.sample_rate)
    if len(samples) == 1 and channels == 2:
        return Waveform(samples.repeat(2, 1), waveform.sample_rate)
    raise AudiogenError(f"cannot turn {waveform.channels} channels into {channels}: give audio of 1 to 8 channels")


def _downmix(samples: torch.Tensor) -> torch.Tensor:
    if len(samples) not in _LAYOUTS:
        raise AudiogenError(f"cannot mix {len(samples)} channels down: give audio of 1 to 8 channels")
    layout = _LAYOUTS[len(samples)]
    weights = samples.new_tensor([[side.get(name, 0.0) for name in layout] for side in (_TO_LEFT, _TO_RIGHT)])
    return (weights / weights.sum(1, keepdim=True)) @ samples


@contextmanager
def _opened(path: str | Path) -> Iterator[soundfile.SoundFile]:
    import soundfile

    if os.path.isdir(path):
        raise AudiogenError(f"{path}: this is a folder; give the name of an audio file")
    if not os.path.isfile(path):
        raise AudiogenError(f"{path}: there is no such file")
    if os.path.getsize(path) == 0:
        raise AudiogenError(f"{path}: the file is empty")
    try:
        with soundfile.SoundFile(str(path)) as file:
            if missing := _missing_bytes(file.extra_info):
                raise AudiogenError(f"{path}: truncated: its header promises {missing} bytes more")
            if not 0 < file.frames < 1 << 48:  # libsndfile gives 2^63 - 1 where the header leaves the length open
                problem = "leaves its length open" if file.frames else "holds no samples"
                raise AudiogenError(f"{path}: {problem}; export it again")
            yield file
    except soundfile.LibsndfileError as error:
        reason = error.error_string.strip() or "the data is damaged or cut off"
        raise AudiogenError(f"{path}: cannot be read as audio: {reason}") from None


def _missing_bytes(log: str) -> int:
    """How many bytes the chunk sizes promise beyond the end of the file, by libsndfile's log. 0 for open streams."""
    sizes = [(int(said), int(found)) for said, found in re.findall(r"(\d+) \(should be (\d+)\)", log)]
    return max((said - found for said, found in sizes if said < 0xFFFFFFFF and said - found > 8), default=0)
