"""Checkpoints in the layout of transformers: `config.json` and safetensors, in one file or in shards with an index.

Nothing is allocated before the names and shapes of all tensors, as the files' headers tell them, have been compared
with what the configuration asks for. Pickles are never read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiogen.interfaces import AudiogenError
from audiogen.storage import read_json

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
        self._homes: dict[str, Path] = {}
        for path in self.files:
            with _opened(path) as file:
                for name in file.keys():  # noqa: SIM118  (it is no dictionary)
                    part = file.get_slice(name)
                    if name in self._homes:
                        raise AudiogenError(f"{path}: {name} is in {self._homes[name].name} too; fetch the model again")
                    if part.get_dtype() not in _FLOATS:
                        kinds = ", ".join(_FLOATS)
                        raise AudiogenError(f"{path}: {name} is {part.get_dtype()}; expected one of {kinds}")
                    self.shapes[name], self._homes[name] = part.get_shape(), path

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
        path = self._homes[name]
        with _opened(path) as file:
            value: Tensor = file.get_tensor(name)
        if not bool(value.isfinite().all()):
            raise AudiogenError(f"{path}: {name} holds NaN or infinite values; fetch the model again")
        return value.to(dtype)

    def names(self, prefix: str) -> list[str]:
        """Names under `prefix`, without it."""
        return [name.removeprefix(prefix) for name in self.shapes if name.startswith(prefix)]


def _opened(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError) as error:
        raise AudiogenError(f"{path}: truncated or damaged ({error}); fetch the model again") from None
