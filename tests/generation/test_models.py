from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from audiogen import AudiogenError
from audiogen.generation.models import load_model, shipped_models
from tests import tiny


@pytest.fixture
def copy(model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "copy"))


def test_mini_is_shipped_and_within_its_size() -> None:
    assert "mini" in shipped_models()
    sizes = [path.stat().st_size for path in tiny.MINI.rglob("*") if path.is_file()]
    assert sum(sizes) <= 36 * 2**20 and max(sizes) <= 16 * 2**20
    assert (tiny.MINI / "MODEL_CARD.md").is_file()


def test_missing_and_foreign_folders(tmp_path: Path) -> None:
    with pytest.raises(AudiogenError, match=r"no model 'nowhere'.*mini"):
        load_model("nowhere")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(AudiogenError, match="not an audiogen model"):
        load_model(tmp_path)


def test_a_truncated_shard_is_named(copy: Path) -> None:
    shard = next((copy / "lm").glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(AudiogenError, match=shard.name):
        load_model(copy)


def test_a_codec_that_does_not_belong_to_the_language_model_is_refused(copy: Path) -> None:
    shutil.rmtree(copy / "codec")
    tiny.codec(seed=9).save(copy / "codec", "float32")
    with pytest.raises(AudiogenError, match="trained on codes of the codec"):
        load_model(copy)


def test_a_missing_part_is_named(copy: Path) -> None:
    (copy / "lm" / "config.json").unlink()
    with pytest.raises(AudiogenError, match=r"lm/config\.json"):
        load_model(copy)
    (copy / "lm" / "config.json").write_text(json.dumps({"kind": "other"}))
    with pytest.raises(AudiogenError, match="not a music_lm"):
        load_model(copy)
