"""The codec on held-out pieces: ViSQOL, pitch, spectrum and level, beside Opus and unrelated pieces.

python benchmarks/codec_quality.py --picture runs/codec_quality.png --json runs/codec_quality.json
"""

from __future__ import annotations

import subprocess
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from report import CODEC, STARTER, Report

from audiogen.audio.features import semitone_bands
from audiogen.audio.io import read, write
from audiogen.codec.spectral import SpectralCodec
from audiogen.data.manifest import Track, read_manifest, resolve
from audiogen.evaluation.codec_quality import Quality, compare
from audiogen.evaluation.mel import log_mel
from audiogen.files import atomic_path
from audiogen.interfaces import AudiogenError, Waveform

SECONDS = 10.0
OPUS_KBPS = (6, 12, 24)


def middle(track: Track, root: Path) -> Waveform:
    """Ten seconds from the middle of a piece, 48 kHz stereo."""
    return read(resolve(root, track), 48_000, 2, max(0.0, (track.seconds - SECONDS) / 2), SECONDS)


def through_codec(codec: SpectralCodec, clip: Waveform, codebooks: int) -> Waveform:
    """Coded and decoded by the first `codebooks`, cut to the length of the clip."""
    codes = codec.encode(clip.samples[None])[:, :codebooks]
    return Waveform(codec.decode(codes)[0, :, : clip.samples.shape[1]], clip.sample_rate)


def through_opus(clip: Waveform, kbps: int) -> tuple[Waveform, float]:
    """Stereo through libopus (the decoder drops the encoder's delay), and the bit rate that the file came to."""
    with tempfile.TemporaryDirectory() as folder:
        source, coded, decoded = (f"{folder}/{name}" for name in ("in.wav", "coded.opus", "out.wav"))
        write(source, clip)
        quiet = ["ffmpeg", "-nostdin", "-v", "error", "-i"]
        subprocess.run([*quiet, source, "-c:a", "libopus", "-b:a", f"{kbps}k", coded], check=True)
        subprocess.run([*quiet, coded, "-ar", "48000", "-ac", "2", decoded], check=True)
        result = read(decoded)
        size = Path(coded).stat().st_size
    length = clip.samples.shape[1]
    samples = torch.nn.functional.pad(result.samples, (0, max(0, length - result.samples.shape[1])))[:, :length]
    return Waveform(samples, clip.sample_rate), size * 8 / clip.seconds / 1000


def mean(qualities: list[Quality]) -> Quality:
    """Figure by figure."""
    return Quality(*(float(np.mean(values)) for values in zip(*qualities, strict=True)))


def draw(path: Path, columns: dict[str, Waveform]) -> None:
    """Semitone bands above, mel bands below, one column a version."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(5 * len(columns), 7), dpi=100, layout="constrained")
    axes = drawing.subplots(2, len(columns), sharex="col", squeeze=False)
    loudest = max(float(log_mel(clip).max()) for clip in columns.values())
    for index, (name, clip) in enumerate(columns.items()):
        shared = {"origin": "lower", "aspect": "auto", "cmap": "magma"}
        bands, mel = semitone_bands(clip), log_mel(clip).numpy()
        axes[0, index].imshow(bands, extent=(0, clip.seconds, 0, len(bands)), vmin=0, vmax=6, **shared)
        extent = (0, clip.seconds, 0, len(mel))
        axes[1, index].imshow(mel, extent=extent, vmin=loudest - 70, vmax=loudest, **shared)
        axes[0, index].set(title=name)
        axes[1, index].set(xlabel="seconds")
    axes[0, 0].set(ylabel="semitones above C2")
    axes[1, 0].set(ylabel="mel band, 40 Hz to 12 kHz")
    with atomic_path(path) as temporary:
        drawing.savefig(temporary, format="png")


def main(
    codec: Annotated[Path, typer.Option(help="codec folder")] = CODEC,
    manifest: Annotated[Path, typer.Option()] = STARTER / "manifest.jsonl",
    root: Annotated[Path, typer.Option()] = STARTER,
    clips: Annotated[int, typer.Option(min=2, help="test pieces, one clip each")] = 10,
    codebooks: Annotated[int | None, typer.Option(min=1, help="fewer than the codec has")] = None,
    picture: Annotated[Path | None, typer.Option(help="PNG of the first clip: original, ours, Opus 12")] = None,
    json: Annotated[Path | None, typer.Option(help="save the table")] = None,
) -> None:
    """Print the table of the codec's quality."""
    try:
        model = SpectralCodec.load(codec)
        tracks = [track for track in read_manifest(manifest) if track.split == "test"][:clips]
        if len(tracks) < 2:
            raise AudiogenError(f"{manifest}: needs at least two test pieces, has {len(tracks)}")
        originals = [middle(track, root) for track in tracks]
        books = min(codebooks or model.num_codebooks, model.num_codebooks)
        decoded = [through_codec(model, clip, books) for clip in originals]
        ours = [compare(clip, copy) for clip, copy in zip(originals, decoded, strict=True)]
        others: dict[str, Quality] = {}
        for kbps in OPUS_KBPS:
            coded = [through_opus(clip, kbps) for clip in originals]
            rate = float(np.mean([actual for _, actual in coded]))
            name = f"Opus {kbps} ({rate:.1f} kbps)"
            others[name] = mean([compare(clip, copy) for clip, (copy, _) in zip(originals, coded, strict=True)])
        unrelated = pairwise([*originals, originals[0]])
        others["unrelated pieces"] = mean([compare(clip, other) for clip, other in unrelated])
        if picture is not None:
            first = {"original": originals[0], f"ours, {books} codebooks": decoded[0]}
            picture.parent.mkdir(parents=True, exist_ok=True)
            draw(picture, {**first, "Opus 12 kbps": through_opus(originals[0], 12)[0]})
    except (AudiogenError, FileNotFoundError, subprocess.CalledProcessError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    kbps = books * np.log2(model.codebook_size) * model.sample_rate / model.hop_length / 1000
    average = mean(ours)
    report = Report(f"Codec on {len(tracks)} held-out pieces, {SECONDS:g} s each, mid channel of 48 kHz stereo")
    opus = others[next(name for name in others if name.startswith("Opus 12"))]
    floor = others["unrelated pieces"]
    beside = [f"Opus 12: {a:.2f}, unrelated: {b:.2f}" for a, b in zip(opus, floor, strict=True)]
    report.add("bit rate, kbps", float(kbps), at_most=4.0)
    report.add("ViSQOL audio, MOS-LQO", average.visqol, beside[0], at_least=3.3)
    report.add("chroma correlation", average.chroma, beside[1], at_least=0.90)
    report.add("semitone-band correlation", average.semitones, beside[2], at_least=0.80)
    report.add("mel distance, dB", average.mel_db, beside[3])
    report.add("level difference, dB", average.level_db, beside[4])
    header = ("version", "ViSQOL", "chroma", "semitones", "mel dB", "level dB")
    rows = {f"ours ({kbps:.1f} kbps)": average, **others}
    report.table("All versions", header, [(name, *(f"{value:.2f}" for value in row)) for name, row in rows.items()])
    named = [(track.path, quality) for track, quality in zip(tracks, ours, strict=True)]
    report.table("Ours, piece by piece", header, [(name, *(f"{value:.2f}" for value in q)) for name, q in named])
    report.finish(json)


if __name__ == "__main__":
    typer.run(main)
