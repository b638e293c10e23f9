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


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").is_dir(), reason="the system has no huge pages")
def test_the_heap_lies_in_huge_pages() -> None:
    """Half of the memory asks for them, and takes none of it."""
    code = """
from audiogen.training.machine import keep_freed_memory, most_memory
before = most_memory(torch.device("cpu"))
keep_freed_memory()
assert most_memory(torch.device("cpu")) - before < 2**26
kept = torch.ones(2**24)
place, inside = kept.data_ptr() + 2**20, False
for line in open("/proc/self/smaps"):
    words = line.split()
    if "-" in words[0] and not words[0].endswith(":"):
        start, end = (int(each, 16) for each in words[0].split("-"))
        inside = start <= place < end
    elif inside and words[0] == "VmFlags:":
        print("hg" in words)
"""
    done = subprocess.run([sys.executable, "-c", "import torch" + code], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["True"], done.stderr
