from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

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


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of random weights: a real one but for its size."""
    from audiogen.files import write_json
    from tests import tiny

    folder = tmp_path_factory.mktemp("models") / "tiny"
    folder.mkdir()
    codec = tiny.codec()
    codec.save(folder / "codec", "float32")
    tiny.language_model().save(folder / "lm", "float32")
    write_json(folder / "config.json", {"kind": "audiogen", "name": "tiny", "codec": codec.fingerprint})
    return folder


@pytest.fixture(scope="session")
def generator(model_folder: Path) -> Any:
    from audiogen.generation.generator import Generator

    return Generator.from_pretrained(model_folder, precision="float32", device="cpu")
