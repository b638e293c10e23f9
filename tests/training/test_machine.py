from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from audiogen.training.machine import keep_freed_memory, most_memory


def test_it_may_be_called_again_and_does_nothing_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_freed_memory()

    def missing(*_: Any) -> None:
        raise OSError("no such library")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    keep_freed_memory()
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("asked for a library of another system"))
    keep_freed_memory()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell in another way")
def test_the_most_memory_is_what_the_system_saw() -> None:
    held = torch.ones(2**24)
    told = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()
    assert told[1] == "kB" and most_memory(torch.device("cpu")) == pytest.approx(1024 * int(told[0]), rel=0.02)
    assert most_memory(torch.device("cpu")) > held.nbytes


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system counts both as one")
def test_the_most_memory_is_not_that_of_the_process_that_started_it() -> None:
    """Linux lets a new program begin with the highest count of the one before it, in getrusage."""
    told = (
        "import sys, types; sys.modules['torch'] = types.ModuleType('torch')\n"  # so that the process stays small
        "from audiogen.training.machine import most_memory; print(most_memory(types.SimpleNamespace(type='cpu')))"
    )
    found = float(subprocess.check_output([sys.executable, "-c", told]))
    assert 0 < found < 0.5 * most_memory(torch.device("cpu"))
