"""A run's folder: one process's at a time, what the run was begun with, and its metrics as JSON Lines."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel

from audiogen.files import write_json, write_text
from audiogen.interfaces import AudiogenError


class RunFolder:
    """`PATH/config.json`, `PATH/metrics.jsonl` and the lock `PATH/.lock`, which the system frees when its holder ends.

    Of several processes of a run only the main one has `main` set: the others write nothing.
    """

    def __init__(self, path: str | Path, main: bool = True) -> None:
        self.path, self._main = Path(path), main
        self._lock: IO[str] | None = None

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def lock(self) -> None:
        """Raises AudiogenError naming the process that trains here already."""
        if not self._main or self._lock is not None:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        file = open(self.path / ".lock", "a+", encoding="utf-8")  # noqa: SIM115  (held open as long as the lock)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise AudiogenError(
                f"{self.path}: {holder} trains in this folder; let it end, or give another folder with --run"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        self._lock = file

    def unlock(self) -> None:
        """Let others in."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def begin(self, told: dict[str, Any]) -> None:
        """Note what a new run is begun with."""
        if self._main:
            write_json(self.path / "config.json", told)

    def check_unchanged(self, begun: dict[str, Any], settings: BaseModel, data: dict[str, Any]) -> None:
        """Refuse to go on with other settings or data than the run was `begun` with, naming what changed."""
        changed = {"config": differing(begun["config"], settings), "data": _differing(begun["data"], data)}
        for name, lines in changed.items():
            if lines:
                raise AudiogenError(
                    f"{self.path}: this run began with another {name} ({'; '.join(lines)}); give back the old values "
                    "to resume it, or another folder to begin anew"
                )

    def log(self, line: dict[str, Any]) -> None:
        """Append a line to the metrics."""
        if self._main:
            with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(line, allow_nan=False) + "\n")

    def forget_metrics_after(self, step: int) -> None:
        """Steps that are done again are logged again; the line being written when the run was killed goes too."""
        path = self.path / "metrics.jsonl"
        if self._main and path.exists():
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            whole = [line for line in lines if line.endswith("}\n")]
            write_text(path, "".join(line for line in whole if json.loads(line)["global_step"] <= step))


def differing(old: dict[str, Any], settings: BaseModel, above: str = "") -> list[str]:
    """What of `settings` differs from the JSON `old` that was saved, as `name: old → new`.

    A field that `old` does not know yet counts as its default. The names in a class's `may_change` do not count: they
    say where things lie or how a run is looked after, not what is learned.
    """
    found: list[str] = []
    new = settings.model_dump(mode="json")
    free: frozenset[str] = getattr(type(settings), "may_change", frozenset())
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        default = field.get_default(call_default_factory=True)
        before = old.get(name, default.model_dump(mode="json") if isinstance(default, BaseModel) else default)
        before = json.loads(json.dumps(before))
        if name in free:
            continue
        if isinstance(value, BaseModel) and isinstance(before, dict):
            found += differing(before, value, f"{above}{name}.")
        elif before != new[name]:
            found.append(f"{above}{name}: {before} → {new[name]}")
    gone = sorted(old.keys() - new.keys())
    return found + [f"{above}{name}: {old[name]} → no such setting any more" for name in gone]


def _differing(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    names = sorted({*old, *new})
    return [f"{name}: {old.get(name)} → {new.get(name)}" for name in names if old.get(name) != new.get(name)]
