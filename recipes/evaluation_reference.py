"""Measure held-out pieces as `audiogen evaluate` measures clips: the ceiling beside its figures.

    python recipes/evaluation_reference.py -o audiogen/evaluation/reference

Two excerpts of 30 s and the whole of each piece that is not trained on, as rendered and through the codec of mini
with as many codebooks as its language model writes. About a quarter of an hour on two cores; resumed by the same
command.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress as Bars

from audiogen.audio.io import read, write
from audiogen.data.manifest import Track, read_manifest, resolve
from audiogen.evaluation.clips import asked_of
from audiogen.evaluation.prompts import EvaluationPrompt
from audiogen.evaluation.reference import Reference, excerpt
from audiogen.evaluation.summary import summarise
from audiogen.evaluation.systems import Clip, System, measure_system
from audiogen.files import write_json
from audiogen.generation.generator import Generator
from audiogen.interfaces import Waveform
from audiogen.style.plan_file import score_to_json
from audiogen.style.tagger import shipped_tagger
from audiogen.training.progress import run_command

SECONDS = 30.0
MIDDLES = (0.3, 0.7)


def pieces(tracks: Sequence[Track]) -> list[tuple[EvaluationPrompt, Track, float]]:
    """What is measured: (as a prompt, track, start in seconds)."""
    found = []
    for track in tracks:
        places = [(max(0.0, middle * track.seconds - SECONDS / 2), SECONDS, "excerpt") for middle in MIDDLES]
        for number, (start, seconds, kind) in enumerate([*places, (0.0, track.seconds, "whole")]):
            if kind == "excerpt" and track.seconds < SECONDS:
                continue
            told = {"id": f"{track.sha256[:12]}-{number}", "kind": kind, "prompt": "held-out", "seconds": seconds}
            asked = asked_of(track.attributes())
            found.append((EvaluationPrompt(**told, asked=asked), track, start))  # type: ignore[arg-type]
    return found


def cut(
    chosen: Sequence[tuple[EvaluationPrompt, Track, float]], root: str, folder: Path, generator: Generator | None
) -> None:
    """Write what is missing in `folder`, through the codec of `generator` if one is given."""
    folder.mkdir(parents=True, exist_ok=True)
    for prompt, track, start in chosen:
        path = folder / prompt.file(1)
        if path.exists():
            continue
        sound = read(resolve(root, track), start_seconds=start, seconds=prompt.seconds)
        if generator is not None:
            codes = generator.model.codec.encode(sound.samples[None])[:, : generator.model.lm.config.num_codebooks]
            with torch.inference_mode():
                decoded = generator.model.codec.decode(codes)[0, :, : sound.samples.shape[1]]
            sound = Waveform(decoded, sound.sample_rate)
        plan = score_to_json(excerpt(track.score(), start, prompt.seconds), track.attributes())
        write_json(path.with_suffix(".json"), {"generated_by": "audiogen", "plan": plan})
        write(path, sound)


def main(manifest: str, root: str, work: Path, output: Path, jobs: int) -> None:
    """Cut, measure, sum up, with progress."""
    chosen = pieces([track for track in read_manifest(manifest) if track.split != "train"])
    prompts = [prompt for prompt, _, _ in chosen]
    generator = Generator.from_pretrained("mini")
    columns, clips_of = {}, {}
    for name in ("real", "codec"):
        cut(chosen, root, work / name, generator if name == "codec" else None)
        with Bars() as bars:
            task = bars.add_task(name, total=1.0)
            clips = measure_system(
                System(name, work / name, 1), prompts, {}, work / "measured" / name, jobs,
                lambda done, total, task=task, bars=bars: bars.update(task, completed=done, total=total),  # type: ignore[misc]
            )  # fmt: skip
        clips_of[name] = clips
    vectors = vectors_of(clips_of["real"])
    for name, clips in clips_of.items():
        columns[name] = summarise(clips, work / name, vectors if name == "codec" else None)
        whole = columns[name]["by_kind"]["whole"]
        columns[name]["marks"]["ending"] = whole["ending"]  # an excerpt does not end
        for told in (columns[name]["marks"], *columns[name]["by_kind"].values()):
            told.pop("length", None)
        columns[name]["by_kind"]["excerpt"].pop("ending", None)
    Reference({"tagger": shipped_tagger().fingerprint, **columns}, vectors).save(output)


def vectors_of(clips: Sequence[Clip]) -> np.ndarray:
    """Vectors of the windows of whole pieces, `[N, 128]`."""
    return np.concatenate([c.vectors for c in clips if c.vectors is not None and c.prompt.kind == "whole"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", default="data/starter/manifest.jsonl")
    parser.add_argument("--root", default="data/starter")
    parser.add_argument("--work", type=Path, default=Path("runs/reference"))
    parser.add_argument("-o", "--output", type=Path, default=Path("audiogen/evaluation/reference"))
    parser.add_argument("--jobs", type=int, default=0, help="processes; 0 for one a core")
    told = parser.parse_args()
    run_command(lambda: main(told.manifest, told.root, told.work, told.output, told.jobs))
