"""Train the language model on prepared codes, or fine-tune one with `--from`.

    accelerate launch recipes/train_lm.py recipes/train_lm.toml --run runs/lm
    accelerate launch recipes/train_lm.py recipes/finetune.toml --from mini --run runs/mine manifest=mine.jsonl

Resumes what it finds in the run's folder. `name=value` arguments override the configuration.
"""

from __future__ import annotations

import argparse

from audiogen.generation.models import model_folder
from audiogen.storage import load_weights
from audiogen.training.lm_trainer import LMTask, LMTrainingConfig
from audiogen.training.progress import run_command, show
from audiogen.training.trainer import Trainer


def main(config: LMTrainingConfig, run: str) -> None:
    """Train to the end, with progress."""
    trainer = Trainer(LMTask(config), run, config)
    show(trainer, ("loss", "codebook_1", "bits_a_second", "frames_a_second"))


def configured(path: str, overrides: list[str], base: str | None) -> LMTrainingConfig:
    """The configuration; with `base`, sizes and weights come from that model."""
    config = LMTrainingConfig.read(path, overrides)
    if base is None:
        return config
    folder = model_folder(base) / "lm"
    values = config.model_dump() | {"lm": load_weights(folder, "music_lm")[0], "start_from": str(folder)}
    return LMTrainingConfig.build(values, path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a TOML file such as recipes/train_lm.toml")
    parser.add_argument("overrides", nargs="*", help="such as trainer.max_steps=100")
    parser.add_argument("--run", required=True, help="the run's folder")
    parser.add_argument("--from", dest="base", help="a model to fine-tune: 'mini' or a model folder")
    told = parser.parse_intermixed_args()  # overrides may stand anywhere
    run_command(lambda: main(configured(told.config, told.overrides, told.base), told.run))
