"""Strict, frozen configuration: read from TOML with dotted overrides, saved as resolved JSON beside every checkpoint.

An unknown key is an error that names it; a contradiction is refused when the value is built.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from audiogen.interfaces import AudiogenError


class Config(BaseModel):
    """Base of every configuration: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def read(cls, path: str | Path, overrides: list[str] | None = None) -> Self:
        """Read TOML at `path` and apply `overrides` such as `["optimiser.lr=1e-4"]`.

        Raises AudiogenError naming the file and each bad field.
        """
        path = Path(path)
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise AudiogenError(f"{path}: there is no such configuration file") from None
        except OSError as error:
            raise AudiogenError(f"{path}: cannot be read: {error.strerror}") from None
        except ValueError as error:  # not TOML, or not even UTF-8
            raise AudiogenError(f"{path}: not valid TOML: {error}") from None
        for override in overrides or []:
            _apply(values, override)
        return cls.build(values, str(path))

    @classmethod
    def build(cls, values: dict[str, Any], source: str) -> Self:
        """Validate `values`; `source` names where they come from in the error."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            lines = [f"  {'.'.join(map(str, item['loc'])) or 'config'}: {item['msg']}" for item in error.errors()]
            raise AudiogenError(f"{source}: bad configuration\n" + "\n".join(lines)) from None


def _apply(values: dict[str, Any], override: str) -> None:
    name, separator, text = override.partition("=")
    if not separator or not name:
        raise AudiogenError(f"override {override!r}: expected name=value, such as optimiser.lr=1e-4")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word is a string
    *parents, last = name.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise AudiogenError(f"override {override!r}: {parent!r} is a value, not a table")
    values[last] = value
