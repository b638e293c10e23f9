from __future__ import annotations

from pathlib import Path

import pytest

from audiogen.interfaces import AudiogenError
from audiogen.storage import read_json
from audiogen.style.tagger import Tagger
from audiogen.training.tagger_trainer import TaggerTrainingConfig
from recipes.train_tagger import main
from tests import tiny


def test_from_music_to_a_tagger_with_its_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tracks = tiny.catalogue(tmp_path, seconds=5.0)
    tracks.append(tracks[2].model_copy(update={"path": "2.wav", "split": "test"}))
    (tmp_path / "manifest.jsonl").write_text("".join(track.model_dump_json() + "\n" for track in tracks))
    tiny.prepared(tmp_path, tracks[:3])
    names = {"manifest": "manifest.jsonl", "root": "", "codes": "codes", "codec": "codec", "heard": "heard"}
    told = TaggerTrainingConfig.read(
        "recipes/train_tagger.toml",
        [f'{name}="{tmp_path / value}"' for name, value in names.items()]
        + [
            "codebooks=3",
            "parts=",
            "excerpt_seconds=3.5",
            "window_frames=32",
            "trainer.max_steps=3",
            "trainer.batch_size=2",
        ]
        + [f"ears.{name}={list(value) if isinstance(value, tuple) else value}" for name, value in tiny.EARS],
    )
    main(told, tmp_path / "run", tmp_path / "tagger.safetensors")
    made = Tagger.load(tmp_path / "tagger.safetensors")
    assert made.ears.config == tiny.EARS
    report = read_json(tmp_path / "run" / "report.json")
    assert report["tagger"] == made.fingerprint
    assert report["test, whole"]["recordings"] == 1
    assert 0 <= report["validation, codec"]["key"] <= 1
    assert (tmp_path / "run" / "confusion-test-windows.png").is_file()
    assert "test, codec: style " in capsys.readouterr().out


def test_a_missing_folder_is_told_before_work_starts(tmp_path: Path) -> None:
    told = TaggerTrainingConfig.read("recipes/train_tagger.toml", ["manifest=none.jsonl"])
    with pytest.raises(AudiogenError, match="create it first"):
        main(told, tmp_path / "run", tmp_path / "none" / "tagger.safetensors")
    assert not (tmp_path / "run").exists()
