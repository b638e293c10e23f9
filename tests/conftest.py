from __future__ import annotations

import os
import shutil
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch and numpy load: tests run side by side
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest

SOUNDFONTS = (Path("/usr/share/sounds/sf2/FluidR3_GM.sf2"), Path("/usr/share/soundfonts/FluidR3_GM.sf2"))


def _reason_to_skip(item: pytest.Item) -> str | None:
    if item.get_closest_marker("needs_fluidsynth") and not (
        shutil.which("fluidsynth") and any(path.exists() for path in SOUNDFONTS)
    ):
        return "needs FluidSynth and its soundfont: apt-get install fluidsynth fluid-soundfont-gm"
    if item.get_closest_marker("needs_ffmpeg") and not shutil.which("ffmpeg"):
        return "needs ffmpeg: apt-get install ffmpeg"
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            return "needs a CUDA device"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if reason := _reason_to_skip(item):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
