"""Each configuration for several GPUs or machines, on CPU processes with a small model."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "recipes" / "accelerate").glob("*.yaml"))


@pytest.fixture(autouse=True, scope="module")
def _benchmarks() -> Iterator[None]:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    yield
    sys.path.remove(str(ROOT / "benchmarks"))


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_it_trains(file: Path, tmp_path: Path) -> None:
    from dry_run import dry_run
    from small_run import LM, catalogue

    from audiogen.lm.model import MusicLM

    catalogue(tmp_path)
    processes, worked, held = dry_run(file, tmp_path, steps=2)
    assert worked and len(held) == processes
    whole = sum(weight.numel() * 4 for weight in MusicLM(LM).parameters())
    if "fsdp" in file.read_text(encoding="utf-8"):
        assert sum(held) == pytest.approx(whole, rel=0.05) and max(held) < whole * 0.7
    else:
        assert held == [whole] * processes
    assert processes == {"one_gpu": 1, "four_nodes": 4}.get(file.stem, 2)
