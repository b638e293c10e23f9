"""Training checkpoints: safetensors and JSON, written beside and renamed, so one that exists is whole.

`runs/NAME/checkpoints/00001000/` holds `model`, `ema` and `optimiser` (`.safetensors`) and `state.json`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from audiogen.files import write_json
from audiogen.interfaces import AudiogenError
from audiogen.storage import replace_folder

_PARTS = ("model", "ema", "optimiser")
_FORMAT = 1


def flatten_optimiser(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of every parameter as `INDEX.NAME` tensors (the groups' settings come from the configuration)."""
    state = optimiser.state_dict()["state"]
    return {
        f"{index}.{name}": torch.as_tensor(value).contiguous()
        for index, values in state.items()
        for name, value in values.items()
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Inverse of `flatten_optimiser`."""
    whole = optimiser.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    whole["state"] = state
    optimiser.load_state_dict(whole)


def save_checkpoint(folder: Path, step: int, parts: dict[str, dict[str, Tensor]], state: dict[str, Any]) -> Path:
    """Write checkpoint `step` under `folder` and remove all but the newest two. Returns its path."""
    final = folder / f"{step:08d}"
    beside = folder / f".{step:08d}.part"
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir(parents=True)
        for name in _PARTS:
            tensors = {key: value.detach().cpu().contiguous() for key, value in parts[name].items()}
            save_file(tensors, beside / f"{name}.safetensors")
        write_json(beside / "state.json", {"format": _FORMAT, "global_step": step, **state})
        replace_folder(beside, final)
    except (OSError, SafetensorError) as error:
        raise AudiogenError(f"{final}: the checkpoint could not be written: {error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    for old in sorted(folder.glob("[0-9]*"))[:-2]:
        shutil.rmtree(old)
    return final


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint under `folder`, or None."""
    whole = [path for path in sorted(folder.glob("[0-9]*")) if (path / "state.json").is_file()]
    return whole[-1] if whole else None


def load_checkpoint(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """→ (parts, state). Raises AudiogenError naming the file that is missing or damaged."""
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        parts = {name: load_file(path / f"{name}.safetensors") for name in _PARTS}
    except (OSError, ValueError, SafetensorError) as error:
        raise AudiogenError(f"{path}: not a whole checkpoint ({error}); remove it to resume the one before") from None
    if state.get("format") != _FORMAT:
        raise AudiogenError(f"{path}: checkpoint format {state.get('format')!r}, this version reads {_FORMAT}")
    return parts, state
