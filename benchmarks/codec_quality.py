"""The codec on held-out pieces: ear models, pitch, spectrum, level, key, tempo, use of codes; beside Opus and others.

python benchmarks/codec_quality.py --picture runs/codec_quality.png --json runs/codec_quality.json
"""

from __future__ import annotations

import subprocess
import tempfile
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from report import CODEC, STARTER, Report

from audiogen.audio.features import key, semitone_bands, tempo_bpm
from audiogen.audio.io import read, write
from audiogen.audio.mel import log_mel
from audiogen.codec.quantizer import perplexity
from audiogen.codec.spectral import SpectralCodec
from audiogen.data.manifest import Track, read_manifest, resolve
from audiogen.evaluation.codec_quality import Quality, compare
from audiogen.files import atomic_path
from audiogen.interfaces import AudiogenError, Waveform

SECONDS = 10.0
KEY_SECONDS = 30.0
OPUS_KBPS = (6, 12, 24, 32)


def middle(track: Track, root: Path, seconds: float = SECONDS) -> Waveform:
    """`seconds` from the middle of a piece, 48 kHz stereo."""
    return read(resolve(root, track), 48_000, 2, max(0.0, (track.seconds - seconds) / 2), seconds)


def rate_kbps(codec: SpectralCodec, codebooks: int) -> float:
    """Of codes written in whole bits."""
    return float(codebooks * np.log2(codec.codebook_size) * codec.sample_rate / codec.hop_length / 1000)


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


@cache
def untrained_encodec() -> Any:
    """The 48 kHz model of the encodec package at 6 kbps with random weights."""
    from encodec import EncodecModel

    torch.manual_seed(0)
    model = EncodecModel.encodec_model_48khz(pretrained=False).eval()
    model.set_target_bandwidth(6.0)
    return model


def through_encodec(clip: Waveform) -> Waveform:
    """What the size of that model alone is worth."""
    model = untrained_encodec()
    with torch.inference_mode():
        return Waveform(model(clip.samples[None])[0, :, : clip.samples.shape[1]], clip.sample_rate)


def same_key_and_tempo(
    codec: SpectralCodec, tracks: list[Track], root: Path, codebooks: int
) -> list[tuple[bool, bool]]:
    """Whether key, and tempo within 4 %, are read alike from original and copy of half a minute of each piece."""
    found = []
    for track in tracks:
        clip = middle(track, root, KEY_SECONDS)
        copy = through_codec(codec, clip, codebooks)
        bpm = [tempo_bpm(waveform) or 0.0 for waveform in (clip, copy)]
        found.append((key(clip) == key(copy), abs(bpm[1] - bpm[0]) <= 0.04 * bpm[0]))
    return found


def use_of_codes(codec: SpectralCodec, tracks: list[Track], root: Path) -> list[float]:
    """Perplexity of each codebook over whole pieces, as a share of its size."""
    codes = [codec.encode(read(resolve(root, track), 48_000, 2).samples[None]) for track in tracks]
    return [float(use) / codec.codebook_size for use in perplexity(torch.cat(codes, 2), codec.codebook_size)]


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
        everything = read_manifest(manifest)
        tracks = [track for track in everything if track.split == "test"][:clips]
        held_out = [track for track in everything if track.split != "train"]
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
        others["encodec 48 kHz, random weights"] = mean([compare(clip, through_encodec(clip)) for clip in originals])
        unrelated = pairwise([*originals, originals[0]])
        others["unrelated pieces"] = mean([compare(clip, other) for clip, other in unrelated])
        alike = np.mean(same_key_and_tempo(model, held_out, root, books), axis=0)
        use = use_of_codes(model, held_out, root)
        if picture is not None:
            drawn = {"original": originals[0]}
            for count in (model.num_codebooks, 2 * model.num_codebooks // 3):
                drawn[f"ours, {rate_kbps(model, count):g} kbps"] = through_codec(model, originals[0], count)
            picture.parent.mkdir(parents=True, exist_ok=True)
            draw(picture, {**drawn, "Opus 12 kbps": through_opus(originals[0], 12)[0]})
    except (AudiogenError, FileNotFoundError, subprocess.CalledProcessError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    kbps = rate_kbps(model, books)
    average = mean(ours)
    report = Report(f"Codec on {len(tracks)} held-out pieces, {SECONDS:g} s each, mid channel of 48 kHz stereo")
    opus = others[next(name for name in others if name.startswith("Opus 12"))]
    floor = others["unrelated pieces"]
    beside = [f"Opus 12: {a:.2f}, unrelated: {b:.2f}" for a, b in zip(opus, floor, strict=True)]
    names = ("ViSQOL audio, MOS-LQO", "Zimtohrli, MOS", "chroma correlation", "semitone-band correlation")
    names += ("mel distance, dB", "level difference, dB", "SI-SDR, dB")
    least = (4.0, 3.2, 0.95, 0.86)
    report.add("bit rate, kbps", kbps, at_most=4.0)
    for index, (name, value) in enumerate(zip(names, average, strict=True)):
        report.add(name, value, beside[index], at_least=least[index] if index < len(least) else None)
    count = f"{len(held_out)} pieces, {KEY_SECONDS:g} s"
    for name, share in zip(("key", "tempo"), alike, strict=True):
        report.add(f"{name} read as from the original", float(share), count, at_least=0.95)
    whole = f"perplexity / size, {len(held_out)} whole pieces"
    report.add("use of the least used codebook", min(use), whole, at_least=0.6)
    report.table("Use of codebooks", [str(n + 1) for n in range(len(use))], [[f"{value:.2f}" for value in use]])
    header = ("version", "ViSQOL", "Zimtohrli", "chroma", "semitones", "mel dB", "level dB", "SI-SDR dB")
    rows = {f"ours ({kbps:.1f} kbps)": average, **others}
    report.table("All versions", header, [(name, *(f"{value:.2f}" for value in row)) for name, row in rows.items()])
    named = [(track.path, quality) for track, quality in zip(tracks, ours, strict=True)]
    report.table("Ours, piece by piece", header, [(name, *(f"{value:.2f}" for value in q)) for name, q in named])
    report.finish(json)


if __name__ == "__main__":
    typer.run(main)
