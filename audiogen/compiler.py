"""Compiles `lm/kernel.c` (generation), `lm/fused.c` (training) and `codec/few.c` (a stream's single frames) for the
processor at hand, once, and loads them.

Without a C compiler there is none of them.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).parent
SOURCE, FUSED, FEW = (_PACKAGE / name for name in ("lm/kernel.c", "lm/fused.c", "codec/few.c"))
_HEADERS = sorted(_PACKAGE.rglob("*.h"))
_INTERFACE = 1
_FLAGS = ("-O3", "-std=gnu11", "-ffp-contract=fast", "-fno-math-errno", "-shared", "-fPIC")
_SECONDS = 120


class NoKernel(Exception):  # noqa: N818
    """Why there is no kernel on this machine."""


@cache
def kernel() -> ctypes.CDLL | NoKernel:
    """The loaded kernel, or why there is none. The first call on a machine compiles it, about two seconds."""
    found = _library(SOURCE)
    if isinstance(found, ctypes.CDLL):
        found.memory_size.restype = ctypes.c_int64
    return found


@cache
def fused() -> ctypes.CDLL | NoKernel:
    """The loaded passes of training, or why there are none; compiled as `kernel` is.

    Their threads are OpenMP's, which PyTorch has loaded: one pool serves both.
    """
    return _library(FUSED, "-fopenmp")


@cache
def few() -> ctypes.CDLL | NoKernel:
    """The loaded layers of the codec's decoder for a few rows, or why there are none; compiled as `kernel` is."""
    return _library(FEW)


def _library(source: Path, *flags: str) -> ctypes.CDLL | NoKernel:
    try:
        library = _loaded(_compiled(source, flags))
        if library.interface_version() != _INTERFACE:
            raise NoKernel("the compiled kernel is of another version")
    except NoKernel as reason:
        return reason
    return library


def _loaded(path: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        path.unlink(missing_ok=True)  # the next process compiles it anew
        raise NoKernel(f"the compiled kernel does not load: {error}") from None


def _compiled(source: Path, flags: tuple[str, ...]) -> Path:
    compiler = _compiler()
    native = "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native"
    command = [compiler, *_FLAGS, *flags, native, f"-I{_PACKAGE}", str(source), "-lm", "-lpthread"]
    told = (
        b"".join(path.read_bytes() for path in (source, *_HEADERS)) + " ".join(command).encode() + _processor().encode()
    )
    name = f"{source.stem}-{hashlib.sha256(told).hexdigest()[:16]}.so"
    folder = _cache()
    found = folder / name
    if found.is_file():
        return found
    part = folder / f".{name}.{os.getpid()}"
    try:
        made = subprocess.run([*command, "-o", str(part)], capture_output=True, text=True, timeout=_SECONDS)
        if made.returncode:
            raise NoKernel(f"{compiler} failed: {made.stderr.strip().splitlines()[-1:] or made.returncode}")
        os.replace(part, found)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoKernel(f"{compiler} failed: {error}") from None
    finally:
        part.unlink(missing_ok=True)
    return found


def _compiler() -> str:
    for name in (os.environ.get("CC"), "cc", "gcc", "clang"):
        if name and (path := shutil.which(name)):
            return path
    raise NoKernel("no C compiler (cc, gcc or clang) is installed")


def _processor() -> str:
    """What `-march=native` depends on, so that a home shared by several machines keeps a kernel for each."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "".join(next((line for line in lines if line.startswith(name)), "") for name in ("model name", "flags"))


def _cache() -> Path:
    """A folder that only this user writes to: the cache, or where there is none a new one for this process."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "audiogen"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid == os.getuid() and os.access(folder, os.W_OK):
            return folder
    except (OSError, AttributeError):
        pass
    return Path(tempfile.mkdtemp(prefix="audiogen-"))
