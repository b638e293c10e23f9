"""A folder of files, here or in an object store (`s3://…`, `gs://…`, `memory://…`): the one door to fsspec."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from audiogen.files import atomic_path, sha256_file
from audiogen.interfaces import AudiogenError


class Store:
    """Files by name. What lies elsewhere is fetched once into `$XDG_CACHE_HOME/audiogen`."""

    def __init__(self, location: str | Path) -> None:
        """Raises AudiogenError for a protocol that is unknown or whose package is not installed."""
        self.location = str(location)
        self._remote: Any = None
        if "://" not in self.location:
            self._folder = Path(location)
            return
        import fsspec

        try:
            self._remote, self._root = fsspec.core.url_to_fs(self.location)
        except (ImportError, ValueError) as error:
            raise AudiogenError(f"{location}: cannot be opened: {error}") from None
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        self._folder = cache / "audiogen" / hashlib.sha256(self.location.encode()).hexdigest()[:16]

    def names(self, ending: str) -> list[str]:
        """Names of the files there that end so, sorted; none where there is no folder."""
        if self._remote is None:
            return sorted(path.name for path in self._folder.glob(f"*{ending}") if not path.name.startswith("."))
        if not self._remote.exists(self._root):
            return []
        found = (Path(str(name)).name for name in self._remote.ls(self._root, detail=False))
        return sorted(name for name in found if name.endswith(ending))

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError, or AudiogenError for another trouble."""
        try:
            return bytes(
                (self._folder / name).read_bytes() if self._remote is None else self._remote.cat(self._at(name))
            )
        except FileNotFoundError:
            raise
        except OSError as error:
            raise AudiogenError(f"{self.location}/{name}: cannot be read: {error}") from None

    def put(self, name: str, file: Path) -> None:
        """Give the finished local `file` to the store, whole or not at all."""
        if self._remote is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            with atomic_path(self._folder / name) as temporary:
                temporary.write_bytes(file.read_bytes())
        else:
            self._remote.makedirs(self._root, exist_ok=True)
            self._remote.put_file(str(file), self._at(name))

    def local(self, name: str, sha256: str | None = None) -> Path:
        """A path here where the file can be mapped into memory, its hash checked when one is given.

        Raises AudiogenError naming the file when it is missing or another than the hash says.
        """
        path = self._folder / name
        fresh = self._remote is not None and not path.exists()
        if fresh:
            self._fetch(name, path)
        if not path.is_file():
            raise AudiogenError(f"{self.location}/{name}: there is no such file")
        if sha256 is not None and sha256_file(path) != sha256:
            if self._remote is not None and not fresh:  # the copy here was harmed
                self._fetch(name, path)
            if self._remote is None or fresh or sha256_file(path) != sha256:
                raise AudiogenError(
                    f"{self.location}/{name}: its hash is not the one noted when it was made; remove it with its "
                    ".json and prepare it again"
                )
        return path

    def _at(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _fetch(self, name: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with atomic_path(path) as temporary:
                self._remote.get_file(self._at(name), str(temporary))
        except FileNotFoundError:
            raise AudiogenError(f"{self.location}/{name}: there is no such file") from None
