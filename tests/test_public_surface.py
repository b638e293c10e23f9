"""The public names. Whoever changes this list adds a line to CHANGELOG.md."""

from __future__ import annotations

import inspect
import tomllib
from pathlib import Path

import pytest

import audiogen

PUBLIC = [
    "Attributes", "AudiogenError", "Chord", "Generator", "Key", "Prompt", "RawSink", "Score", "Session", "WavSink",
    "Waveform", "__version__",
]  # fmt: skip
ROOT = Path(__file__).parents[1]


def test_the_names_are_these() -> None:
    assert sorted(audiogen.__all__) == sorted(dir(audiogen)) == PUBLIC


@pytest.mark.parametrize("name", [name for name in PUBLIC if name != "__version__"])
def test_each_name_loads_and_says_what_it_is(name: str) -> None:
    value = getattr(audiogen, name)
    assert inspect.isclass(value) and value.__name__ == name and inspect.getdoc(value)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'generate_music'"):
        _ = audiogen.generate_music


def test_one_version_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == audiogen.__version__
    assert f"## {audiogen.__version__}" in (ROOT / "CHANGELOG.md").read_text()
