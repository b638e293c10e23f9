"""Commands that tell: what the model knows, what is installed, what a manifest holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audiogen.cli.app import app, data
from audiogen.interfaces import AudiogenError


@app.command()
def styles() -> None:
    """What the model knows: styles, moods and instruments. Example: audiogen styles"""
    from audiogen.interfaces import INSTRUMENTS, MOODS, STYLES

    for name, values in (("styles", STYLES), ("moods", MOODS), ("instruments", INSTRUMENTS)):
        print(f"{name}: {', '.join(values)}")


@app.command()
def info() -> None:
    """Models, devices and versions. Example: audiogen info"""
    from importlib.metadata import version

    import torch

    from audiogen import __version__
    from audiogen.compiler import NoKernel, kernel
    from audiogen.generation.models import SHIPPED, shipped_models

    print(f"audiogen {__version__}")
    for package in ("torch", "torchaudio", "librosa", "soundfile", "accelerate", "safetensors"):
        print(f"  {package} {version(package)}")
    print(f"models: {', '.join(shipped_models()) or 'none'} in {SHIPPED}")
    found = kernel()
    print(f"CPU: {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads")
    print(f"kernel: {f'none: {found}' if isinstance(found, NoKernel) else 'compiled, int8 and bfloat16'}")
    for index in range(torch.cuda.device_count()):
        print(f"GPU {index}: {torch.cuda.get_device_name(index)}")


@data.command("check")
def data_check(
    manifest: Path,
    root: Annotated[Path | None, typer.Option(help="folder of the audio; else the manifest's own")] = None,
    audio: Annotated[bool, typer.Option(help="also read each file's hash and header")] = True,
) -> None:
    """List every problem of a manifest. Example: audiogen data check data/starter/manifest.jsonl"""
    from audiogen.data.manifest import validate

    problems = validate(manifest, root or manifest.parent, audio)
    for problem in problems:
        print(problem)
    if problems:
        raise AudiogenError(f"{manifest}: {len(problems)} problems")
    print(f"{manifest}: no problems")


@data.command("summary")
def data_summary(manifest: Path) -> None:
    """Hours by split, style and licence. Example: audiogen data summary data/starter/manifest.jsonl"""
    import json

    from audiogen.data.manifest import read_manifest, summarise

    print(json.dumps(summarise(read_manifest(manifest)), indent=2))
