from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any, ClassVar

import pytest

from audiogen.config import Config
from audiogen.interfaces import AudiogenError
from audiogen.training.run_folder import RunFolder, differing


class Inner(Config):
    size: int = 3
    shape: tuple[int, ...] = (1, 2)


class Outer(Config):
    may_change: ClassVar[frozenset[str]] = frozenset({"threads"})
    inner: Inner = Inner()
    other: Inner | None = None
    name: str = "a"
    threads: int = 1


def test_only_real_differences_count() -> None:
    saved: dict[str, Any] = {"inner": {"size": 3, "shape": [1, 2]}, "other": None, "name": "a", "threads": 1}
    assert differing(saved, Outer()) == [] and differing(saved, Outer(threads=8)) == []
    del saved["name"], saved["inner"]["shape"], saved["other"]  # fields that appeared since
    assert differing(saved, Outer()) == []
    assert differing(saved, Outer(name="b", inner=Inner(shape=(2,)))) == ["inner.shape: [1, 2] → [2]", "name: a → b"]
    assert differing(saved, Outer(other=Inner())) == ["other: None → {'size': 3, 'shape': [1, 2]}"]
    assert differing(saved | {"old": 5}, Outer()) == ["old: 5 → no such setting any more"]


def _try_to_lock(path: Path, answer: Any) -> None:
    try:
        RunFolder(path).lock()
        answer.put("locked")
    except AudiogenError as error:
        answer.put(str(error))


def test_a_second_run_in_one_folder_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    import os

    first = RunFolder(tmp_path)
    first.lock()
    first.lock()  # its own
    with pytest.raises(AudiogenError, match=rf"process {os.getpid()} on .* trains in this folder.*--run"):
        RunFolder(tmp_path).lock()
    RunFolder(tmp_path, main=False).lock()  # another process of the same run
    context = multiprocessing.get_context("fork")
    answer = context.Queue()
    child = context.Process(target=_try_to_lock, args=(tmp_path, answer))
    child.start()
    assert f"process {os.getpid()}" in answer.get(timeout=20)
    child.join()
    first.unlock()
    RunFolder(tmp_path).lock()
