"""Do the configurations for several GPUs and machines work? Each is run on CPU processes with a small model.

python benchmarks/dry_run.py recipes/accelerate/*.yaml

The environment is the one that `accelerate launch` would make of the file; gloo stands in for NCCL, two processes for
the GPUs of a machine, one for each of several machines.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from report import ROOT, Report, two_cores
from small_run import catalogue, finish, held, settings, start, train


def environment(file: Path) -> tuple[int, int, dict[str, str]]:
    """→ (machines, processes, environment variables) as `accelerate launch --config_file FILE` has them."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env, prepare_simple_launcher_cmd_env

    told = launch_command_parser().parse_args(["--config_file", str(file), "recipes/train_lm.py"])
    told, _, _ = _validate_launch_command(told)
    before = dict(os.environ)
    made = prepare_multi_gpu_env(told) if told.num_processes > 1 else prepare_simple_launcher_cmd_env(told)[1]
    return told.num_machines, told.num_processes, {k: v for k, v in made.items() if before.get(k) != v}


def dry_run(file: Path, folder: Path, steps: int = 3) -> tuple[int, bool, list[int]]:
    """→ (processes, whether all of them trained to the end, bytes of parameters that each held)."""
    machines, processes, told = environment(file)
    few = min(processes, max(2, machines))
    run = folder / file.stem
    config = settings(folder, max_steps=steps, validate_every=steps, mixed_precision="bf16")
    codes = finish(start(few, train, config, run, **told))
    return few, codes == [0] * few and (run / "checkpoints" / f"{steps:08d}").is_dir(), held(run)


def main(
    files: Annotated[list[Path] | None, typer.Argument(help="all of recipes/accelerate if not given")] = None,
    json: Annotated[Path | None, typer.Option(help="save the table")] = None,
) -> None:
    """Print the table."""
    two_cores()
    report = Report("configurations of Accelerate on CPU processes")
    with tempfile.TemporaryDirectory() as name:
        catalogue(Path(name))
        for file in files or sorted((ROOT / "recipes" / "accelerate").glob("*.yaml")):
            few, worked, shares = dry_run(file, Path(name))
            told = f"{few} processes, parameters {', '.join(f'{share / 1024:.0f}' for share in shares)} KiB"
            report.add(file.name, float(worked), told, at_least=1, form="{:.0f}")
    report.finish(json)


if __name__ == "__main__":
    typer.run(main)
