"""Encoding and decoding speed, ours against the encodec package's 48 kHz model in the same run.

python benchmarks/codec_speed.py --json runs/codec_speed.json
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
import typer
from report import CODEC, Report, two_cores

from audiogen.codec.spectral import SpectralCodec
from audiogen.interfaces import AudiogenError


def timed(call: Callable[[], object]) -> float:
    """Seconds that `call` takes."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def main(
    codec: Annotated[Path, typer.Option(help="codec folder")] = CODEC,
    seconds: Annotated[float, typer.Option(min=1.0, help="length of the audio")] = 30.0,
    repeats: Annotated[int, typer.Option(min=1)] = 5,
    json: Annotated[Path | None, typer.Option(help="save the table")] = None,
) -> None:
    """Print the table of the codec's speed."""
    two_cores()
    from encodec import EncodecModel

    torch.set_num_threads(2)
    torch.set_grad_enabled(False)
    try:
        ours = SpectralCodec.load(codec)
    except AudiogenError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    theirs = EncodecModel.encodec_model_48khz(pretrained=False).eval()  # speed does not depend on the weights
    theirs.set_target_bandwidth(6.0)
    audio = 0.1 * torch.randn(1, 2, round(seconds * 48_000), generator=torch.Generator().manual_seed(1))
    codes, frames = ours.encode(audio), theirs.encode(audio)  # also the warm-up of encoding
    calls: dict[str, Callable[[], object]] = {
        "decode ours": lambda: ours.decode(codes),
        "decode encodec": lambda: theirs.decode(frames),
        "encode ours": lambda: ours.encode(audio),
        "encode encodec": lambda: theirs.encode(audio),
    }
    calls["decode ours"]()
    calls["decode encodec"]()
    took: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):  # alternating, so that a busy moment hits both
        for name, call in calls.items():
            took[name].append(timed(call))
    speed = {name: seconds / median(times) for name, times in took.items()}
    report = Report(f"Codec speed, {seconds:g} s of 48 kHz stereo, median of {repeats}, times real time")
    for verb, least, ratio in (("decode", 100.0, 6.0), ("encode", 60.0, 4.0)):
        mine, other = speed[f"{verb} ours"], speed[f"{verb} encodec"]
        report.add(f"{verb}, × real time", mine, f"encodec 48 kHz: {other:.1f}", at_least=least, form="{:.1f}")
        report.add(f"{verb}, ours / encodec", mine / other, "1", at_least=ratio, form="{:.1f}")
    report.add("parameters, million", sum(weight.numel() for weight in ours.parameters()) / 1e6, at_most=12.0)
    size = sum(path.stat().st_size for path in codec.iterdir()) / 2**20
    report.add("stored, MiB", size, at_most=16.0)
    report.finish(json)


if __name__ == "__main__":
    typer.run(main)
