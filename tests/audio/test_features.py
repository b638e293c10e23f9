from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from audiogen.audio import features
from audiogen.interfaces import AudiogenError, Key, Waveform

RATE = 22050
SILENCE = Waveform(torch.zeros(2, RATE), RATE)


def notes(*midi: int, seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return sum(np.sin(2 * np.pi * 440 * 2 ** ((note - 69) / 12) * time) for note in midi) * 0.2 * np.exp(-2 * time)


def waveform(samples: np.ndarray, rate: int = RATE) -> Waveform:
    return Waveform(torch.from_numpy(np.stack([samples, samples])).float(), rate)


def cadence(shift: int = 0, minor: bool = False) -> Waveform:
    third, sixth = (3, 8) if minor else (4, 9)
    chords = [(0, third, 7), (5, 5 + sixth - 5, 12), (7, 11, 14), (0, third, 7)]
    return waveform(np.concatenate([notes(*(48 + shift + n for n in chord)) for chord in chords * 2]))


@pytest.mark.parametrize(("shift", "minor", "expected"), [(0, False, "C major"), (2, True, "D minor")])
def test_key(shift: int, minor: bool, expected: str) -> None:
    assert features.key(cadence(shift, minor)) == Key.parse(expected)


@pytest.mark.parametrize("seconds", [0.1, 4.0])  # with rests: nothing sounds there at all
def test_the_harmonic_part_is_librosas(seconds: float) -> None:
    import librosa

    samples = np.concatenate([notes(60, 67), notes(62, 69), np.zeros(9000)]).astype(np.float32)
    samples[::5000] += np.random.default_rng(0).uniform(0.2, 0.6, len(samples[::5000]))  # clicks, which are to go
    samples = np.resize(samples, round(seconds * RATE))
    expected = librosa.effects.harmonic(samples)
    made = features._harmonic(samples)
    assert made.dtype == expected.dtype and made.shape == expected.shape
    np.testing.assert_allclose(made, expected, atol=1e-6)
    if seconds > 1:
        assert np.abs(expected - samples).max() > 0.1


@pytest.mark.parametrize("bpm", [90.0, 120.0])
def test_tempo_and_beats(bpm: float) -> None:
    period = round(RATE * 60 / bpm)
    click = np.random.default_rng(0).standard_normal(600) * np.exp(-np.arange(600) / 100) * 0.3
    samples = np.zeros(period * 20)
    for start in range(0, len(samples) - 600, period):
        samples[start : start + 600] += click
    found, times = features.beats(waveform(samples))
    assert found == pytest.approx(bpm, rel=0.04) == features.tempo_bpm(waveform(samples))
    assert np.median(np.diff(times)) == pytest.approx(60 / bpm, rel=0.04)


def test_chroma_and_semitones_show_the_note_played() -> None:
    played = waveform(notes(69, seconds=2), RATE)
    assert features.chroma(played).shape[0] == 12
    assert features.chroma(played)[:, 10:60].mean(1).argmax() == 9
    bands = features.semitone_bands(played)
    assert bands.shape[0] == 72 and bands[:, 10:60].mean(1).argmax() == 69 - 36


def test_correlation() -> None:
    random = np.random.default_rng(0)
    a, b = random.random((12, 50)), random.random((12, 60))
    assert features.correlation(a, a * 3 + 5) == pytest.approx(1)
    assert features.correlation(a, -a) == pytest.approx(-1)
    assert abs(features.correlation(a, b)) < 0.15
    half = a.copy()
    half[:, :25] = 0.7  # flat in half of the frames
    assert features.correlation(a, half) == pytest.approx(0.5)
    assert features.correlation(half, a) == pytest.approx(1)
    assert np.isnan(features.correlation(np.zeros((12, 5)), a))


def test_correlation_tells_a_transposed_copy_from_the_same_notes() -> None:
    for feature, highest in ((features.chroma, 0.0), (features.semitone_bands, 0.5)):
        reference, tritone = feature(cadence()), feature(cadence(6))
        assert features.correlation(reference, reference) == pytest.approx(1)
        assert features.correlation(reference, tritone) < highest


def test_loudness() -> None:
    samples = np.sin(2 * np.pi * 997 * np.arange(48000 * 2) / 48000)
    one_side = Waveform(torch.from_numpy(np.stack([samples, 0 * samples])).float(), 48000)
    assert features.loudness_lufs(one_side) == pytest.approx(-3.01, abs=0.05)  # the standard's own calibration
    assert features.loudness_lufs(SILENCE) == float("-inf")
    with pytest.raises(AudiogenError, match=r"at least 0\.4 s"):
        features.loudness_lufs(Waveform(torch.ones(1, 10), 48000))
    with pytest.raises(AudiogenError, match="up to five channels, got 6"):
        features.loudness_lufs(Waveform(torch.ones(6, 48000), 48000))


@pytest.mark.parametrize("audio", [SILENCE, Waveform(torch.zeros(1, 1), 8000)])
def test_silence_has_no_tempo_and_no_key(audio: Waveform) -> None:
    assert features.tempo_bpm(audio) is None and features.key(audio) is None
    assert features.beats(audio)[1].shape == (0,)
    assert np.isfinite(features.chroma(audio)).all()


@pytest.mark.parametrize("audio", [cadence(), SILENCE, Waveform(torch.full((1, 1), 0.5), 48000)])
def test_figure_is_a_whole_png(tmp_path: Path, audio: Waveform) -> None:
    features.figure(audio, tmp_path / "clip.png", "café $5 beat " * 1000)
    data = (tmp_path / "clip.png").read_bytes()
    assert data.startswith(b"\x89PNG") and data.endswith(b"IEND\xaeB`\x82") and len(data) > 10_000
    assert [path.name for path in tmp_path.iterdir()] == ["clip.png"]


def test_only_one_process_makes_the_first_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl
    import threading

    monkeypatch.setattr(features, "_lock_path", lambda: tmp_path / "lock")
    calls: list[int] = []
    function = features.one_process_compiles(calls.append)
    with open(tmp_path / "lock", "a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        first = threading.Thread(target=function, args=(1,))
        first.start()
        first.join(0.2)
        assert first.is_alive() and not calls
        fcntl.flock(other, fcntl.LOCK_UN)
        first.join(10)
        assert calls == [1]
        fcntl.flock(other, fcntl.LOCK_EX)
        function(2)  # no longer waits
    assert calls == [1, 2]
