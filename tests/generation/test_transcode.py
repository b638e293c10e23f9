from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from audiogen import AudiogenError, Waveform
from audiogen.audio.io import read, write
from audiogen.codec.container import write_codes
from audiogen.generation import transcode
from audiogen.generation.transcode import decode_file, encode_file
from tests import tiny


def test_there_and_back_in_blocks(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audio = tiny.notes(3.3)
    write(tmp_path / "in.wav", Waveform(audio, tiny.RATE))
    whole, size = encode_file(tmp_path / "in.wav", tmp_path / "whole.agc", str(model_folder))
    monkeypatch.setattr(transcode, "_BLOCK_SECONDS", 0.7)
    blocks, _ = encode_file(tmp_path / "in.wav", tmp_path / "blocks.agc", str(model_folder))
    assert torch.equal(whole.codes, blocks.codes) and whole.samples == audio.shape[1]
    assert size == (tmp_path / "whole.agc").stat().st_size == 28 + -(-whole.codes.numel() * 5 // 8) + 4
    assert decode_file(tmp_path / "whole.agc", tmp_path / "a.wav", str(model_folder)) == pytest.approx(3.3)
    monkeypatch.setattr(transcode, "_BLOCK_FRAMES", 7)
    decode_file(tmp_path / "whole.agc", tmp_path / "b.wav", str(model_folder))
    a, b = read(tmp_path / "a.wav"), read(tmp_path / "b.wav")
    assert a.samples.shape == audio.shape
    assert float((a.samples - b.samples).abs().max()) <= 1 / 2**15


@pytest.mark.parametrize(("channels", "rate"), [(1, 8000), (8, tiny.RATE), (2, 44_100)])
def test_other_layouts_are_converted(model_folder: Path, tmp_path: Path, channels: int, rate: int) -> None:
    write(tmp_path / "in.wav", Waveform(torch.randn(channels, rate // 2) * 0.1, rate))
    coded, _ = encode_file(tmp_path / "in.wav", tmp_path / "x.agc", str(model_folder))
    assert coded.codes.shape == (4, 13)


def test_one_sample_and_silence(model_folder: Path, tmp_path: Path) -> None:
    for samples in (torch.full((2, 1), 0.5), torch.zeros(2, 5000)):
        write(tmp_path / "in.wav", Waveform(samples, tiny.RATE))
        encode_file(tmp_path / "in.wav", tmp_path / "x.agc", str(model_folder))
        decode_file(tmp_path / "x.agc", tmp_path / "out.wav", str(model_folder))
        assert read(tmp_path / "out.wav").samples.shape == samples.shape


def test_fewer_codebooks_make_a_smaller_file_of_the_same_codes(model_folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "in.wav", Waveform(tiny.notes(2.0), tiny.RATE))
    whole, size = encode_file(tmp_path / "in.wav", tmp_path / "a.agc", str(model_folder))
    fewer, smaller = encode_file(tmp_path / "in.wav", tmp_path / "b.agc", str(model_folder), 2)
    assert torch.equal(fewer.codes, whole.codes[:2])
    assert (size, smaller) == (32 + 125, 32 + 63)  # 50 frames of 4 or 2 × 5 bits, header and checksum
    assert (whole.kbps, fewer.kbps) == (0.5, 0.25)
    decode_file(tmp_path / "b.agc", tmp_path / "b.wav", str(model_folder))
    assert read(tmp_path / "b.wav").samples.shape == (2, 2 * tiny.RATE)
    for number in (0, 5):
        with pytest.raises(AudiogenError, match=f"--codebooks {number}: .* has 1 to 4"):
            encode_file(tmp_path / "in.wav", tmp_path / "c.agc", str(model_folder), number)


def test_codes_of_another_codec_are_refused(model_folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "in.wav", Waveform(tiny.notes(1.0), tiny.RATE))
    coded, _ = encode_file(tmp_path / "in.wav", tmp_path / "x.agc", str(model_folder))
    write_codes(tmp_path / "x.agc", replace(coded, fingerprint="0123456789abcdef"))
    with pytest.raises(AudiogenError, match=r"x\.agc: made by the codec 0123456789abcdef, but .* has .*--model"):
        decode_file(tmp_path / "x.agc", tmp_path / "out.wav", str(model_folder))


def test_bad_input(model_folder: Path, tmp_path: Path) -> None:
    for name, content in (("none.wav", None), ("text.wav", b"no audio"), ("empty.wav", b"")):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(AudiogenError, match=name):
            encode_file(tmp_path / name, tmp_path / "x.agc", str(model_folder))
    write(tmp_path / "nan.wav", Waveform(tiny.notes(1.0), tiny.RATE), "FLOAT")
    data = bytearray((tmp_path / "nan.wav").read_bytes())
    data[-4:] = b"\x00\x00\xc0\x7f"
    (tmp_path / "nan.wav").write_bytes(data)
    with pytest.raises(AudiogenError, match="NaN"):
        encode_file(tmp_path / "nan.wav", tmp_path / "x.agc", str(model_folder))
    (tmp_path / "bad.agc").write_bytes(b"x" * 50)
    with pytest.raises(AudiogenError, match="no file of codes"):
        decode_file(tmp_path / "bad.agc", tmp_path / "out.wav", str(model_folder))
    assert not (tmp_path / "x.agc").exists() and not (tmp_path / "out.wav").exists()
