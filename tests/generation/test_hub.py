"""Names on huggingface.co; nothing here asks the network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from audiogen import AudiogenError
from audiogen.generation.models import load_model
from audiogen.generation.musicgen import convert
from tests import tiny_musicgen


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a download gives."""
    return tiny_musicgen.save(tiny_musicgen.model(), tmp_path / "downloaded")


def test_a_name_is_downloaded_with_what_it_needs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked: list[tuple[str, list[str]]] = []

    def download(name: str, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    model = load_model("facebook/musicgen-small", "float32")
    assert asked[0][0] == "facebook/musicgen-small" and "model*.safetensors" in asked[0][1]
    assert not any(".bin" in pattern for pattern in asked[0][1])
    assert (model.name, model.licence) == ("facebook/musicgen-small", "CC-BY-NC-4.0")
    assert "facebook/musicgen-small: licence of the weights: CC-BY-NC-4.0" in capsys.readouterr().err
    convert("facebook/musicgen-small", tmp_path / "small", "float16")
    assert json.loads((tmp_path / "small" / "config.json").read_text())["licence"] == "CC-BY-NC-4.0"


def no_route(*_: object, **__: object) -> str:
    raise OSError("no route to host")


@pytest.mark.parametrize("kind", ["offline", "no route"])
def test_without_a_network_the_error_says_what_to_fetch(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if kind == "offline":  # huggingface_hub's own error, with an empty cache
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr("socket.getaddrinfo", no_route)
    else:
        monkeypatch.setattr("huggingface_hub.snapshot_download", no_route)
    with pytest.raises(AudiogenError) as caught:
        load_model("facebook/musicgen-small")
    said = str(caught.value)
    assert ("cached snapshot" if kind == "offline" else "no route to host") in said
    for word in ("config.json", "model.safetensors", "tokenizer.json", "huggingface.co/facebook/musicgen-small"):
        assert word in said


def test_paths_are_not_taken_for_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("it was asked for"))
    for name in ("nowhere", "./a/b", "/a/b", "a/b/c", "../b", Path("a/b")):
        with pytest.raises(AudiogenError, match="no model"):
            load_model(name)
