"""Where audio goes chunk by chunk: WAV files that are whole or absent, and a WAV stream for a player.

The writer is our own, in numpy: the same audio gives the same bytes (libsndfile stamps float files with the time), the
file can pass 4 GiB (EBU Tech 3306, RF64), and the samples that clip are counted.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal, Self, cast, get_args

import numpy as np

from audiogen.files import atomic_path
from audiogen.interfaces import AudiogenError, Waveform

Subtype = Literal["PCM_16", "PCM_24", "FLOAT"]

_BITS: dict[Subtype, int] = {"PCM_16": 16, "PCM_24": 24, "FLOAT": 32}
_RIFF_LIMIT_BYTES = 0xFFFFFFFF
_UNKNOWN = 0xFFFFFFFF


class _WavEncoder:
    """Header and sample bytes of one WAV stream; counts what it has encoded."""

    def __init__(
        self, name: str, sample_rate: int, channels: int, subtype: Subtype, metadata: Mapping[str, Any] | None
    ) -> None:
        if subtype not in get_args(Subtype):
            raise AudiogenError(f"{name}: {subtype!r} is no sample format: use one of {', '.join(get_args(Subtype))}")
        if sample_rate < 1 or channels < 1:
            raise AudiogenError(f"{name}: cannot write {channels} channels at {sample_rate} Hz: both must be 1 or more")
        self.name, self.sample_rate, self.channels, self.subtype = name, sample_rate, channels, subtype
        self.frame_bytes = channels * _BITS[subtype] // 8
        self.frames = 0  # samples of one channel
        self.clipped_samples = 0
        entries = [_chunk(b"ISFT", b"audiogen\0")]
        if metadata is not None:
            entries.append(_chunk(b"ICMT", json.dumps(metadata, allow_nan=False).encode("ascii") + b"\0"))
        self._info = _chunk(b"LIST", b"INFO" + b"".join(entries))

    def encode(self, chunk: Waveform) -> bytes:
        """Waveform → interleaved little-endian samples, rounded to nearest; beyond ±1 the integer formats clip."""
        if (chunk.sample_rate, chunk.channels) != (self.sample_rate, self.channels):
            raise ValueError(
                f"{self.name}: expected {self.channels} channels at {self.sample_rate} Hz, "
                f"got {chunk.channels} at {chunk.sample_rate} Hz"
            )
        samples = chunk.samples.detach().float().cpu().numpy().T
        if not np.isfinite(samples).all():
            raise AudiogenError(f"{self.name}: the audio holds NaN or infinite samples; nothing was written")
        self.frames += len(samples)
        if self.subtype == "FLOAT":
            return samples.astype("<f4").tobytes()
        self.clipped_samples += int((np.abs(samples) > 1).sum())
        scale = 2 ** (_BITS[self.subtype] - 1)
        integers = np.clip(np.rint(samples.astype(np.float64) * scale), -scale, scale - 1)
        if self.subtype == "PCM_16":
            return integers.astype("<i2").tobytes()
        return np.ascontiguousarray(integers.astype("<i4")).view(np.uint8).reshape(-1, 4)[:, :3].tobytes()

    @property
    def padding(self) -> bytes:
        """RIFF chunks have even lengths."""
        return b"\0" * (self.frames * self.frame_bytes % 2)

    def header(self, streaming: bool = False) -> bytes:
        """Everything before the samples, for the frames encoded so far; its length never changes."""
        data_bytes = self.frames * self.frame_bytes
        byte_rate, bits = self.sample_rate * self.frame_bytes, _BITS[self.subtype]
        layout = (self.channels, self.sample_rate, byte_rate, self.frame_bytes, bits)
        if self.subtype == "FLOAT":
            chunks = _chunk(b"fmt ", struct.pack("<HHIIHHH", 3, *layout, 0))
            chunks += _chunk(b"fact", struct.pack("<I", min(self.frames, _UNKNOWN)))
        else:
            chunks = _chunk(b"fmt ", struct.pack("<HHIIHH", 1, *layout))
        chunks += self._info
        riff_bytes = len(b"WAVE") + 36 + len(chunks) + 8 + data_bytes + len(self.padding)
        large = riff_bytes > _RIFF_LIMIT_BYTES
        sizes = struct.pack("<QQQI", riff_bytes, data_bytes, self.frames, 0) if large else bytes(28)
        if large or streaming:
            riff_bytes = data_bytes = _UNKNOWN
        return (
            struct.pack("<4sI4s", b"RF64" if large else b"RIFF", riff_bytes, b"WAVE")
            + _chunk(b"ds64" if large else b"JUNK", sizes)
            + chunks
            + struct.pack("<4sI", b"data", data_bytes)
        )


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack("<4sI", name, len(content)) + content + b"\0" * (len(content) % 2)


class WavSink:
    """Writes a WAV file chunk by chunk; it appears under its name at `close()`, never half-written.

    `metadata` goes into the file's comment (RIFF INFO) as JSON. An exception inside the `with` block, or in `write`,
    removes what was written. Files over 4 GiB become RF64. Raises AudiogenError for a folder that does not exist, a
    full disk and samples that are NaN or infinite; ValueError for a chunk of another rate or number of channels.
    """

    def __init__(
        self,
        path: str | Path,
        sample_rate: int,
        channels: int = 2,
        subtype: Subtype = "PCM_16",
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self._encoder = _WavEncoder(str(path), sample_rate, channels, subtype, metadata)
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_path(path))
            self._file = cast(BinaryIO, stack.enter_context(open(temporary, "wb")))
            self._file.write(self._encoder.header())
            self._open = stack.pop_all()

    @property
    def clipped_samples(self) -> int:
        """How many samples, over all channels, lay beyond full scale and were clipped."""
        return self._encoder.clipped_samples

    @property
    def seconds(self) -> float:
        """Written so far."""
        return self._encoder.frames / self._encoder.sample_rate

    def write(self, chunk: Waveform) -> None:
        if self._file.closed:
            raise ValueError(f"{self._encoder.name}: the sink is closed")
        try:
            self._file.write(self._encoder.encode(chunk))
        except BaseException:
            self._open.__exit__(*sys.exc_info())
            raise

    def close(self) -> None:
        """Finish the header and give the file its name. Closing twice does nothing."""
        with self._open:
            if not self._file.closed:
                self._file.write(self._encoder.padding)
                self._file.seek(0)
                self._file.write(self._encoder.header())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._open.__exit__(kind, error, trace)


class RawSink:
    """A 16-bit WAV stream of unknown length into `stream`, such as standard output piped into a player.

    Each chunk is flushed at once. `stream` stays open: it belongs to the caller.
    """

    def __init__(self, stream: BinaryIO, sample_rate: int, channels: int = 2) -> None:
        self._stream = stream
        self._encoder = _WavEncoder("stream", sample_rate, channels, "PCM_16", None)
        self._send(self._encoder.header(streaming=True))

    @property
    def clipped_samples(self) -> int:
        """How many samples, over all channels, lay beyond full scale and were clipped."""
        return self._encoder.clipped_samples

    def write(self, chunk: Waveform) -> None:
        self._send(self._encoder.encode(chunk))

    def close(self) -> None:
        self._stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()

    def _send(self, content: bytes) -> None:
        self._stream.write(content)
        self._stream.flush()
