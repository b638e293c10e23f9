from __future__ import annotations

from pathlib import Path

import pytest

from audiogen.files import write_json
from audiogen.generation.generator import Generator
from tests import tiny


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of random weights: a real one but for its size."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    folder.mkdir()
    codec = tiny.codec()
    codec.save(folder / "codec", "float32")
    tiny.language_model().save(folder / "lm", "float32")
    write_json(folder / "config.json", {"kind": "audiogen", "name": "tiny", "codec": codec.fingerprint})
    return folder


@pytest.fixture(scope="session")
def generator(model_folder: Path) -> Generator:
    return Generator.from_pretrained(model_folder, precision="float32", device="cpu")
