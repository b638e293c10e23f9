"""The beat of a recording as an even grid: its tempo, where its bars begin, how many beats they have.

A tracker that follows each beat may stumble; a grid has three numbers, and half a minute of music to find them in. The
tempo is the one at which the onsets, folded over a beat, gather in one place most. Where a bar begins is told by
what gathers there in turn: the change of harmony, onsets in the bass, onsets at all (cf. Klapuri et al. 2006, sec. IV).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from audiogen.audio import features
from audiogen.audio.io import resample, to_channels
from audiogen.interfaces import Waveform

LEAST_SECONDS = 4.0
"""of music, for a tempo to be found in it"""

_RATE = 22_050
_WINDOW, _HOP = 512, 128
_BANDS, _BASS_BANDS = 24, 3  # the bass ends near 300 Hz
_ONSET_RATE = _RATE / _HOP
_EARLY_SECONDS = 0.006  # how long before a click its onset peaks, as measured: the window hears it come
_TEMPOS_BPM = (50.0, 200.0)
_USUAL_BPM, _USUAL_OCTAVES = 110.0, 0.7
_BINS = 96  # of a beat
_SHARPNESS_SECONDS = 0.02
_STEADY = 0.75  # correlation of what gathers in the two halves: nearly 1 in music, seldom above 0.7 at random
_LEAST_BEATS = 6
_WEIGHTS = (0.3, 0.5, 1.0)  # onsets, onsets in the bass, change of harmony; tuned on 60 pieces of the starter catalogue
_WALTZ = 1.5  # three beats a bar must explain that much more than four do


@dataclass(frozen=True)
class BeatGrid:
    """Even beats without end. `downbeat_seconds` is the start of one bar, others lie whole bars away."""

    tempo_bpm: float
    downbeat_seconds: float
    beats_per_bar: int

    def beats_seconds(self, start_seconds: float, end_seconds: float) -> np.ndarray:
        """The beats from `start_seconds` on and before `end_seconds`, `[N]`."""
        return self._every(60.0 / self.tempo_bpm, start_seconds, end_seconds)

    def downbeats_seconds(self, start_seconds: float, end_seconds: float) -> np.ndarray:
        """The same of the first beats of bars."""
        return self._every(60.0 / self.tempo_bpm * self.beats_per_bar, start_seconds, end_seconds)

    def _every(self, period: float, start: float, end: float) -> np.ndarray:
        first, last = (int(np.ceil((time - self.downbeat_seconds) / period - 1e-9)) for time in (start, end))
        return self.downbeat_seconds + np.arange(first, last) * period


def beat_grid(
    waveform: Waveform, tempos_bpm: tuple[float, float] | None = None, beats_per_bar: int | None = None
) -> BeatGrid | None:
    """The grid of `waveform`; None for less than four seconds, for silence and where no steady beat is heard.

    Beats have octaves as notes have: of those in `tempos_bpm`, lowest and highest, the clearest is taken; without that,
    of 50 to 200 a minute, those near 110 before others. `beats_per_bar` None chooses between four and three.
    """
    if waveform.seconds < LEAST_SECONDS:
        return None
    every, bass = _onsets(waveform)
    if not every.any():
        return None
    found = _tempo(every, waveform.seconds, tempos_bpm)
    if found is None:
        return None
    period, beat = found
    step = period / 2  # what gathers may as well be the off-beats
    places = beat % step + step * np.arange(int((waveform.seconds - beat % step) / step))
    evidence = _evidence(waveform, every, bass, places, period)
    metre = beats_per_bar
    if metre is None:
        metre = 3 if _explained(evidence, 6) > _WALTZ * _explained(evidence, 8) else 4
    folded = _folded(evidence, 2 * metre)
    return BeatGrid(60.0 / period, float(places[int(folded.argmax())]) + _EARLY_SECONDS, metre)


def _onsets(waveform: Waveform) -> tuple[np.ndarray, np.ndarray]:
    """Rises of level in all bands and in those of the bass, each `[T]` at 172 Hz, the slow average taken off."""
    import torch
    from scipy.ndimage import uniform_filter1d
    from torchaudio.functional import melscale_fbanks

    samples = resample(to_channels(waveform, 1), _RATE).samples[0].float()
    window = torch.hann_window(_WINDOW)
    power = torch.stft(samples, _WINDOW, _HOP, window=window, pad_mode="constant", return_complex=True).abs().square()
    bands = melscale_fbanks(_WINDOW // 2 + 1, 30.0, _RATE / 2, _BANDS, _RATE).T @ power
    level = (1e-12 + 1e-3 * float(bands.mean()) + bands).log().numpy()  # what lies 30 dB below the mean is not heard
    rises = np.pad(np.maximum(level[:, 2:] - level[:, :-2], 0), ((0, 0), (1, 1)))

    def peaks(part: np.ndarray) -> np.ndarray:
        mean = part.mean(0)
        return np.maximum(mean - 1.5 * uniform_filter1d(mean, round(_ONSET_RATE)), 0)

    return peaks(rises), peaks(rises[:_BASS_BANDS])


def _tempo(onsets: np.ndarray, seconds: float, tempos_bpm: tuple[float, float] | None) -> tuple[float, float] | None:
    """Period and the time of a beat in seconds, or None where the two halves do not gather in the same place."""
    lowest, highest = tempos_bpm or _TEMPOS_BPM
    lowest = max(lowest, 60.0 * _LEAST_BEATS / seconds)
    ratio = 1 + _SHARPNESS_SECONDS / 2 / seconds  # neighbours run apart by half of what is sharp
    if highest <= lowest:
        return None
    tempos = lowest * ratio ** np.arange(int(np.log(highest / lowest) / np.log(ratio)) + 1)
    weights = np.zeros(len(tempos))
    if tempos_bpm is None:
        weights = -((np.log2(tempos / _USUAL_BPM) / _USUAL_OCTAVES) ** 2) / 4

    def clearest(tempos: np.ndarray, weights: np.ndarray) -> float:
        peaks = np.array([_profile(onsets, 60.0 / bpm).max() for bpm in tempos])
        return float(tempos[int((np.log(peaks + 1e-12) + weights).argmax())])

    bpm = clearest(tempos, weights)
    finer = bpm * ratio ** np.linspace(-1, 1, 21)
    bpm = clearest(finer, np.zeros(21))
    second = np.arange(len(onsets)) * 2 >= len(onsets)
    halves = [_profile(np.where(part, onsets, 0), 30.0 / bpm) for part in (~second, second)]  # beats and off-beats
    if min(half.std() for half in halves) == 0 or np.corrcoef(halves[0], halves[1])[0, 1] < _STEADY:
        return None
    return 60.0 / bpm, (int(_profile(onsets, 60.0 / bpm).argmax()) + 0.5) / _BINS * 60.0 / bpm


def _profile(onsets: np.ndarray, period: float) -> np.ndarray:
    """Mean onset at each place of a beat, `[96]`, drawn a little together."""
    place = (np.arange(len(onsets)) / _ONSET_RATE / period % 1.0 * _BINS).astype(int)
    sums = np.bincount(place, onsets, _BINS) / np.maximum(np.bincount(place, minlength=_BINS), 1)
    width = _SHARPNESS_SECONDS * _BINS / period
    wave = np.exp(-2 * (np.pi * width * np.fft.rfftfreq(_BINS)) ** 2)  # of a Gaussian
    return np.fft.irfft(np.fft.rfft(sums) * wave, _BINS)


def _evidence(waveform: Waveform, every: np.ndarray, bass: np.ndarray, places: np.ndarray, period: float) -> np.ndarray:
    """How much each of `places` sounds like the start of a bar, `[N]`."""
    near = round(0.03 * _ONSET_RATE)
    at = np.rint(places * _ONSET_RATE).astype(int)
    onsets, low = (
        np.array([part[max(0, i - near) : i + near + 1].max(initial=0.0) for i in at]) for part in (every, bass)
    )
    strength = features.chroma(waveform)
    rate = strength.shape[1] / waveform.seconds if waveform.seconds > 3 else 0.0
    sums = np.cumsum(np.pad(strength / np.maximum(np.linalg.norm(strength, axis=0), 1e-6), ((0, 0), (1, 0))), axis=1)
    edges = [
        np.clip(np.rint((places + shift) * rate).astype(int), 0, strength.shape[1]) for shift in (-period, 0, period)
    ]
    before, after = (sums[:, end] - sums[:, start] for start, end in pairwise(edges))
    norms = np.linalg.norm(before, axis=0) * np.linalg.norm(after, axis=0)
    change = 1 - (before * after).sum(0) / np.maximum(norms, 1e-6)
    parts = (onsets, low, change)
    return sum(w * (p - p.mean()) / (p.std() + 1e-9) for w, p in zip(_WEIGHTS, parts, strict=True))


def _folded(values: np.ndarray, length: int) -> np.ndarray:
    """Mean over every `length`-th value, `[length]`."""
    place = np.arange(len(values)) % length
    return np.bincount(place, values, length) / np.maximum(np.bincount(place, minlength=length), 1)


def _explained(values: np.ndarray, length: int) -> float:
    """Variance of the folded means over that of the rest, each by its degrees of freedom (an F statistic)."""
    left = len(values) - length
    if left < length:
        return 0.0
    rest = values - _folded(values, length)[np.arange(len(values)) % length]
    within = float((rest**2).sum()) / left
    return (float((values**2).sum()) - float((rest**2).sum())) / (length - 1) / max(within, 1e-9)
