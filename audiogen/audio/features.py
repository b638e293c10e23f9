"""What can be measured in music: tempo, key, pitch content, loudness; and a picture. The only user of librosa.

Measurements are made on the mid channel at 22,050 Hz.
"""

from __future__ import annotations

import functools
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Literal, ParamSpec, TypeVar

import numpy as np

from audiogen.audio.io import resample, to_channels
from audiogen.files import atomic_path
from audiogen.interfaces import PITCH_CLASSES, AudiogenError, Key, Waveform

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_RATE = 22_050
_HOP = 512
_KEY_PART_SAMPLES = 60 * _RATE
_SILENCE = 1e-4  # peak amplitude: below 16-bit noise there is nothing to measure

# Krumhansl & Kessler 1982: how well each pitch class fits a key, from its tonic up.
_PROFILES: dict[Literal["major", "minor"], tuple[float, ...]] = {
    "major": (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    "minor": (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}


P = ParamSpec("P")
R = TypeVar("R")


def _lock_path() -> Path:
    return Path(tempfile.gettempdir()) / f"audiogen-librosa-{os.getuid()}.lock"


def one_process_compiles(function: Callable[P, R]) -> Callable[P, R]:
    """Let one process at a time make the first call of `function`.

    librosa compiles parts of itself when they are first used and keeps them on disk. Two processes doing so at once
    can mix their files up, and every later process then crashes with a segmentation fault.
    """
    waited = False

    @functools.wraps(function)
    def called(*values: P.args, **named: P.kwargs) -> R:
        nonlocal waited
        if waited or os.name != "posix":
            return function(*values, **named)
        import fcntl

        with open(_lock_path(), "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            result = function(*values, **named)
        waited = True
        return result

    return called


@one_process_compiles
def beats(waveform: Waveform) -> tuple[float | None, np.ndarray]:
    """Tempo in beats a minute and the times of the beats in seconds `[N]` (Ellis 2007); None and `[0]` if none."""
    import librosa

    samples = _mid(waveform)
    if _silent(samples):
        return None, np.zeros(0)
    tempo, times = librosa.beat.beat_track(y=samples, sr=_RATE, hop_length=_HOP, units="time")
    value = float(np.atleast_1d(tempo)[0])
    return (value, times) if value > 0 and len(times) else (None, np.zeros(0))


def tempo_bpm(waveform: Waveform) -> float | None:
    """Beats a minute as librosa hears them; halves, doubles and 3:2 are its usual errors. None: no beat found."""
    return beats(waveform)[0]


@one_process_compiles
def key(waveform: Waveform) -> Key | None:
    """The best of 24 keys by correlation of the mean chroma of the harmonic part with the Krumhansl profiles.

    None for silence and for sound without pitch.
    """
    import librosa

    samples = _mid(waveform)
    if _silent(samples):
        return None
    parts = np.array_split(samples, math.ceil(len(samples) / _KEY_PART_SAMPLES))  # equal parts bound the memory
    strength = np.mean([librosa.feature.chroma_cqt(y=_harmonic(part), sr=_RATE).mean(axis=1) for part in parts], axis=0)
    if strength.std() == 0:
        return None
    scores = {
        Key(tonic, mode): float(np.corrcoef(np.roll(profile, tonic), strength)[0, 1])
        for mode, profile in _PROFILES.items()
        for tonic in range(12)
    }
    return max(scores, key=scores.__getitem__)


def _harmonic(samples: np.ndarray) -> np.ndarray:
    """What sounds steadily in `[S]`: harmonic-percussive separation by medians along time and frequency (Fitzgerald
    2010), as `librosa.effects.harmonic` does it, whose two-dimensional filter takes six times as long."""
    import librosa
    from scipy.ndimage import median_filter

    spectrum = librosa.stft(samples)
    magnitude = np.abs(spectrum)
    steady, sudden = (
        np.stack([median_filter(row, size=31, mode="reflect") for row in rows]) for rows in (magnitude, magnitude.T)
    )
    mask = librosa.util.softmask(steady, sudden.T, power=2, split_zeros=True)
    return librosa.istft(spectrum * mask, dtype=samples.dtype, length=len(samples))


@one_process_compiles
def chroma(waveform: Waveform) -> np.ndarray:
    """Strength of each pitch class, `[12, T]`, 0…1 in each frame, from a constant-Q transform; 43 frames a second.

    A = 440 Hz is taken for granted: a tuning estimated for each file could shift the bins of a decoded copy.
    """
    import librosa

    return librosa.feature.chroma_cqt(y=_mid(waveform), sr=_RATE, hop_length=_HOP, tuning=0.0)


@one_process_compiles
def semitone_bands(waveform: Waveform) -> np.ndarray:
    """log(1 + 100 |CQT|), `[72, T]`: six octaves of semitones from C2; 43 frames a second."""
    import librosa

    lowest = librosa.note_to_hz("C2")
    bands = librosa.cqt(_mid(waveform), sr=_RATE, hop_length=_HOP, fmin=lowest, n_bins=72, tuning=0.0)
    return np.log1p(100 * np.abs(bands))


def correlation(reference: np.ndarray, other: np.ndarray) -> float:
    """Mean over frames of the correlation of two `[bins, T]` features, the mean of each frame removed.

    The longer is cut to the shorter. Frames in which `reference` is flat (silence) do not count; a frame in which only
    `other` is flat counts as 0. NaN when no frame counts.
    """
    frames = min(reference.shape[1], other.shape[1])
    a, b = (x[:, :frames] - x[:, :frames].mean(axis=0) for x in (reference, other))
    powers = (a**2).sum(axis=0), (b**2).sum(axis=0)
    counts = powers[0] > 1e-8
    if not counts.any():
        return float("nan")
    scores = (a * b).sum(axis=0) / np.sqrt(np.maximum(powers[0] * powers[1], 1e-16))
    return float(scores[counts].mean())


def loudness_lufs(waveform: Waveform) -> float:
    """Integrated loudness after ITU-R BS.1770-4; -inf for silence. Raises AudiogenError under 0.4 s, and for more
    channels than the standard weighs, five."""
    import pyloudnorm

    if waveform.seconds < 0.4:  # one block of the standard
        raise AudiogenError(f"loudness needs at least 0.4 s of audio, got {waveform.seconds:.3f} s")
    if waveform.channels > 5:
        raise AudiogenError(
            f"loudness is defined for up to five channels, got {waveform.channels}: mix them down first"
        )
    samples = waveform.samples.detach().double().cpu().numpy().T
    if _silent(samples):
        return float("-inf")
    return float(pyloudnorm.Meter(waveform.sample_rate).integrated_loudness(samples))


def figure(waveform: Waveform, path: str | Path, title: str) -> None:
    """Draw waveform, mel spectrogram and chroma as a PNG at `path`; the heading gives the measured tempo and key."""
    from matplotlib.figure import Figure

    bpm, name = tempo_bpm(waveform), key(waveform)
    drawing = Figure(figsize=(12, 7), dpi=100, layout="constrained")
    axes = drawing.subplots(3, 1, sharex=True, height_ratios=(1, 2, 1))
    measured = f"measured: {f'{bpm:.0f} bpm' if bpm else 'no beat'}, {name or 'no key'}"
    drawing.suptitle(f"{shorten(title, 200)}\n{measured}", wrap=True, parse_math=False)
    _draw_envelope(axes[0], waveform)
    _draw_mel(axes[1], waveform)
    strength = chroma(waveform)
    extent = (0.0, strength.shape[1] * _HOP / _RATE, 0.0, 12.0)
    axes[2].imshow(strength, origin="lower", aspect="auto", cmap="magma", extent=extent)
    axes[2].set_yticks(np.arange(12) + 0.5, PITCH_CLASSES, fontsize=7)
    axes[2].set(ylabel="pitch class", xlabel="seconds", xlim=(0, waveform.seconds))
    with atomic_path(path) as temporary:
        drawing.savefig(temporary, format="png")


def _draw_envelope(axis: Axes, waveform: Waveform) -> None:
    """Lowest and highest sample of each of up to 2,000 columns."""
    samples = _mono(waveform)
    starts = np.unique(np.linspace(0, len(samples) - 1, 2000, dtype=int))
    lowest, highest = np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts)
    axis.fill_between(starts / waveform.sample_rate, lowest, highest, linewidth=0.5)
    axis.set(ylabel="amplitude", ylim=(-1, 1))


def _draw_mel(axis: Axes, waveform: Waveform) -> None:
    """Power in 128 mel bands, up to 80 dB below the loudest."""
    import librosa

    rate, samples = waveform.sample_rate, _mono(waveform, 4096)
    hop = max(_HOP, len(samples) // 2000)
    power = librosa.feature.melspectrogram(y=samples, sr=rate, n_fft=4096, hop_length=hop, n_mels=128)
    decibels = librosa.power_to_db(power, ref=max(float(power.max()), 1e-10))
    extent = (0.0, power.shape[1] * hop / rate, 0.0, 128.0)
    image = axis.imshow(decibels, origin="lower", aspect="auto", cmap="magma", extent=extent)
    centres = librosa.mel_frequencies(n_mels=128, fmax=rate / 2)
    shown = [hz for hz in (100, 300, 1000, 3000, 10_000) if hz < rate / 2]
    axis.set_yticks(np.interp(shown, centres, np.arange(128) + 0.5), [f"{hz:,}" for hz in shown])
    axis.set_ylabel("Hz (mel)")
    axis.figure.colorbar(image, ax=axis, label="dB", pad=0.01)


def _mid(waveform: Waveform) -> np.ndarray:
    """Mono at the measuring rate, `[S]`, padded with silence to the longest window of the constant-Q transform."""
    return _mono(resample(waveform, _RATE), 1 << 16)


def _mono(waveform: Waveform, least_samples: int = 0) -> np.ndarray:
    samples = to_channels(waveform, 1).samples[0].detach().float().cpu().numpy()
    return np.pad(samples, (0, max(0, least_samples - len(samples))))


def _silent(samples: np.ndarray) -> bool:
    return float(np.abs(samples).max(initial=0.0)) < _SILENCE
