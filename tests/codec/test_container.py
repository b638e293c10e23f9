from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audiogen.codec.container import CodedAudio, read_codes, write_codes
from audiogen.interfaces import AudiogenError


def coded(books: int = 3, frames: int = 7, size: int = 1024, seed: int = 0) -> CodedAudio:
    codes = torch.randint(0, size, (books, frames), generator=torch.Generator().manual_seed(seed))
    return CodedAudio(codes, size, 48_000, 1920, max(0, frames * 1920 - 5), "00112233aabbccff")


@settings(max_examples=30, deadline=None)
@given(books=st.integers(1, 16), frames=st.integers(0, 40), bits=st.integers(1, 12), seed=st.integers(0, 9))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, books: int, frames: int, bits: int, seed: int
) -> None:
    path = tmp_path_factory.mktemp("agc") / "x.agc"
    told = coded(books, frames, 1 << bits, seed)
    size = write_codes(path, told)
    found = read_codes(path)
    assert size == path.stat().st_size == 28 + -(-books * frames * bits // 8) + 4
    assert torch.equal(found.codes, told.codes) and replace(found, codes=told.codes) == told


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    path = tmp_path / "x.agc"
    write_codes(path, coded())
    whole = path.read_bytes()
    for place in range(8 * len(whole)):
        changed = bytearray(whole)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        with pytest.raises(AudiogenError, match=r"x\.agc: (no file of codes|\.agc version|the file is cut short)"):
            read_codes(path)


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.agc"
    write_codes(path, coded())
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(AudiogenError, match=r"x\.agc: "):
            read_codes(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AudiogenError, match=r"none\.agc: cannot be read: No such file"):
        read_codes(tmp_path / "none.agc")
    (tmp_path / "new.agc").write_bytes(b"AGC\x02" + bytes(60))
    with pytest.raises(AudiogenError, match=r"version 2, this audiogen reads version 1: update it"):
        read_codes(tmp_path / "new.agc")
    (tmp_path / "x.wav").write_bytes(b"RIFF" + bytes(60))
    with pytest.raises(AudiogenError, match="no file of codes"):
        read_codes(tmp_path / "x.wav")


def test_a_header_that_promises_other_codes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.agc"
    write_codes(path, replace(coded(), samples=100 * 1920))
    with pytest.raises(AudiogenError, match="holds 216 bits of codes, 100 frames need 3000"):
        read_codes(path)
