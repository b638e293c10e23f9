"""Checkpoints in the layout of transformers: `config.json` and safetensors, in one file or in shards with an index.

Nothing is allocated before the names and shapes of all tensors, as the files' headers tell them, have been compared
with what the configuration asks for. Pickles are never read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from audiogen.interfaces import AudiogenError
from audiogen.storage import TensorFile, as_type, is_finite, read_json

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Shapes = Mapping[str, Sequence[int]]

_FLOATS = ("F32", "F16", "BF16")
_INDEX = "model.safetensors.index.json"
_SHOWN = 3


class Checkpoint:
    """The tensors of a folder by name; read one at a time, each when it is asked for."""

    def __init__(self, folder: str | Path) -> None:
        """Read configuration and headers. Raises AudiogenError naming the file that is missing, damaged or unsafe."""
        self.folder = Path(folder)
        self.config = read_json(self.folder / "config.json")
        if not isinstance(self.config, dict):
            raise AudiogenError(f"{self.folder}/config.json: expected a JSON object; fetch it again")
        self.files = self._files()
        self.shapes: dict[str, list[int]] = {}
        self._homes: dict[str, TensorFile] = {}
        for path in self.files:
            file = _opened(path)
            for name in file.names():
                if name in self._homes:
                    there = self._homes[name].path.name
                    raise AudiogenError(f"{path}: {name} is in {there} too; fetch the model again")
                if file.dtype(name) not in _FLOATS:
                    raise AudiogenError(f"{path}: {name} is {file.dtype(name)}; expected one of {', '.join(_FLOATS)}")
                self.shapes[name], self._homes[name] = file.shape(name), file

    def _files(self) -> list[Path]:
        index = self.folder / _INDEX
        if not index.is_file():
            single = self.folder / "model.safetensors"
            if single.is_file():
                return [single]
            if pickles := sorted(path.name for path in self.folder.glob("*.bin")):
                raise AudiogenError(
                    f"{self.folder / pickles[0]}: a pickle, which can run any code when it is read, so it is refused; "
                    "save the model with safetensors (transformers: model.save_pretrained(folder))"
                )
            raise AudiogenError(
                f"{self.folder}: neither model.safetensors nor {_INDEX} is there; fetch the model again"
            )
        told = read_json(index)
        table = told.get("weight_map") if isinstance(told, dict) else None
        if not isinstance(table, dict) or not table or not all(isinstance(name, str) for name in table.values()):
            raise AudiogenError(f"{index}: holds no table 'weight_map' from tensors to files; fetch it again")
        for name in set(table.values()):
            path = self.folder / name
            if Path(name).name != name or not name.endswith(".safetensors"):
                raise AudiogenError(f"{index}: the shard {name!r} leads out of the folder or is no .safetensors file")
            if not path.is_file():
                raise AudiogenError(f"{path}: missing, although {_INDEX} names it; fetch the model again")
        return [self.folder / name for name in sorted(set(table.values()))]

    def check(self, prefix: str, expected: Shapes, ignored: Iterable[str] = ()) -> None:
        """Compare the tensors under `prefix` with the shapes that the configuration asks for, those of `ignored`
        names aside. Raises AudiogenError naming what is missing, not known, or of another shape."""
        wanted = {prefix + name: list(shape) for name, shape in expected.items()}
        found = {name: shape for name, shape in self.shapes.items() if name.startswith(prefix)}
        for name in ignored:
            found.pop(prefix + name, None)
        misshapen = [
            f"{name} is {found[name]} instead of {wanted[name]}"
            for name in wanted.keys() & found.keys()
            if found[name] != wanted[name]
        ]
        for problem, names in (
            ("missing", wanted.keys() - found.keys()),
            ("not known", found.keys() - wanted.keys()),
            ("of another shape than config.json says", misshapen),
        ):
            if names:
                shown = ", ".join(sorted(names)[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" * (len(names) > _SHOWN))
                raise AudiogenError(f"{self.folder}: tensors {problem}: {shown}")

    def read(self, name: str, dtype: torch.dtype) -> Tensor:
        """One tensor as `dtype`. Raises AudiogenError when the file is damaged or the values are not finite."""
        file = self._homes[name]
        value = file.read(name)
        if not is_finite(value):
            raise AudiogenError(f"{file.path}: {name} holds NaN or infinite values; fetch the model again")
        return as_type(value, dtype)

    def names(self, prefix: str) -> list[str]:
        """Names under `prefix`, without it."""
        return [name.removeprefix(prefix) for name in self.shapes if name.startswith(prefix)]


def _opened(path: Path) -> TensorFile:
    from safetensors import SafetensorError

    try:
        return TensorFile(path)
    except (OSError, SafetensorError) as error:
        raise AudiogenError(f"{path}: truncated or damaged ({error}); fetch the model again") from None
