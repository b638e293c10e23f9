"""An hour through the codec's streams: equal to the whole, as quick at the end as at the beginning, no growth.

python benchmarks/codec_stream.py --json runs/codec_stream.json
"""

from __future__ import annotations

import resource
import time
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import torch
import typer
from report import CODEC, STARTER, Report, two_cores

from audiogen.audio.io import read
from audiogen.codec.spectral import SpectralCodec
from audiogen.data.manifest import read_manifest, resolve
from audiogen.interfaces import AudiogenError

TIMED_FRAMES = 250


def music(manifest: Path, root: Path, minutes: float) -> torch.Tensor:
    """Test pieces one after another, `[1, 2, S]`."""
    samples, parts = round(minutes * 60 * 48_000), []
    tracks = [track for track in read_manifest(manifest) if track.split == "test"]
    while sum(part.shape[1] for part in parts) < samples:
        parts.append(read(resolve(root, tracks[len(parts) % len(tracks)]), 48_000, 2).samples)
    return torch.cat(parts, 1)[None, :, :samples]


def resident_mib() -> float:
    """Memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def main(
    codec: Annotated[Path, typer.Option(help="codec folder")] = CODEC,
    manifest: Annotated[Path, typer.Option()] = STARTER / "manifest.jsonl",
    root: Annotated[Path, typer.Option()] = STARTER,
    minutes: Annotated[float, typer.Option(min=5.0)] = 60.0,
    json: Annotated[Path | None, typer.Option(help="save the table")] = None,
) -> None:
    """Print the table of streaming."""
    two_cores()
    torch.set_num_threads(2)
    try:
        model = SpectralCodec.load(codec)
        audio = music(manifest, root, minutes)
    except (AudiogenError, FileNotFoundError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    random, hop = np.random.default_rng(0), model.hop_length
    codes = model.encode(audio)
    encoder, parts, start = model.streaming_encoder(), [], 0
    while start < audio.shape[2]:
        length = int(random.integers(1, 60 * hop))
        parts.append(encoder.encode(audio[:, :, start : start + length]))
        start += length
    streamed = torch.cat([*parts, encoder.flush()], 2)
    differing = int((streamed != codes).sum())
    whole = model.decode(codes)
    del audio, parts
    decoder, place, frame, worst = model.streaming_decoder(), 0, 0, 0.0
    times: dict[str, list[float]] = {"first": [], "last": []}
    held = 0.0
    frames = codes.shape[2]
    while frame < frames:
        one_by_one = "first" if frame < TIMED_FRAMES else "last" if frame >= frames - TIMED_FRAMES else ""
        count = 1 if one_by_one else min(int(random.integers(1, 60)), frames - TIMED_FRAMES - frame)
        begin = time.perf_counter()
        part = decoder.decode(codes[:, :, frame : frame + count])
        if one_by_one:
            times[one_by_one].append(time.perf_counter() - begin)
        worst = max(
            worst, float((part - whole[:, :, place : place + part.shape[2]]).abs().max()) if part.numel() else 0.0
        )
        place, frame = place + part.shape[2], frame + count
        if not held and frame > 20 * TIMED_FRAMES:
            held = resident_mib()
    grown = resident_mib() - held
    rest = decoder.flush()
    worst = max(worst, float((rest - whole[:, :, place:]).abs().max()))
    report = Report(f"{minutes:g} minutes through the codec's streams, random chunks against the whole")
    report.add("audio, largest difference, millionths", 1e6 * worst, "", at_most=10.0)
    report.add("codes that differ, in 100,000", 1e5 * differing / codes.numel(), f"{differing} in all", at_most=1.0)
    first, last = (1000 * median(times[name]) for name in ("first", "last"))
    report.add(f"one frame of {1000 * hop / model.sample_rate:g} ms, decoded, ms", last, "at the end", at_most=2.0)
    report.add("the same at the beginning, ms", first)
    report.add("memory grown while decoding, MiB", grown, f"of {held:.0f}", at_most=0.01 * held)
    report.finish(json)


if __name__ == "__main__":
    typer.run(main)
