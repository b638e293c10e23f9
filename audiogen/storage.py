"""Model folders: `config.json` and safetensors shards, float or int8, whole or absent.

int8 keeps matrices with one scale a row (symmetric, round to nearest); all else is float16.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from audiogen.files import write_json
from audiogen.interfaces import AudiogenError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Storage = Literal["float32", "float16", "int8"]

_FORMAT = 1
_SHARD_BYTES = 15 * 2**20
_SCALE = ".row_scale"
_LARGE = 1 << 20  # bytes
_HUGE_PAGE, _ARENA = 2 << 20, 32 << 20  # bytes
_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


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


class TensorFile:
    """A safetensors file whose tensors are read one at a time, by plain reads: pages of a file that is mapped would
    count as memory of ours for as long as a tensor of it lives."""

    def __init__(self, path: Path) -> None:
        """Read the header. Raises OSError or SafetensorError for a file that is missing, damaged or truncated."""
        from safetensors import safe_open

        with safe_open(path, framework="pt"):  # which checks that the header fits the file
            pass
        self.path = path
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            told = json.loads(file.read(length))
        self._first = 8 + length
        self._entries = {name: entry for name, entry in told.items() if name != "__metadata__"}

    def names(self) -> list[str]:
        return list(self._entries)

    def shape(self, name: str) -> list[int]:
        return list(self._entries[name]["shape"])

    def dtype(self, name: str) -> str:
        """As the format calls it: "F32", "BF16", …"""
        return str(self._entries[name]["dtype"])

    def read(self, name: str) -> Tensor:
        """One tensor, in memory of its own. Raises AudiogenError when the file is shorter than it was."""
        import torch

        value = fresh(self.shape(name), getattr(torch, _DTYPES[self.dtype(name)]))
        left = memoryview(value.flatten().view(torch.uint8).numpy().data)
        with open(self.path, "rb", buffering=0) as file:
            file.seek(self._first + self._entries[name]["data_offsets"][0])
            while len(left):
                count = file.readinto(left)
                if not count:
                    raise AudiogenError(f"{self.path}: truncated while it was read; fetch the model again")
                left = left[count:]
        return value


class Weights:
    """A model folder as `save_weights` wrote it; each tensor is read when it is asked for."""

    def __init__(self, folder: str | Path, kind: str) -> None:
        """Read configuration and headers. Raises AudiogenError for a folder that is missing, foreign, or not whole."""
        from safetensors import SafetensorError

        self.folder = Path(folder)
        told = read_json(self.folder / "config.json")
        if (
            not isinstance(told, dict)
            or told.get("kind") != kind
            or told.get("format") != _FORMAT
            or {"shards", "config"} - told.keys()
        ):
            raise AudiogenError(f"{folder}: not a {kind} of format {_FORMAT}, as its config.json would say")
        self.config: dict[str, Any] = told["config"]
        self._homes: dict[str, TensorFile] = {}
        for name in told["shards"]:
            if Path(name).name != name:
                raise AudiogenError(f"{folder}/config.json: the shard {name!r} leads out of the folder")
            try:
                file = TensorFile(self.folder / name)
            except (OSError, SafetensorError) as error:
                raise AudiogenError(
                    f"{self.folder / name}: missing or damaged ({error}); fetch the model again"
                ) from None
            self._homes |= dict.fromkeys(file.names(), file)

    def names(self) -> list[str]:
        """Of what `read` gives."""
        return [name for name in self._homes if not name.endswith(_SCALE)]

    def shape(self, name: str) -> Sequence[int]:
        return self._homes[name].shape(name)

    def read(self, name: str) -> Tensor:
        """One tensor, float32 unless it holds whole numbers."""
        import torch

        value = self._homes[name].read(name)
        scale = self._homes.get(name + _SCALE)
        if scale is None:
            return as_type(value, torch.float32) if value.is_floating_point() else value
        return as_type(value, torch.float32).mul_(scale.read(name + _SCALE).float()[:, None])


def load_weights(folder: str | Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """→ (config, float32 tensors). Raises AudiogenError for a folder that is missing, foreign, or not whole."""
    weights = Weights(folder, kind)
    return weights.config, {name: weights.read(name) for name in weights.names()}


def fill_module(module: nn.Module, tensors: Mapping[str, Tensor], folder: str | Path) -> None:
    """Put `tensors` into a module; raises AudiogenError naming what does not fit."""
    try:
        module.load_state_dict(tensors, strict=True, assign=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:4]]
        raise AudiogenError(f"{folder}: the weights do not fit its config.json: {' '.join(lines)}") from None
    bad = [name for name, value in tensors.items() if not is_finite(value)]
    if bad:
        raise AudiogenError(f"{folder}: {', '.join(bad[:3])} hold NaN or infinite values; fetch the model again")


def fresh(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Zeros; large ones in pages of their own, which take memory when they are first written to, go back to the system
    at once, and leave no holes between those that stay. Raises OSError when there is not enough."""
    import torch

    size = math.prod(shape) * dtype.itemsize
    if size < _LARGE or not hasattr(mmap, "MAP_PRIVATE"):
        return torch.zeros(tuple(shape), dtype=dtype)
    pages = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(pages, dtype=dtype).view(tuple(shape))


class HugePages:
    """Room for tensors that stay, side by side in pages of 2 MiB where the system gives them to those who ask (Linux).

    To read hundreds of megabytes through pages of 4 KiB takes half as long again: the processor's list of pages does
    not reach so far. What was not written to takes no memory.
    """

    def __init__(self) -> None:
        self._left: Tensor | None = None  # of the arena

    def zeros(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Zeros that begin on a cache line. Raises OSError when there is not enough memory."""
        import torch

        size = math.prod(shape) * dtype.itemsize
        if not hasattr(mmap, "MADV_HUGEPAGE"):
            return fresh(shape, dtype)
        if self._left is None or len(self._left) < size:
            whole = max(-(-size // _HUGE_PAGE) * _HUGE_PAGE, _ARENA)
            pages = mmap.mmap(-1, whole + _HUGE_PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            with suppress(OSError):  # a system built without them
                pages.madvise(mmap.MADV_HUGEPAGE)
            found = torch.frombuffer(pages, dtype=torch.uint8)
            self._left = found[-found.data_ptr() % _HUGE_PAGE :][:whole]
        taken, self._left = self._left[:size], self._left[-(-size // 64) * 64 :]
        return taken.view(dtype).view(tuple(shape))


def as_type(value: Tensor, dtype: torch.dtype) -> Tensor:
    """`value`, or a `fresh` copy where it has another type."""
    return value if value.dtype == dtype else fresh(value.shape, dtype).copy_(value)


def is_finite(value: Tensor) -> bool:
    """Whether no value is NaN or infinite. What has a shape only (device meta) passes.

    Nothing is set aside for it: aligned blocks that come and go leave holes, a hundred megabytes of them after a large
    model, in glibc before 2.38 (its bug 14581).
    """
    import torch

    if value.is_meta or not value.is_floating_point() or not value.numel():
        return True
    return all(math.isfinite(bound) for bound in torch.aminmax(value.detach()))


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
