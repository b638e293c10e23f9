"""How near a decoded recording is to its original: perceived quality, pitch, spectrum, level."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from audiogen.audio.features import chroma, correlation, semitone_bands
from audiogen.audio.io import resample, to_channels
from audiogen.audio.mel import mel_distance_db
from audiogen.interfaces import AudiogenError, Waveform

if TYPE_CHECKING:
    import numpy as np
    from visqol import VisqolApi

_VISQOL_RATE = 48_000


class Quality(NamedTuple):
    """One decoded recording against its original, on the mid channel.

    `visqol` is MOS-LQO 1…5; `zimtohrli` a MOS 1…5; `chroma` and `semitones` are mean frame-wise correlations (see
    `audiogen.audio.features.correlation`); `mel_db` a mean distance; `level_db` the change of the RMS level;
    `si_sdr_db` compares waveforms, so a codec that does not code phase has none to show.
    """

    visqol: float
    zimtohrli: float
    chroma: float
    semitones: float
    mel_db: float
    level_db: float
    si_sdr_db: float


def compare(reference: Waveform, decoded: Waveform) -> Quality:
    """Measure `decoded` against `reference`; both start at the same moment. Raises AudiogenError for silence."""
    return Quality(
        visqol_audio(reference, decoded),
        zimtohrli_mos(reference, decoded),
        correlation(chroma(reference), chroma(decoded)),
        correlation(semitone_bands(reference), semitone_bands(decoded)),
        mel_distance_db(reference, decoded),
        level_difference_db(reference, decoded),
        si_sdr_db(reference, decoded),
    )


def visqol_audio(reference: Waveform, decoded: Waveform) -> float:
    """ViSQOL v3 in audio mode (Chinen et al. 2020) on the mid channel at 48 kHz: MOS-LQO, 1…5.

    Raises AudiogenError when the package visqol-python is missing.
    """
    result = _visqol().measure_from_arrays(_mid(reference), _mid(decoded), _VISQOL_RATE)
    return float(result.moslqo)


def zimtohrli_mos(reference: Waveform, decoded: Waveform) -> float:
    """Zimtohrli's mean opinion score (Alakuijala et al. 2025) on the mid channel at 48 kHz, 1…5.

    Raises AudiogenError when the package zimtohrli is missing.
    """
    try:
        import zimtohrli
    except ImportError:
        raise AudiogenError('Zimtohrli is not installed; add it with: pip install "audiogen[bench]"') from None
    return float(zimtohrli.mos_from_signals(_mid(reference).astype("float32"), _mid(decoded).astype("float32")))


def si_sdr_db(reference: Waveform, decoded: Waveform) -> float:
    """Scale-invariant signal-to-distortion ratio (Le Roux et al. 2019, eq. 5) of the mid channel."""
    import numpy as np

    wanted, got = _mid(reference), _mid(decoded)
    length = min(len(wanted), len(got))
    wanted, got = wanted[:length], got[:length]
    target = wanted * (float(wanted @ got) / max(float(wanted @ wanted), 1e-12))
    return 10 * float(np.log10(max(float(target @ target), 1e-12) / max(float((got - target) @ (got - target)), 1e-12)))


def level_difference_db(reference: Waveform, decoded: Waveform) -> float:
    """RMS level of the mid channel of `decoded` less that of `reference`. Raises AudiogenError if either is silent."""
    import numpy as np

    powers = [float(np.mean(_mid(waveform) ** 2)) for waveform in (reference, decoded)]
    if min(powers) < 1e-10:
        raise AudiogenError("a level difference needs sound on both sides, and one recording is silent")
    return 10 * float(np.log10(powers[1] / powers[0]))


def _mid(waveform: Waveform) -> np.ndarray:
    return resample(to_channels(waveform, 1), _VISQOL_RATE).samples[0].double().numpy()


@cache
def _visqol() -> VisqolApi:
    try:
        from visqol import VisqolApi
    except ImportError:
        raise AudiogenError('ViSQOL is not installed; add it with: pip install "audiogen[bench]"') from None
    api = VisqolApi()
    api.create(mode="audio")
    return api
