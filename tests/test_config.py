from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from audiogen.config import Config
from audiogen.interfaces import AudiogenError


class Optimiser(Config):
    lr: float
    betas: tuple[float, float] = (0.9, 0.95)


class Run(Config):
    name: str = "run"
    steps: int = 10
    optimiser: Optimiser


def written(folder: Path, text: str = "steps = 5\n[optimiser]\nlr = 1e-3\n") -> Path:
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_read_with_overrides(tmp_path: Path) -> None:
    path = written(tmp_path)
    assert Run.read(path) == Run(steps=5, optimiser=Optimiser(lr=1e-3))
    config = Run.read(path, ["optimiser.lr=2e-4", "optimiser.betas=[0.8, 0.99]", "name=second try", "steps=7"])
    assert config == Run(name="second try", steps=7, optimiser=Optimiser(lr=2e-4, betas=(0.8, 0.99)))


@pytest.mark.parametrize(
    ("text", "overrides", "words"),
    [
        ("[optimiser]\nlr = 1e-3\nmomentum = 1\n", [], r"run.toml: bad configuration\n  optimiser.momentum: Extra"),
        ("learning = 1\n[optimiser]\nlr = 1\n", [], "learning: Extra inputs"),
        ("steps = 1.5\n", [], r"steps: .*integer[^$]*\n  optimiser: Field required"),
        ("steps = \n", [], "not valid TOML"),
        ("steps = 1\nsteps = 2\n", [], "not valid TOML"),
        ("[optimiser]\nlr = 1\n", ["optimizer.lr=2"], "optimizer: Extra"),
        ("[optimiser]\nlr = 1\n", ["optimiser.lr=fast"], "optimiser.lr: .*number"),
        ("[optimiser]\nlr = 1\n", ["steps"], "expected name=value"),
        ("[optimiser]\nlr = 1\n", ["=5"], "expected name=value"),
        ("[optimiser]\nlr = 1\n", ["optimiser.lr.start=5"], "'lr' is a value, not a table"),
    ],
)
def test_bad_configuration_is_named(tmp_path: Path, text: str, overrides: list[str], words: str) -> None:
    with pytest.raises(AudiogenError, match=words):
        Run.read(written(tmp_path, text), overrides)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(AudiogenError, match=r"none.toml: there is no such configuration file"):
        Run.read(tmp_path / "none.toml")
    with pytest.raises(AudiogenError, match="cannot be read"):
        Run.read(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'name = "caf\xe9"\n')
    with pytest.raises(AudiogenError, match=r"latin.toml: not valid TOML"):
        Run.read(tmp_path / "latin.toml")


def test_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Run(optimiser=Optimiser(lr=1)).steps = 3  # type: ignore[misc]
