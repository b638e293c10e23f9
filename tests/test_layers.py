"""The import contracts of pyproject.toml hold, and the light modules stay light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_import_contracts() -> None:
    from importlinter.cli import lint_imports

    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == 0


@pytest.mark.parametrize(
    "module",
    ["audiogen", "audiogen.interfaces", "audiogen.config", "audiogen.files", "audiogen.audio.io",
     "audiogen.audio.sinks", "audiogen.audio.features", "audiogen.data.manifest", "audiogen.cli"],
)  # fmt: skip
def test_importing_does_not_load_the_heavy_libraries(module: str) -> None:
    heavy = {"torch", "torchaudio", "librosa", "matplotlib", "soundfile", "encodec", "scipy", "accelerate"}
    command = f"import sys, {module}; print(*sorted({heavy!r} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.split() == []


def test_generation_runs_without_the_development_tools() -> None:
    """No module of the package imports a library that only the extras install."""
    extras = ("import mido", "import visqol", "import pytest", "import hypothesis", "from mido")
    for path in (ROOT / "audiogen").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not [name for name in extras if name in text], path
