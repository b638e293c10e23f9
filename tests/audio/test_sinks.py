from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audiogen.audio import sinks
from audiogen.audio.sinks import RawSink, WavSink
from audiogen.interfaces import AudiogenError, Waveform

RATE = 8000


def noise(samples: int = 1000, channels: int = 2, seed: int = 0) -> Waveform:
    generator = torch.Generator().manual_seed(seed)
    return Waveform(torch.rand(channels, samples, generator=generator) * 2 - 1, RATE)


@pytest.mark.parametrize(("subtype", "bits"), [("PCM_16", 16), ("PCM_24", 24), ("FLOAT", None)])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_what_is_written_reads_back(tmp_path: Path, subtype: sinks.Subtype, bits: int | None, channels: int) -> None:
    waveform = noise(1001, channels)
    with WavSink(tmp_path / "a.wav", RATE, channels, subtype) as sink:
        for part in waveform.samples.split([1, 0, 500, 500], dim=1):
            sink.write(Waveform(part, RATE))
        assert sink.seconds == 1001 / RATE
    samples, rate = soundfile.read(tmp_path / "a.wav", dtype="float32", always_2d=True)
    info = soundfile.info(tmp_path / "a.wav", verbose=True)
    assert rate == RATE and samples.shape == (1001, channels)
    assert info.subtype == subtype and info.format == "WAV" and "(should be" not in info.extra_info
    assert np.abs(samples.T - waveform.samples.numpy()).max() <= (0.5001 / 2 ** (bits - 1) if bits else 0)
    assert (tmp_path / "a.wav").stat().st_size % 2 == 0


def test_the_same_audio_gives_the_same_bytes_whatever_the_chunks(tmp_path: Path) -> None:
    for name, size in (("a.wav", 1000), ("b.wav", 37)):
        with WavSink(tmp_path / name, RATE, metadata={"seed": 7}) as sink:
            for part in noise().samples.split(size, dim=1):
                sink.write(Waveform(part, RATE))
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


@given(st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=50))
@settings(max_examples=50, deadline=None)
def test_rounding_is_to_nearest_and_clipping_is_counted(values: list[float]) -> None:
    stream = io.BytesIO()
    sink = RawSink(stream, RATE, channels=1)
    header = len(stream.getvalue())
    sink.write(Waveform(torch.tensor([values]), RATE))
    written = np.frombuffer(stream.getvalue()[header:], dtype="<i2")
    exact = np.asarray(values, dtype=np.float32).astype(np.float64) * 32768
    assert np.all(np.abs(written - np.clip(exact, -32768, 32767)) <= 0.5)
    assert sink.clipped_samples == sum(abs(value) > 1 for value in values)


def test_the_file_says_that_it_was_generated(tmp_path: Path) -> None:
    metadata = {"generated": True, "prompt": "café, 80 bpm", "seed": 7}
    with WavSink(tmp_path / "a.wav", RATE, metadata=metadata) as sink:
        sink.write(noise())
    with soundfile.SoundFile(tmp_path / "a.wav") as file:
        assert json.loads(file.comment) == metadata
        assert file.software.startswith("audiogen")
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert (file.getnchannels(), file.getframerate(), file.getnframes()) == (2, RATE, 1000)


def test_nothing_is_there_until_close_and_nothing_after_an_error(tmp_path: Path) -> None:
    target = tmp_path / "a.wav"
    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error), WavSink(target, RATE) as sink:
            sink.write(noise())
            assert not target.exists()
            raise error
        assert os.listdir(tmp_path) == []
    sink = WavSink(target, RATE)
    sink.write(noise())
    sink.close()
    sink.close()
    before = target.read_bytes()
    with pytest.raises(ValueError, match="closed"):
        sink.write(noise())
    assert target.read_bytes() == before


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_samples_that_are_no_numbers_leave_no_file(tmp_path: Path, value: float) -> None:
    sink = WavSink(tmp_path / "a.wav", RATE, subtype="FLOAT")
    with pytest.raises(AudiogenError, match="NaN or infinite"):
        sink.write(Waveform(torch.full((2, 4), value), RATE))
    sink.close()
    assert os.listdir(tmp_path) == []


def test_a_full_disk_while_writing_or_closing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, mode: str) -> object:
        return io.BufferedWriter(open("/dev/full", "wb", buffering=0), buffer_size=4096)

    monkeypatch.setattr(sinks, "open", full, raising=False)
    for samples in (100_000, 10):
        with pytest.raises(AudiogenError, match=r"a\.wav: No space left"), WavSink(tmp_path / "a.wav", RATE) as sink:
            sink.write(noise(samples))
        assert os.listdir(tmp_path) == []


def test_chunks_of_another_kind_and_bad_settings_are_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="expected 2 channels at 8000 Hz, got 1 at 8000 Hz"),
        WavSink(tmp_path / "a.wav", RATE) as sink,
    ):
        sink.write(noise(channels=1))
    with pytest.raises(AudiogenError, match="'MP3' is no sample format"):
        WavSink(tmp_path / "a.wav", RATE, subtype="MP3")  # type: ignore[arg-type]
    with pytest.raises(AudiogenError, match="does not exist"):
        WavSink(tmp_path / "no" / "a.wav", RATE)
    assert os.listdir(tmp_path) == []


def test_beyond_four_gibibytes_the_file_is_rf64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks, "_RIFF_LIMIT_BYTES", 3000)
    for name, samples, expected in (("a.wav", 600, "WAV"), ("b.wav", 1000, "RF64")):
        with WavSink(tmp_path / name, RATE, metadata={"seed": 1}) as sink:
            sink.write(noise(samples))
        info = soundfile.info(tmp_path / name, verbose=True)
        assert (info.format, info.frames) == (expected, samples)
        assert "(should be" not in info.extra_info
        back, _ = soundfile.read(tmp_path / name, dtype="float32")
        assert np.abs(back.T - noise(samples).samples.numpy()).max() < 1e-4


def test_header_of_ten_hours(tmp_path: Path) -> None:
    encoder = sinks._WavEncoder("a", 48000, 2, "PCM_16", None)
    encoder.frames = 36000 * 48000
    path = tmp_path / "a.wav"
    path.write_bytes(encoder.header())
    os.truncate(path, len(encoder.header()) + encoder.frames * 4)  # sparse
    info = soundfile.info(path, verbose=True)
    assert (info.format, info.frames) == ("RF64", 36000 * 48000)
    assert len(encoder.header()) == len(sinks._WavEncoder("a", 48000, 2, "PCM_16", None).header())


def test_the_stream_is_readable_and_stays_open() -> None:
    stream = io.BytesIO()
    with RawSink(stream, RATE) as sink:
        sink.write(noise(500))
        sink.write(noise(500, seed=1))
    assert not stream.closed
    stream.seek(0)
    samples, rate = soundfile.read(stream, dtype="float32")
    assert rate == RATE and samples.shape == (1000, 2)
    np.testing.assert_allclose(samples[500:].T, noise(500, seed=1).samples.numpy(), atol=2e-5)


@pytest.mark.needs_ffmpeg
def test_a_player_understands_the_stream() -> None:
    stream = io.BytesIO()
    with RawSink(stream, RATE) as sink:
        sink.write(noise(4000))
    command = [shutil.which("ffmpeg") or "", "-v", "error", "-i", "-", "-f", "s16le", "-"]
    result = subprocess.run(command, input=stream.getvalue(), capture_output=True, check=True)
    assert result.stdout == stream.getvalue()[-16000:]
