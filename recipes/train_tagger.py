"""Train the tagger: listen to every track once, train, calibrate, export, and tell how often it is right.

    python recipes/train_tagger.py recipes/train_tagger.toml --run runs/tagger -o audiogen/style/tagger.safetensors

Resumes what it finds in the run's folder. `name=value` arguments override the configuration. Writes a report and the
confusion matrix of the styles into the run's folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.progress import track as progress

from audiogen.data.heard import prepare_heard
from audiogen.data.manifest import read_manifest
from audiogen.evaluation.tagging import confusion, confusion_figure, score_tags
from audiogen.files import write_json
from audiogen.interfaces import AudiogenError
from audiogen.style.ears import Ears
from audiogen.style.tagger import SHIPPED, Tagger
from audiogen.training.machine import keep_freed_memory
from audiogen.training.progress import run_command, show
from audiogen.training.tagger_trainer import (
    SHOWN,
    TaggerTask,
    TaggerTrainingConfig,
    calibrated,
    recordings,
    tagged,
    windowed,
)
from audiogen.training.trainer import Trainer


def listen(config: TaggerTrainingConfig) -> None:
    """Hear what has not been heard yet, with progress."""
    keep_freed_memory()
    tracks = read_manifest(config.manifest)
    heard = prepare_heard(
        tracks, config.root, config.codes, config.codec, config.codebooks, config.excerpt_seconds, config.heard
    )
    for _ in progress(heard, "listening", total=len(tracks)):
        pass


def report(config: TaggerTrainingConfig, tagger: Tagger, run: Path) -> None:
    """Figures for the held-out splits to `run/report.json`, and a line for each: whole tracks, excerpts through the
    codec, and every window of 10.24 s by itself. Confusion matrices beside it."""
    tracks = read_manifest(config.manifest)
    told: dict[str, Any] = {"tagger": tagger.fingerprint, "temperatures": tagger.temperatures}
    for split in ("validation", "test"):
        pairs = recordings(config, [track for track in tracks if track.split == split])
        own, coded = ([pair[version] for pair in pairs] for version in (0, 1))
        for version, some in (("whole", own), ("codec", coded), ("windows", windowed(own))):
            tags = tagged(tagger, some)
            labels = [recording.track for recording in some]
            scores, counts = score_tags(tags, labels), confusion(tags, labels)
            told[f"{split}, {version}"] = scores | {"confusion": counts.tolist()}
            print(f"{split}, {version}: " + "  ".join(f"{name} {scores[name]:.3f}" for name in SHOWN))
            confusion_figure(counts, run / f"confusion-{split}-{version}.png")
    write_json(run / "report.json", told)


def main(config: TaggerTrainingConfig, run: Path, output: Path) -> None:
    """Listen, train to the end, export to `output`, report."""
    if not output.parent.is_dir():
        raise AudiogenError(f"{output}: the folder {output.parent} does not exist; create it first")
    listen(config)
    trainer = Trainer(TaggerTask(config), run, config)
    show(trainer, ("loss", "loss_style", "loss_instruments", "loss_key", "loss_tempo"))
    if not trainer.accelerator.is_main_process:
        return
    ears = Ears(config.ears)
    ears.load_state_dict({name: value.cpu() for name, value in trainer.ema.items()})
    calibrated(config, ears).save(output)
    print(f"{output}: {output.stat().st_size:,} bytes")
    report(config, Tagger.load(output), run)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a TOML file such as recipes/train_tagger.toml")
    parser.add_argument("overrides", nargs="*", help="such as trainer.max_steps=100")
    parser.add_argument("--run", type=Path, required=True, help="the run's folder")
    parser.add_argument("-o", "--output", type=Path, default=SHIPPED)
    told = parser.parse_intermixed_args()
    run_command(lambda: main(TaggerTrainingConfig.read(told.config, told.overrides), told.run, told.output))
