from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from audiogen.workers import spread

_told = 0


def told(number: int) -> None:
    global _told
    _told = number


def plus(number: int) -> int:
    if number < 0:
        raise ValueError(f"{number}: below zero")
    return number + _told


@pytest.mark.parametrize("jobs", [1, 2])
def test_each_item_comes_with_what_was_made_of_it(jobs: int) -> None:
    assert sorted(spread(plus, [3, 1, 2], jobs, told, 10)) == [(1, 11), (2, 12), (3, 13)]
    with pytest.raises(ValueError, match="-1: below zero"):
        list(spread(plus, [1, -1], jobs, told, 10))


LONG = """
import os, time
from pathlib import Path
from audiogen.workers import spread

def note(item):
    Path(str(os.getpid())).touch()
    time.sleep(60)

if __name__ == "__main__":
    list(spread(note, [1, 2], 2))
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "long.py").write_text(LONG)
    parent = subprocess.Popen([sys.executable, "long.py"], cwd=tmp_path)
    try:
        workers = _until(lambda: [p for p in tmp_path.iterdir() if p.name.isdigit()], 2)
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        assert _until(lambda: [p for p in workers if not (Path("/proc") / p.name / "stat").exists()], 2)
    finally:
        parent.kill()


def _until(found: object, count: int) -> list[Path]:
    deadline = time.monotonic() + 40
    while len(those := found()) < count:  # type: ignore[operator]
        assert time.monotonic() < deadline, those
        time.sleep(0.05)
    return those
