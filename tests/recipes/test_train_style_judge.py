from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from audiogen.audio.io import read
from audiogen.data.manifest import Track, write_manifest
from audiogen.files import write_json
from audiogen.interfaces import AudiogenError
from audiogen.style.listen import StyleJudge, timbre
from recipes.train_style_judge import main
from tests import tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    folder.mkdir()
    codec = tiny.codec()
    codec.save(folder / "codec", "float32")
    tiny.language_model().save(folder / "lm", "float32")
    write_json(folder / "config.json", {"kind": "audiogen", "name": "tiny", "codec": codec.fingerprint})
    return folder


def styled(root: Path, styles: tuple[str, ...]) -> list[Track]:
    tracks = [
        track.model_copy(update={"style": style}) for track, style in zip(tiny.catalogue(root), styles, strict=True)
    ]
    write_manifest(root / "manifest.jsonl", tracks)
    return tracks


def test_makes_a_judge_that_knows_what_it_was_taught(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "music"
    tracks = styled(root, ("jazz", "folk", "folk"))
    main(root / "manifest.jsonl", root, str(model), tmp_path / "judge.safetensors", 1.5)
    judge = StyleJudge.load(tmp_path / "judge.safetensors")
    taught = np.stack([timbre(read(root / track.path)) for track in tracks if track.split == "train"])
    assert judge.predict(taught) == ["jazz", "folk"]
    printed = capsys.readouterr().out
    assert "2 styles from 2 tracks" in printed
    assert "1 held-out excerpts as rendered: " in printed and "1 held-out excerpts through the codec: " in printed


def test_one_style_and_nothing_held_out_are_refused(model: Path, tmp_path: Path) -> None:
    output = tmp_path / "judge.safetensors"
    styled(tmp_path / "a", ("folk", "folk", "folk"))
    with pytest.raises(AudiogenError, match="at least two styles"):
        main(tmp_path / "a/manifest.jsonl", tmp_path / "a", str(model), output, 1.5)
    tracks = styled(tmp_path / "b", ("folk", "jazz", "jazz"))
    write_manifest(tmp_path / "b/manifest.jsonl", [track for track in tracks if track.split == "train"])
    with pytest.raises(AudiogenError, match="none held out"):
        main(tmp_path / "b/manifest.jsonl", tmp_path / "b", str(model), output, 1.5)
    assert not output.exists()
