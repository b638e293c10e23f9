"""The README's Python runs as it stands, with the shipped model."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_python_blocks_run(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    assert blocks
    for block in blocks:
        done = subprocess.run(
            [sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, env=dict(os.environ)
        )
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "cue.wav").stat().st_size > 3 * 48_000 * 4 - 100


def test_paths_it_names_exist() -> None:
    for name in re.findall(r"^\| `([^`*]+)`", README.read_text(encoding="utf-8"), re.M):
        assert (README.parent / name).exists(), name
