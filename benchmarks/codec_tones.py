"""Tones and chords from C1 to C8 through the codec: is the pitch the same, and does it stand still?

python benchmarks/codec_tones.py --json runs/codec_tones.json
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
import typer
from codec_quality import through_codec, through_opus
from report import CODEC, Report

from audiogen.codec.spectral import SpectralCodec
from audiogen.interfaces import AudiogenError, Waveform

RATE, SECONDS = 48_000, 4.0
C1_HZ = 32.703
LOST_CENTS = 100.0


class Case(NamedTuple):
    """One signal and the frequencies of its notes over time, each `[S]`."""

    kind: str
    samples: np.ndarray
    notes_hz: list[np.ndarray]


def cases() -> list[Case]:
    """Single tones (plain and with partials), chords of two and four notes, glides; in no tuning, from C1 to C8."""
    random = np.random.default_rng(0)
    made = []
    for root in np.arange(0.0, 84.1, 4.0):
        start = root + random.uniform(-0.5, 0.5) * (0 < root < 84)
        made.append(_case("single tone, sine", [np.array([start])], 1))
        made.append(_case("single tone, with partials", [np.array([start])], 12))
        if start <= 77:
            made.append(_case("two notes", [np.array([start]), np.array([start + 7])], 4))
        if start <= 70:
            made.append(_case("four notes", [np.array([start + step]) for step in (0, 4, 7, 12)], 4))
        if 4 <= start <= 72:
            made.append(_case("glide", [np.array([start, start + random.choice([-4, 4, 7, 12])])], 4))
    return made


def _case(kind: str, notes: list[np.ndarray], partials: int) -> Case:
    time = np.arange(round(SECONDS * RATE)) / RATE
    audio, frequencies = np.zeros(len(time)), []
    for place, semitones in enumerate(notes):
        hz = C1_HZ * 2 ** (np.interp(time, np.linspace(0, SECONDS, len(semitones)), semitones) / 12)
        turns = 2 * np.pi * np.cumsum(hz) / RATE
        for partial in range(1, partials + 1):
            if partial * hz.max() < 18_000:
                audio += np.sin(partial * turns + place + partial) / partial
        frequencies.append(hz)
    ends = np.minimum(1, np.minimum(time, SECONDS - time) / 0.02)
    return Case(kind, 0.25 * audio * ends / np.abs(audio).max(), frequencies)


def judge(case: Case, copy: np.ndarray) -> tuple[float, float]:
    """The worst note's distance in cents (median over time), and in dB how much its level moves that did not before.

    Each note is brought down to 0 Hz along its known path and low-passed to half a semitone, at least 3 Hz: what is
    left turns by the error in pitch and has the note's level as its size.
    """
    inner = slice(round(0.5 * RATE), round((SECONDS - 0.5) * RATE))
    cents, movement = [], []
    for hz in case.notes_hz:
        down = np.exp(-2j * np.pi * np.cumsum(hz) / RATE)
        width = max(3.0, 0.03 * float(hz.min()))
        before, after = (_lowpassed(audio * down, width)[inner][:: RATE // 200] for audio in (case.samples, copy))
        if np.abs(after).mean() < 0.03 * np.abs(before).mean():
            return LOST_CENTS, 99.0
        turned = np.angle((after[20:] * after[:-20].conj()) * (before[20:] * before[:-20].conj()).conj())  # in 0.1 s
        off_hz = np.median(turned) / (2 * np.pi * 0.1)
        cents.append(abs(1200 * np.log2(1 + off_hz / float(np.median(hz)))))
        level = 20 * np.log10((np.abs(after) + 1e-9) / (np.abs(before) + 1e-9))
        movement.append(float(np.quantile(level, 0.95) - np.quantile(level, 0.05)))
    return max(cents), max(movement)


def _lowpassed(signal: np.ndarray, width_hz: float) -> np.ndarray:
    spectrum = np.fft.fft(signal)
    hz = np.abs(np.fft.fftfreq(len(signal), 1 / RATE))
    return np.fft.ifft(spectrum * np.exp(-0.5 * (hz / width_hz) ** 2))


def main(
    codec: Annotated[Path, typer.Option(help="codec folder")] = CODEC,
    opus: Annotated[bool, typer.Option(help="also Opus at 12 kbps; needs ffmpeg")] = True,
    json: Annotated[Path | None, typer.Option(help="save the table")] = None,
) -> None:
    """Print the table of tones."""
    try:
        model = SpectralCodec.load(codec)
    except AudiogenError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    everything = cases()
    versions: dict[str, Callable[[Waveform], Waveform]] = {
        "ours": lambda clip: through_codec(model, clip, model.num_codebooks)
    }
    if opus:
        versions["Opus 12 kbps"] = lambda clip: through_opus(clip, 12)[0]
    judged: dict[str, np.ndarray] = {}
    for name, through in versions.items():
        clips = (Waveform(torch.from_numpy(np.stack([c.samples] * 2)).float(), RATE) for c in everything)
        copies = (through(clip).samples[0].double().numpy()[: len(everything[0].samples)] for clip in clips)
        judged[name] = np.array([judge(case, copy) for case, copy in zip(everything, copies, strict=True)])
    cents, movement = judged["ours"].T
    beside = judged.get("Opus 12 kbps", np.full((1, 2), np.nan)).T
    report = Report(f"{len(everything)} tones, chords and glides of {SECONDS:g} s from C1 to C8")
    for limit, least in ((10.0, 0.9), (3.0, None)):
        share = f"Opus 12: {np.mean(beside[0] <= limit):.2f}"
        report.add(f"at most {limit:g} cents off, share", np.mean(cents <= limit), share, at_least=least)
    for limit, least in ((2.0, 0.85), (1.0, None)):
        share = f"Opus 12: {np.mean(beside[1] <= limit):.2f}"
        report.add(f"level moves by at most {limit:g} dB, share", np.mean(movement <= limit), share, at_least=least)
    rows = []
    for kind in dict.fromkeys(case.kind for case in everything):
        those = [index for index, case in enumerate(everything) if case.kind == kind]
        figures = (np.median(cents[those]), np.mean(cents[those] <= 10), np.median(movement[those]))
        rows.append((kind, str(len(those)), *(f"{value:.2f}" for value in (*figures, np.mean(movement[those] <= 2)))))
    report.table("By kind", ("kind", "count", "cents, median", "≤ 10 cents", "dB, median", "≤ 2 dB"), rows)
    report.finish(json)


if __name__ == "__main__":
    typer.run(main)
