"""Files that are whole or absent: write beside the final name, fsync, rename."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from audiogen.interfaces import AudiogenError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LEAST_FREE = 2**20


class DiskFullError(AudiogenError):
    """Nothing more can be written; what was begun was removed."""


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` (same suffix) and rename it to `path` at the end, after fsync.

    On any exception, Ctrl-C included, the temporary file is removed and a file already at `path` stays as it was.
    Raises AudiogenError when the folder does not exist or is not writable, and when `path` is no ordinary file;
    DiskFullError when the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem[:40]}-{secrets.token_hex(4)}.part{path.suffix}")
    try:
        if not path.parent.is_dir():
            raise AudiogenError(f"{path}: the folder {path.parent} does not exist; create it first")
        if path.exists() and not path.is_file():
            raise AudiogenError(f"{path}: this is a {'folder' if path.is_dir() else 'device'}; give the name of a file")
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise AudiogenError(f"{path}: cannot write into {path.parent}: {error.strerror}") from None
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
    except OSError as error:
        # NumPy says "33944 requested and 16352 written", without a number
        untold = error.errno is None and shutil.disk_usage(path.parent).free < _LEAST_FREE
        if untold or error.errno in _FULL:
            reason = error.strerror or os.strerror(errno.ENOSPC)
            raise DiskFullError(f"{path}: {reason}; free some space and try again") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":
        _sync(path.parent)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON to `path`, whole or not at all. NaN and infinities raise ValueError."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_file(path: str | Path) -> str:
    """SHA-256 of the file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
