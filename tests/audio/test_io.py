from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audiogen.audio.io import Header, read, read_header, resample, to_channels, write
from audiogen.interfaces import AudiogenError, Waveform


def sine(hz: float, sample_rate: int, seconds: float = 1.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * sample_rate)) / sample_rate)


@pytest.fixture
def stereo(tmp_path: Path) -> Path:
    path = tmp_path / "a.flac"
    soundfile.write(path, np.stack([sine(440, 44100, 3), sine(660, 44100, 3)], 1), 44100, subtype="PCM_24")
    return path


def test_reads_all_or_a_part(stereo: Path) -> None:
    whole, part = read(stereo), read(stereo, start_seconds=1.5, seconds=0.25)
    assert whole.sample_rate == 44100 and whole.samples.shape == (2, 3 * 44100) and whole.samples.dtype == torch.float32
    np.testing.assert_allclose(whole.samples[1].numpy(), sine(660, 44100, 3), atol=1e-6)
    torch.testing.assert_close(part.samples, whole.samples[:, 66150 : 66150 + 11025], rtol=0, atol=0)
    assert read(stereo, start_seconds=2.9, seconds=5).samples.shape == (2, 4410)
    assert read_header(stereo) == Header(44100, 2, 3 * 44100)


def test_converts_rate_and_channels(stereo: Path) -> None:
    waveform = read(stereo, sample_rate=48000, channels=1)
    assert waveform.sample_rate == 48000 and waveform.samples.shape == (1, 3 * 48000)
    expected = (sine(440, 48000, 3) + sine(660, 48000, 3)) / 2
    np.testing.assert_allclose(waveform.samples[0, 500:-500].numpy(), expected[500:-500], atol=2e-3)


def test_resampling_down_removes_what_would_alias() -> None:
    high = resample(Waveform(torch.tensor(sine(15000, 48000))[None].float(), 48000), 16000)
    assert high.samples.shape == (1, 16000) and high.samples[:, 100:-100].abs().max() < 1e-3
    assert resample(high, 16000) is high
    for rate in (0, -1, 47999):
        with pytest.raises(AudiogenError, match="cannot resample"):
            resample(Waveform(torch.zeros(1, 10), 44101), rate)


def test_channels() -> None:
    mono, pair = Waveform(torch.tensor([[1.0, -1.0]]), 8000), Waveform(torch.tensor([[1.0, 0.0], [0.0, 0.5]]), 8000)
    assert to_channels(mono, 2).samples.tolist() == [[1, -1], [1, -1]]
    assert to_channels(pair, 1).samples.tolist() == [[0.5, 0.25]]
    assert to_channels(pair, 2).samples is pair.samples
    surround = Waveform(torch.eye(8), 8000)
    left, right = to_channels(surround, 2).samples
    a = 1 / (1 + 3 * 0.5**0.5)
    b = 0.5**0.5 * a
    torch.testing.assert_close(left, torch.tensor([a, 0, b, 0, b, 0, b, 0]))
    torch.testing.assert_close(right, torch.tensor([0, a, b, 0, 0, b, 0, b]))
    assert to_channels(Waveform(torch.ones(8, 4), 8000), 1).samples.max() == pytest.approx(1)
    assert to_channels(Waveform(torch.ones(5, 4), 8000), 2).samples.shape == (2, 4)
    for given, wanted in ((9, 2), (2, 3), (1, 0)):
        with pytest.raises(AudiogenError, match=f"{given} channels"):
            to_channels(Waveform(torch.zeros(given, 4), 8000), wanted)


def test_writes_what_it_reads(tmp_path: Path, stereo: Path) -> None:
    waveform = read(stereo)
    write(tmp_path / "b.wav", waveform, "PCM_24")
    torch.testing.assert_close(read(tmp_path / "b.wav").samples, waveform.samples, rtol=0, atol=0)


def test_a_small_file_that_holds_too_much_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "silence.flac"
    with soundfile.SoundFile(path, "w", 8000, 2) as file:
        for _ in range(60):
            file.write(np.zeros((80_000, 2), dtype=np.int16))
    assert path.stat().st_size < 100_000
    with pytest.raises(AudiogenError, match=r"600 s of 2 channels would be 9\.6e\+06 samples, more than the 9e\+06"):
        read(path, max_samples=9_000_000)
    with pytest.raises(AudiogenError, match="allowed"):  # after resampling it would not fit
        read(path, sample_rate=48000, max_samples=20_000_000)
    assert read(path, seconds=500, max_samples=9_000_000).seconds == 500


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.rf64"])
def test_a_truncated_file_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (44100, 2))
    soundfile.write(path, noise, 44100)
    assert read(path).seconds == 1
    os.truncate(path, path.stat().st_size * 2 // 3)
    with pytest.raises(AudiogenError, match=r"truncated|damaged"):
        read(path)


def test_a_wav_recorded_from_a_stream_is_read_to_its_end(tmp_path: Path) -> None:
    from audiogen.audio.sinks import RawSink

    with open(tmp_path / "a.wav", "wb") as stream, RawSink(stream, 8000) as sink:
        sink.write(Waveform(torch.full((2, 100), 0.5), 8000))
    torch.testing.assert_close(read(tmp_path / "a.wav").samples, torch.full((2, 100), 0.5))


def test_bad_files_are_named(tmp_path: Path, stereo: Path) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "foreign.wav").write_text("once upon a time " * 100)
    soundfile.write(tmp_path / "none.wav", np.zeros((0, 2)), 8000)
    for value, name in ((np.nan, "nan.wav"), (np.inf, "inf.wav")):
        samples = np.zeros(200_000, dtype=np.float32)
        samples[150_000] = value
        soundfile.write(tmp_path / name, samples, 8000, subtype="FLOAT")
    for name, words in {
        "missing.wav": "there is no such file",
        ".": "this is a folder",
        "empty.wav": "the file is empty",
        "foreign.wav": "cannot be read as audio",
        "none.wav": "holds no samples",
        "nan.wav": r"NaN or infinite samples near 16\.38 s",
        "inf.wav": "NaN or infinite",
    }.items():
        with pytest.raises(AudiogenError, match=words):
            read(tmp_path / name)
    assert read(tmp_path / "nan.wav", seconds=10).seconds == 10


@pytest.mark.parametrize(
    ("start", "seconds"), [(-1, None), (float("nan"), None), (0, 0), (0, -1), (0, float("nan")), (0, float("inf"))]
)
def test_impossible_excerpts_are_refused(stereo: Path, start: float, seconds: float | None) -> None:
    with pytest.raises(AudiogenError, match="cannot read"):
        read(stereo, start_seconds=start, seconds=seconds)
    with pytest.raises(AudiogenError, match="past the end, 3 s"):
        read(stereo, start_seconds=3)


def test_one_sample(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", Waveform(torch.tensor([[0.5]]), 8000))
    assert read(tmp_path / "a.wav", sample_rate=48000, channels=2).samples.shape == (2, 6)
