"""What int8 costs in quality: cross-entropy of held-out pieces with the engine's arithmetic beside float32, and what
the tagger hears in clips played in both.

python benchmarks/int8_quality.py --json runs/int8_quality.json
"""

from __future__ import annotations

import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import torch
import typer
from report import CODEC, ROOT, STARTER, Report, two_cores

from audiogen import Generator
from audiogen.data.codes import PreparedCodes
from audiogen.data.manifest import read_manifest
from audiogen.evaluation.likelihood import foreseen, nats
from audiogen.evaluation.prompts import quick, shipped_prompts
from audiogen.evaluation.summary import summarise
from audiogen.evaluation.systems import System, measure_system, render_system
from audiogen.lm.engine import EagerEngine, Engine, make_engine
from audiogen.lm.model import MusicLM

MINI = ROOT / "audiogen" / "models" / "mini" / "lm"


def main(
    pieces: Annotated[int, typer.Option(help="of the validation split")] = 20,
    frames: Annotated[int, typer.Option(help="of each")] = 750,
    codes: Annotated[Path, typer.Option(help="prepared codes")] = ROOT / "data" / "codes",
    prompts: Annotated[int, typer.Option(help="that are played in both")] = 40,
    json: Annotated[Path | None, typer.Option(help="save the table")] = None,
) -> None:
    """Print the table."""
    two_cores()
    tracks = [t for t in read_manifest(STARTER / "manifest.jsonl") if t.split == "validation"][:pieces]
    prepared = PreparedCodes(codes, tracks, CODEC)
    model = MusicLM.load(MINI)
    engines: dict[str, Engine] = {
        "float32": EagerEngine(MusicLM.load(MINI)),
        "bfloat16": make_engine(MusicLM.load(MINI), "bfloat16"),
        "int8": make_engine(MusicLM.load(MINI), "int8"),
    }
    found = {
        name: torch.stack(
            [nats(*foreseen(engine, model, track, prepared[i], frames)) for i, track in enumerate(tracks)]
        ).mean(0)
        for name, engine in engines.items()
    }
    report = Report(f"Cross-entropy, {len(tracks)} validation pieces, {frames} frames each")
    exact = float(found["float32"].sum())
    for name, each in found.items():
        bits = float(each.sum()) * model.config.frame_rate / math.log(2)
        report.add(
            f"{name}: bits a second", bits, f"first codebook {each[0]:.3f} nats, last {each[-1]:.3f}", form="{:.1f}"
        )
        if name != "float32":
            report.add("— worse by, %", 100 * (float(each.sum()) / exact - 1), "", at_most=1.0, form="{:.3f}")
    obeyed(report, prompts)
    report.finish(json)


def obeyed(report: Report, count: int) -> None:
    """Tempo, key and style of the same prompts and seeds, played in int8 and in float32."""
    wanted = quick(shipped_prompts(), count)
    told = {}
    for precision in ("int8", "float32"):
        generator = Generator.from_pretrained("mini", precision, device="cpu")
        with TemporaryDirectory() as name:
            folder = Path(name) / "clips"
            problems = render_system(generator, wanted, 1, folder, "told", lambda done, total: None)
            system = System(precision, folder, 1)
            clips = measure_system(system, wanted, problems, Path(name) / "kept", 0, lambda done, total: None)
            told[precision] = summarise(clips, folder, None)["marks"]
    for mark in ("tempo_octave", "key", "style"):
        ours, exact = (told[precision][mark] for precision in ("int8", "float32"))
        reference = f"float32 {exact['value']:.2f} ({exact['low']:.2f} to {exact['high']:.2f})"
        report.add(f"int8: {mark} met, {count} prompts", ours["value"], reference, at_least=exact["low"])


if __name__ == "__main__":
    typer.run(main)
