from __future__ import annotations

import stat
from pathlib import Path

import pytest

from audiogen import compiler
from audiogen.compiler import NoKernel


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(compiler, "_FLAGS", ("-O0", *compiler._FLAGS[1:]))  # quick to compile
    return tmp_path / "audiogen"


def build() -> object:
    return compiler.kernel.__wrapped__()


def script(folder: Path, text: str) -> str:
    path = folder / "fake-cc"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_compiled_once_and_kept(fresh: Path) -> None:
    assert not isinstance(build(), NoKernel)
    (made,) = fresh.iterdir()
    before = made.stat().st_mtime_ns
    assert not isinstance(build(), NoKernel) and [path.stat().st_mtime_ns for path in fresh.iterdir()] == [before]


@pytest.mark.parametrize(
    ("text", "reason"),
    [("echo first; echo 'no such option' >&2; exit 1", "no such option"), ("kill -9 $$", "failed")],
)
def test_a_compiler_that_fails_leaves_nothing(
    fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, reason: str
) -> None:
    monkeypatch.setenv("CC", script(tmp_path, text))
    found = build()
    assert isinstance(found, NoKernel) and reason in str(found)
    assert list(fresh.iterdir()) == []


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    found = build()
    assert isinstance(found, NoKernel) and "no C compiler" in str(found)


def test_a_compiler_that_makes_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last = 'for a; do out="$a"; done; echo nonsense > "$out"'
    monkeypatch.setenv("CC", script(tmp_path, last))
    found = build()
    assert isinstance(found, NoKernel) and "does not load" in str(found)
    monkeypatch.delenv("CC")
    assert not isinstance(build(), NoKernel)


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert not isinstance(build(), NoKernel)


def test_another_source_another_file(fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build()
    changed = tmp_path / "kernel.c"
    changed.write_text(compiler.SOURCE.read_text() + "\n")
    monkeypatch.setattr(compiler, "SOURCE", changed)
    build()
    assert len(list(fresh.iterdir())) == 2
