"""Train the codec: `accelerate launch recipes/train_codec.py recipes/train_codec.toml --run runs/codec`.

Resumes what it finds in the run's folder. `name=value` arguments override the configuration.
"""

from __future__ import annotations

import argparse

from audiogen.training.codec_trainer import CodecTask, CodecTrainingConfig
from audiogen.training.progress import run_command


def main(config: CodecTrainingConfig, run: str) -> None:
    """Train to the end, with progress."""
    from audiogen.training.progress import show
    from audiogen.training.trainer import Trainer

    show(Trainer(CodecTask(config), run, config), ("loss", "mel_mid", "log_mid"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a TOML file such as recipes/train_codec.toml")
    parser.add_argument("overrides", nargs="*", help="such as trainer.max_steps=100")
    parser.add_argument("--run", required=True, help="the run's folder")
    told = parser.parse_intermixed_args()  # overrides may stand anywhere
    run_command(lambda: main(CodecTrainingConfig.read(told.config, told.overrides), told.run))
