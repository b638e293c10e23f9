"""Make a model folder of finished runs, from their averaged weights.

    python recipes/export_model.py codec runs/codec -o audiogen/models/mini
    python recipes/export_model.py lm runs/lm -o audiogen/models/mini --name mini

The newest checkpoint is taken, or with `--best` the one of the lowest validation loss.
The codec comes first: codes are prepared with the exported one, whose weights are rounded for storage.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from audiogen import __version__
from audiogen.codec.spectral import SpectralCodec, SpectralCodecConfig
from audiogen.files import write_json
from audiogen.interfaces import AudiogenError
from audiogen.lm.model import MusicLM, MusicLMConfig
from audiogen.storage import Storage
from audiogen.training.checkpoint import best_checkpoint, load_checkpoint, newest_checkpoint
from audiogen.training.discriminators import codec_tensors
from audiogen.training.progress import run_command


def main(part: str, run: Path, output: Path, storage: Storage, name: str, best: bool = False) -> None:
    """Export `part` ("codec" or "lm") of `run` into the model folder `output`."""
    path = (best_checkpoint if best else newest_checkpoint)(run / "checkpoints")
    if path is None:
        wanted = "validated" if best else "whole"
        raise AudiogenError(f"{run}: no {wanted} checkpoint in its folder checkpoints/")
    parts, state = load_checkpoint(path)
    output.mkdir(parents=True, exist_ok=True)
    if part == "codec":
        codec = SpectralCodec(SpectralCodecConfig.build(state["config"]["codec"], str(path)))
        codec.load_state_dict(codec_tensors(parts["ema"]))
        codec.save(output / "codec", storage)
    else:
        lm = MusicLM(MusicLMConfig.build(state["config"]["lm"], str(path)))
        lm.load_state_dict(parts["ema"])
        lm.save(output / "lm", storage)
        beside = Path(state["config"]["codec"])
        if not (output / "codec").is_dir():
            shutil.copytree(beside, output / "codec")
        told = {"kind": "audiogen", "name": name, "version": __version__, "codec": state["data"]["codec"]}
        write_json(output / "config.json", told)
    print(f"{output / part}: step {state['global_step']}, stored as {storage}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("codec", "lm"))
    parser.add_argument("run", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--storage", choices=("float32", "float16", "int8"), default="int8")
    parser.add_argument("--name", default="mini")
    parser.add_argument("--best", action="store_true", help="of the lowest validation loss, not the newest")
    told = parser.parse_args()
    run_command(lambda: main(told.part, told.run, told.output, told.storage, told.name, told.best))
