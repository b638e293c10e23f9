"""Codes in a file, `.agc`: a header, the codes packed bit by bit, a checksum.

Little-endian: `AGC`, version (1 byte), number of codebooks (1), bits a code (1), sample rate (4), hop length (2),
samples (8), fingerprint of the codec (8), then the codes frame by frame in `bits` each, and the CRC-32 of all before.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from audiogen.files import atomic_path
from audiogen.interfaces import AudiogenError

_MAGIC, _VERSION = b"AGC", 1
_HEADER = struct.Struct("<3sBBBIHQ8s")
_CHECKSUM = struct.Struct("<I")


@dataclass(frozen=True)
class CodedAudio:
    """Codes int64 `[K, T]` and what is needed to decode them."""

    codes: Tensor
    codebook_size: int
    sample_rate: int
    hop_length: int
    samples: int
    """length of the audio; the last frame may reach beyond it"""
    fingerprint: str
    """of the codec: 16 hexadecimal digits"""

    @property
    def kbps(self) -> float:
        """of the codes themselves"""
        bits = len(self.codes) * (self.codebook_size - 1).bit_length()
        return bits * self.sample_rate / self.hop_length / 1000


def write_codes(path: str | Path, coded: CodedAudio) -> int:
    """Write `coded` to `path`, whole or not at all → size in bytes."""
    bits = (coded.codebook_size - 1).bit_length()
    codes = coded.codes.T.numpy().astype(np.uint32)[..., None]  # [T, K, 1]
    payload = np.packbits((codes >> np.arange(bits, dtype=np.uint32) & 1).astype(np.uint8).reshape(-1))
    header = _HEADER.pack(
        _MAGIC, _VERSION, len(coded.codes), bits, coded.sample_rate, coded.hop_length, coded.samples,
        bytes.fromhex(coded.fingerprint),
    )  # fmt: skip
    body = header + payload.tobytes()
    with atomic_path(path) as temporary:
        temporary.write_bytes(body + _CHECKSUM.pack(zlib.crc32(body)))
    return len(body) + _CHECKSUM.size


def read_codes(path: str | Path) -> CodedAudio:
    """Inverse of `write_codes`. Raises AudiogenError for another kind or version of file, and for a damaged one."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise AudiogenError(f"{path}: cannot be read: {error.strerror}") from None
    if data[:3] != _MAGIC:
        raise AudiogenError(f"{path}: no file of codes (.agc); make one with `audiogen codec encode`")
    if len(data) > 3 and data[3] != _VERSION:
        raise AudiogenError(f"{path}: .agc version {data[3]}, this audiogen reads version {_VERSION}: update it")
    damaged = AudiogenError(f"{path}: the file is cut short or damaged (its checksum differs); fetch or make it again")
    if len(data) < _HEADER.size + _CHECKSUM.size:
        raise damaged
    body, checksum = data[: -_CHECKSUM.size], data[-_CHECKSUM.size :]
    if _CHECKSUM.unpack(checksum)[0] != zlib.crc32(body):
        raise damaged
    _, _, books, bits, sample_rate, hop_length, samples, fingerprint = _HEADER.unpack_from(body)
    frames = -(-samples // hop_length)
    found = np.unpackbits(np.frombuffer(body, dtype=np.uint8, offset=_HEADER.size))
    wanted = frames * books * bits
    if not 0 <= len(found) - wanted < 8:
        raise AudiogenError(f"{path}: holds {len(found)} bits of codes, {frames} frames need {wanted}; make it again")
    codes = found[:wanted].reshape(frames, books, bits) @ (1 << np.arange(bits))
    return CodedAudio(
        torch.from_numpy(codes.astype(np.int64).T.copy()), 1 << bits, sample_rate, hop_length, samples,
        fingerprint.hex(),
    )  # fmt: skip
