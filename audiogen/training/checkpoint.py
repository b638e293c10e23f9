"""Training checkpoints: safetensors and JSON, written beside and renamed, a list of hashes last.

`runs/NAME/checkpoints/00001000/` holds `model`, `ema` and `optimiser` (`.safetensors`), `state.json` and
`hashes.json`. What the list does not vouch for is torn: it is named on standard error and passed over.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from audiogen.files import sha256_file, write_json
from audiogen.interfaces import AudiogenError
from audiogen.storage import replace_folder

_PARTS = ("model", "ema", "optimiser")
_HASHES = "hashes.json"
FORMAT = 2

Parts = dict[str, dict[str, Tensor]]


class Best(NamedTuple):
    """The checkpoint of the lowest validation loss so far."""

    global_step: int
    loss: float


def save_checkpoint(
    folder: Path, step: int, parts: Parts, state: dict[str, Any], keep: int = 2, best: Best | None = None
) -> Path:
    """Write checkpoint `step` under `folder`; of those up to it all go but the newest `keep` and the best.

    Returns its path. Raises AudiogenError when it cannot be written, a full disk above all: then every earlier one is
    still there.
    """
    final = folder / f"{step:08d}"
    beside = folder / f".{step:08d}.part"
    for stale in [*folder.glob(".*.part"), *folder.glob(".*.old")]:  # of runs killed while they saved
        shutil.rmtree(stale, ignore_errors=True)
    try:
        beside.mkdir(parents=True)
        for name in _PARTS:
            tensors = {key: value.detach().cpu().contiguous() for key, value in parts[name].items()}
            save_file(tensors, beside / f"{name}.safetensors")
        told = {"format": FORMAT, "global_step": step, "best": best._asdict() if best else None, **state}
        write_json(beside / "state.json", told)
        write_json(beside / _HASHES, {path.name: sha256_file(path) for path in sorted(beside.iterdir())})
        replace_folder(beside, final)
    except (OSError, SafetensorError, AudiogenError) as error:
        raise AudiogenError(
            f"{final}: the checkpoint could not be written: {error}; the ones before it are whole"
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    done = [path for path in _steps(folder) if int(path.name) <= step]
    for old in done[:-keep]:
        if best is None or int(old.name) != best.global_step:
            shutil.rmtree(old)
    return final


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint under `folder`, or None. Torn ones are named on standard error."""
    for path in reversed(_steps(folder)):
        problem = _problem(path)
        if problem is None:
            return path
        print(f"{path}: passed over, not a whole checkpoint: {problem}", file=sys.stderr, flush=True)
    return None


def best_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of the lowest validation loss, as the newest whole one tells; None when nothing was validated."""
    newest = newest_checkpoint(folder)
    if newest is None:
        return None
    best = json.loads((newest / "state.json").read_text(encoding="utf-8")).get("best")
    return folder / f"{best['global_step']:08d}" if best else None


def load_checkpoint(path: Path) -> tuple[Parts, dict[str, Any]]:
    """→ (parts, state). Raises AudiogenError naming the file that is missing or damaged."""
    problem = _problem(path)
    if problem is not None:
        raise AudiogenError(f"{path}: not a whole checkpoint: {problem}; remove it to use the one before")
    state = json.loads((path / "state.json").read_text(encoding="utf-8"))
    try:
        return {name: load_file(path / f"{name}.safetensors") for name in _PARTS}, state
    except (OSError, SafetensorError) as error:
        raise AudiogenError(f"{path}: not a whole checkpoint: {error}; remove it to use the one before") from None


def _steps(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("[0-9]*") if path.name.isdecimal())


def _problem(path: Path) -> str | None:
    """What is wrong with the checkpoint at `path`, or None. One of format 1 has no list of hashes."""
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        if state.get("format") == 1:
            return None
        if state.get("format") != FORMAT:
            return f"its format is {state.get('format')!r}, this version reads {FORMAT}"
        hashes = json.loads((path / _HASHES).read_text(encoding="utf-8"))
        for name in (*(f"{part}.safetensors" for part in _PARTS), "state.json"):
            if sha256_file(path / name) != hashes.get(name):
                return f"{name} is not what {_HASHES} says"
    except (OSError, ValueError, AttributeError) as error:
        return str(error)
    return None
