"""Model folders: `config.json` and safetensors shards, float or int8, whole or absent.

int8 keeps matrices with one scale a row (symmetric, round to nearest); all else is float16.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from audiogen.files import write_json
from audiogen.interfaces import AudiogenError

if TYPE_CHECKING:
    from torch import Tensor, nn

Storage = Literal["float32", "float16", "int8"]

_FORMAT = 1
_SHARD_BYTES = 15 * 2**20
_SCALE = ".row_scale"


def save_weights(
    folder: str | Path, kind: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor], storage: Storage
) -> None:
    """Write `tensors` (float32) and `config` of a model of `kind` as `folder`, replacing what was there."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    folder = Path(folder)
    beside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    packed = {
        key: part for name, tensor in sorted(tensors.items()) for key, part in _pack(name, tensor, storage).items()
    }
    shards: list[dict[str, Tensor]] = [{}]
    held = 0
    for name, tensor in packed.items():
        size = tensor.numel() * tensor.element_size()
        if held and held + size > _SHARD_BYTES:
            shards.append({})
            held = 0
        shards[-1][name] = tensor
        held += size
    try:
        beside.mkdir(parents=True)
        names = [f"model-{index + 1:05d}-of-{len(shards):05d}.safetensors" for index in range(len(shards))]
        for name, shard in zip(names, shards, strict=True):
            save_file(shard, beside / name)
        told = {"format": _FORMAT, "kind": kind, "storage": storage, "shards": names, "config": dict(config)}
        write_json(beside / "config.json", told)
        replace_folder(beside, folder)
    except (OSError, SafetensorError) as error:
        raise AudiogenError(f"{folder}: the model could not be written: {error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def load_weights(folder: str | Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """→ (config, float32 tensors). Raises AudiogenError for a folder that is missing, foreign, or not whole."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    told = read_json(folder / "config.json")
    if (
        not isinstance(told, dict)
        or told.get("kind") != kind
        or told.get("format") != _FORMAT
        or {"shards", "config"} - told.keys()
    ):
        raise AudiogenError(f"{folder}: not a {kind} of format {_FORMAT}, as its config.json would say")
    packed: dict[str, Tensor] = {}
    for name in told["shards"]:
        if Path(name).name != name:
            raise AudiogenError(f"{folder}/config.json: the shard {name!r} leads out of the folder")
        try:
            packed |= load_file(folder / name)
        except (OSError, SafetensorError) as error:
            raise AudiogenError(f"{folder / name}: missing or damaged ({error}); fetch the model again") from None
    tensors = {}
    for name, tensor in packed.items():
        if name.endswith(_SCALE):
            continue
        value = tensor.float() if tensor.is_floating_point() or name + _SCALE in packed else tensor
        scale = packed.get(name + _SCALE)
        tensors[name] = value if scale is None else value * scale.float()[:, None]
    return told["config"], tensors


def fill_module(module: nn.Module, tensors: Mapping[str, Tensor], folder: str | Path) -> None:
    """Put `tensors` into a module; raises AudiogenError naming what does not fit."""
    try:
        module.load_state_dict(tensors, strict=True, assign=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:4]]
        raise AudiogenError(f"{folder}: the weights do not fit its config.json: {' '.join(lines)}") from None
    bad = [name for name, value in tensors.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if bad:
        raise AudiogenError(f"{folder}: {', '.join(bad[:3])} hold NaN or infinite values; fetch the model again")


def fingerprint(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """SHA-256 over names, shapes and float32 values, first 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors, key=lambda item: item[0]):
        digest.update(f"{name}{list(tensor.shape)}".encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def replace_folder(beside: Path, final: Path) -> None:
    """Give the finished folder `beside` the name `final`; a folder of that name goes only when the new one is there."""
    for path in beside.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    old = final.with_name(f".{final.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        os.replace(final, old)
    os.replace(beside, final)
    shutil.rmtree(old, ignore_errors=True)


def read_json(path: Path) -> Any:
    """Raises AudiogenError naming the file when it is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AudiogenError(f"{path}: there is no such file; is {path.parent} a model folder?") from None
    except (OSError, ValueError) as error:
        raise AudiogenError(f"{path}: not readable as JSON ({error})") from None


def _pack(name: str, tensor: Tensor, storage: Storage) -> dict[str, Tensor]:
    import torch

    tensor = tensor.detach().cpu().contiguous()
    if not tensor.is_floating_point():
        return {name: tensor}
    if storage == "int8" and tensor.ndim == 2 and tensor.numel() >= 4096:
        scale = (tensor.abs().amax(1).clamp_min(1e-12) / 127).half().clamp_min(2**-24)
        levels = (tensor / scale.float()[:, None]).round().clamp(-127, 127).to(torch.int8)
        return {name: levels, name + _SCALE: scale}
    return {name: tensor.float() if storage == "float32" else tensor.half()}
