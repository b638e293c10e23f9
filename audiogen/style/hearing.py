"""What the tagger hears of a recording: levels in mel bands and in semitones, a byte each.

A recording of any length is heard in blocks, so an hour needs 15 MB. Frames do not depend on where the blocks end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audiogen.audio.io import read, read_header, resample, to_channels
from audiogen.audio.mel import log_mel
from audiogen.audio.semitones import semitone_levels
from audiogen.interfaces import AudiogenError, Waveform

BANDS = 64
MEL_RATE, SEMITONE_RATE = 50.0, 12.5  # frames a second
MEL_A_FRAME = 4  # mel frames in each frame of semitones
LEAST_SECONDS = 3.0
VERSION = 1  # changes whenever the bytes would

STEP_DB, LOWEST_DB = 0.5, -120.0  # of the bytes
_RATE = 48_000
_FRAME = _RATE * MEL_A_FRAME // 50  # samples
_MEL_MARGIN = (4096 - 960) // 2  # puts the middle of a mel window on the middle of its hop
_MARGIN_SECONDS, _BLOCK_SECONDS = 0.8, 60.0
_SILENCE_DB = -85.0  # mean power of the loudest frame

Part = Callable[[float, float], Waveform]
"""(start, seconds) → that part of a recording, less at its end"""


@dataclass(frozen=True)
class Heard:
    """Levels in dB as bytes, `dB = -120 + 0.5 · byte`: `mel` uint8 `[64, 4 T]`, `semitones` uint8 `[84, T]`."""

    mel: np.ndarray
    semitones: np.ndarray

    @property
    def frames(self) -> int:
        """Frames of semitones, 12.5 a second; a quarter of the frames of mel bands."""
        return self.semitones.shape[1]

    @property
    def seconds(self) -> float:
        return self.frames / SEMITONE_RATE

    def loudest_db(self) -> float:
        """Power that a twentieth of the mel frames exceed: what levels are told against."""
        powers = (10 ** (decibels(self.mel) / 10)).sum(0)
        return float(10 * np.log10(np.percentile(powers, 95) + 1e-13))

    def cut(self, start: int, frames: int) -> Heard:
        """`frames` from the frame `start` on."""
        mel = self.mel[:, MEL_A_FRAME * start : MEL_A_FRAME * (start + frames)]
        return Heard(mel, self.semitones[:, start : start + frames])


def decibels(levels: np.ndarray) -> np.ndarray:
    """Bytes of a `Heard` → dB, float32."""
    return levels.astype(np.float32) * np.float32(STEP_DB) + np.float32(LOWEST_DB)


def hear(waveform: Waveform) -> Heard:
    """Listen to a waveform as a whole. Raises AudiogenError for less than 0.5 s."""
    mono = resample(to_channels(waveform, 1), _RATE)
    frames = mono.samples.shape[1] // _FRAME
    return Heard(_bytes(_mel(mono, frames)), _bytes(semitone_levels(mono).numpy()[:, :frames]))


def hear_parts(
    part: Part, seconds: float, source: str, progress: Callable[[float, float], None] | None = None
) -> Heard:
    """Listen to a recording block by block; `source` names it in errors.

    Raises AudiogenError for less than 3 s and for silence.
    """
    if seconds < LEAST_SECONDS:
        raise AudiogenError(f"{source}: lasts {seconds:.2f} s; give at least {LEAST_SECONDS:g} s of sound")
    blocks, begin = [], 0.0
    while seconds - begin >= 1 / SEMITONE_RATE:
        lead = min(_MARGIN_SECONDS, begin)
        heard = hear(part(begin - lead, lead + _BLOCK_SECONDS + _MARGIN_SECONDS))
        blocks.append(heard.cut(round(lead * SEMITONE_RATE), round(_BLOCK_SECONDS * SEMITONE_RATE)))
        begin += _BLOCK_SECONDS
        if progress is not None:
            progress(min(begin, seconds), seconds)
    whole = Heard(*(np.concatenate([getattr(block, name) for block in blocks], 1) for name in ("mel", "semitones")))
    if whole.loudest_db() < _SILENCE_DB:
        raise AudiogenError(f"{source}: holds no sound, or nothing above {_SILENCE_DB:g} dB; give another recording")
    return whole


def hear_file(path: str | Path, progress: Callable[[float, float], None] | None = None) -> Heard:
    """`hear_parts` of a file. Raises AudiogenError as `read` does."""
    header = read_header(path)

    def part(start: float, seconds: float) -> Waveform:
        return read(path, start_seconds=start, seconds=seconds)

    return hear_parts(part, header.samples / header.sample_rate, str(path), progress)


def _mel(mono: Waveform, frames: int) -> np.ndarray:
    from torch.nn import functional as F

    samples = mono.samples[None]
    padded = F.pad(samples, (_MEL_MARGIN, _MEL_MARGIN), mode="reflect")[0]
    return log_mel(Waveform(padded, _RATE)).numpy()[:, : MEL_A_FRAME * frames]


def _bytes(levels: np.ndarray) -> np.ndarray:
    return np.clip(np.round((levels - LOWEST_DB) / STEP_DB), 0, 255).astype(np.uint8)
