"""The compiled sources as they are on processors with fewer instructions."""

from __future__ import annotations

import ctypes
import platform
import subprocess
from pathlib import Path

import pytest
import torch

from audiogen import compiler

OF_X86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="of that processor's instruction sets")


def compiled_for(level: str, source: Path, folder: Path) -> ctypes.CDLL:
    """`source` for `level` of x86-64, loaded; skips where this processor has less."""
    if level == "x86-64-v3" and torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        pytest.skip("this processor has no AVX2")
    library = folder / f"{source.stem}.so"
    flags = ["-O1", *compiler._FLAGS[1:], f"-march={level}", "-Wno-psabi", f"-I{compiler._PACKAGE}"]
    command = ["cc", *flags, str(source), "-o", str(library), "-lm", "-lpthread"]
    subprocess.run(command, check=True, capture_output=True)
    return ctypes.CDLL(str(library))
