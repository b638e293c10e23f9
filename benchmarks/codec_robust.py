"""The codec on what it was not trained for: other levels and balances, sounds that are no music, band-limited input.

python benchmarks/codec_robust.py --json runs/codec_robust.json
"""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from codec_quality import middle, through_codec
from report import CODEC, STARTER, Report

from audiogen.audio.features import loudness_lufs
from audiogen.audio.io import read, resample, write
from audiogen.audio.mel import log_mel
from audiogen.codec.spectral import SpectralCodec
from audiogen.data.manifest import read_manifest
from audiogen.data.sounds import clicks, noise, speech, tones
from audiogen.generation.reshape import upsample
from audiogen.interfaces import AudiogenError, Waveform

RATE = 48_000
SOUNDS_EACH = 12
LOW_RATES = (8_000, 16_000)
_WINDOW = 2048


def materials(clips: list[Waveform]) -> dict[str, list[Waveform]]:
    """By name; the sounds are of seeds that no training draws."""
    made: dict[str, list[Waveform]] = {"music as it is": clips}
    made["music, 20 dB softer"] = [Waveform(clip.samples * 0.1, RATE) for clip in clips]
    made["music, mono"] = [Waveform(clip.samples.mean(0).expand(2, -1), RATE) for clip in clips]
    made["music, left only"] = [Waveform(clip.samples * torch.tensor([[1.0], [0.0]]), RATE) for clip in clips]
    made["music, 35 cents higher"] = [
        Waveform(resample(Waveform(clip.samples, 49_000), RATE).samples, RATE) for clip in clips
    ]
    for kind in (tones, noise, clicks, speech):
        sounds = []
        for seed in range(SOUNDS_EACH):
            audio = kind(np.random.default_rng([2**40, seed]), 4 * RATE, RATE)
            samples = torch.from_numpy(0.3 * audio / np.abs(audio).max()).float()
            sounds.append(Waveform(samples.expand(2, -1), RATE))
        made[kind.__name__] = sounds
    return made


def alike(clip: Waveform, copy: Waveform) -> float:
    """Correlation of two mel spectra over time and bands, 60 dB deep: 1 for the same sound."""
    a, b = log_mel(clip), log_mel(copy)
    floor = float(a.max()) - 60
    return float(np.corrcoef(a.clamp_min(floor).flatten(), b.clamp_min(floor).flatten())[0, 1])


def log_spectral_distance(clip: Waveform, copy: Waveform, above_hz: float) -> float:
    """Root mean square over frequency, mean over frames, in dB from `above_hz` to 20 kHz (Gray and Markel 1976); what
    lies 80 dB below the clip's loudest bin counts as silence."""
    window = torch.hann_window(_WINDOW)
    powers = [
        torch.stft(w.samples.mean(0), _WINDOW, _WINDOW // 4, window=window, return_complex=True).abs().square()
        for w in (clip, copy)
    ]
    frames = min(power.shape[1] for power in powers)
    low, high = int(above_hz * _WINDOW / RATE), int(20_000 * _WINDOW / RATE)
    floor = 1e-8 * float(powers[0].max())
    a, b = (10 * power[low:high, :frames].clamp_min(floor).log10() for power in powers)
    return float((a - b).square().mean(0).sqrt().mean())


def restored(clips: list[Waveform], codec: Path, rate: int) -> tuple[float, float]:
    """Distance above the cut-off, ours and of resampling alone, mean over clips."""
    ours, alone = [], []
    with tempfile.TemporaryDirectory() as folder:
        for index, clip in enumerate(clips):
            low, high = Path(folder) / f"{index}.wav", Path(folder) / f"{index}.up.wav"
            write(low, resample(clip, rate), "FLOAT")
            cut_hz = upsample(low, high, codec, lambda done, total: None)
            ours.append(log_spectral_distance(clip, read(high), cut_hz))
            alone.append(log_spectral_distance(clip, read(low, RATE, 2), cut_hz))
    return float(np.mean(ours)), float(np.mean(alone))


def main(
    codec: Annotated[Path, typer.Option(help="codec folder")] = CODEC,
    manifest: Annotated[Path, typer.Option()] = STARTER / "manifest.jsonl",
    root: Annotated[Path, typer.Option()] = STARTER,
    json: Annotated[Path | None, typer.Option(help="save the table")] = None,
) -> None:
    """Print the table of robustness and restoration."""
    try:
        model = SpectralCodec.load(codec)
        clips = [middle(track, root) for track in read_manifest(manifest) if track.split == "test"]
    except (AudiogenError, FileNotFoundError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    report = Report("The codec on other material, all codebooks")
    rows, off = [], []
    for name, sounds in materials(clips).items():
        copies = [through_codec(model, sound, model.num_codebooks) for sound in sounds]
        away = [loudness_lufs(copy) - loudness_lufs(sound) for sound, copy in zip(sounds, copies, strict=True)]
        likeness = [alike(sound, copy) for sound, copy in zip(sounds, copies, strict=True)]
        others = [alike(a, b) for a, b in pairwise([*sounds, sounds[0]])]
        off += away
        shown = (np.mean(likeness), np.mean(others), np.median(away), np.max(np.abs(away)))
        rows.append((name, str(len(sounds)), *(f"{value:.2f}" for value in shown)))
    report.add("loudness within 1 LU, share of clips", np.mean(np.abs(off) <= 1), f"{len(off)} clips", at_least=1.0)
    report.add("loudness, median difference, LU", np.median(np.abs(off)))
    for rate in LOW_RATES:
        ours, alone = restored(clips, codec, rate)
        report.add(f"upsample from {rate // 1000} kHz, LSD above the cut, dB", ours, f"resampling alone: {alone:.2f}")
    header = ("material", "clips", "alike", "unrelated", "LU, median", "LU, worst")
    report.table("By material: correlation of mel spectra, change of loudness", header, rows)
    report.finish(json)


if __name__ == "__main__":
    typer.run(main)
