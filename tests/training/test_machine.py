from __future__ import annotations

import ctypes
from typing import Any

import pytest

from audiogen.training.machine import keep_freed_memory


def test_it_may_be_called_again_and_does_nothing_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_freed_memory()

    def missing(*_: Any) -> None:
        raise OSError("no such library")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    keep_freed_memory()
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("asked for a library of another system"))
    keep_freed_memory()
