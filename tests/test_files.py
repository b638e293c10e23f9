from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from audiogen.files import DiskFullError, atomic_path, write_json, write_text
from audiogen.interfaces import AudiogenError


def test_the_final_name_appears_only_when_whole(tmp_path: Path) -> None:
    target = tmp_path / "clip.wav"
    with atomic_path(target) as temporary:
        temporary.write_bytes(b"half")
        assert not target.exists()
        assert temporary.parent == tmp_path and temporary.suffix == ".wav"
    assert target.read_bytes() == b"half"
    assert os.listdir(tmp_path) == ["clip.wav"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_exception_keeps_the_old_file_and_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "state.json"
    write_json(target, {"step": 1})
    with pytest.raises(error), atomic_path(target) as temporary:
        temporary.write_text("{")
        raise error
    assert json.loads(target.read_text()) == {"step": 1}
    assert os.listdir(tmp_path) == ["state.json"]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), OSError("33944 requested and 16352 written")]
)
def test_a_full_disk_leaves_no_half_file_and_says_so(
    tmp_path: Path, error: OSError, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=0))
    with (
        pytest.raises(DiskFullError, match=r"clip\.wav: No space left.*free some space"),
        atomic_path(tmp_path / "clip.wav") as temporary,
    ):
        temporary.write_bytes(b"half")
        raise error
    assert os.listdir(tmp_path) == []


def test_other_errors_of_the_system_pass_through(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a"):
        (tmp_path / "missing").read_bytes()
    assert os.listdir(tmp_path) == []


def test_bad_targets_are_refused_before_work_starts(tmp_path: Path) -> None:
    for target, words in [(tmp_path / "no" / "a", "does not exist"), (tmp_path, "folder"), ("/dev/null", "device")]:
        with pytest.raises(AudiogenError, match=words), atomic_path(target):
            pytest.fail("the work started")


def test_a_folder_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", denied)  # chmod would not stop root
    with pytest.raises(AudiogenError, match=r"cannot write into .*: Permission denied"), atomic_path(tmp_path / "a"):
        pytest.fail("the work started")


def test_a_long_name_fits(tmp_path: Path) -> None:
    write_text(tmp_path / ("n" * 251 + ".wav"), "x")
    with pytest.raises(AudiogenError, match="cannot write"):
        write_text(tmp_path / ("n" * 300), "x")


def test_json_is_readable_and_strict(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"prompt": "café"})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "prompt": "café"\n}\n'
    with pytest.raises(ValueError):
        write_json(tmp_path / "b.json", {"x": float("nan")})
    assert os.listdir(tmp_path) == ["a.json"]
