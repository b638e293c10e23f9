"""`audiogen continue` and `audiogen evaluate` as a user meets them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from audiogen import cli
from audiogen.audio.io import read, write
from audiogen.interfaces import Waveform
from audiogen.storage import read_json
from tests import tiny


def run(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from audiogen.cli import main; main()", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120)


def test_a_recording_goes_on(model_folder: Path, tmp_path: Path) -> None:
    sound = torch.cat([tiny.notes(5.0), torch.zeros(2, tiny.RATE)], 1)
    write(tmp_path / "in.wav", Waveform(sound, tiny.RATE))
    done = run(
        "continue", "in.wav", "calm folk", "--seconds", "1.5", "--seed", "3", "--model", model_folder, "-o", "out.wav",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "silence at its end left out" in done.stderr and "goes on as folk" in done.stderr
    told = read_json(tmp_path / "out.json")
    assert read(tmp_path / "out.wav").seconds == pytest.approx(told["continues"]["join_seconds"] + 1.5, abs=1e-4)
    again = run("generate", "--from", "out.json", "--model", model_folder, "-o", "b.wav", cwd=tmp_path)
    assert again.returncode == 1 and "continues the recording in.wav" in again.stderr


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("continue", "none.wav", "-o", "o.wav"), "none.wav: there is no such file"),
        (("continue", "in.wav", "-o", "o.mp3"), "o.mp3: clips are WAV files"),
        (("evaluate", "nothing", "-o", "report"), "no model 'nothing'"),
        (("evaluate", "a", "b/a", "-o", "report"), "the same name"),
        (("evaluate", "mini", "-o", "report", "--codes", "c"), "--against"),
        (("evaluate", "mini", "-o", "report", "--clap", "c"), "--against"),
        (("evaluate", "mini", "-o", "report", "--prompts", "p.jsonl"), "p.jsonl:1"),
        (("evaluate", "--listen", "one", "-o", "t.html"), "two folders or more"),
        (("evaluate", "--listened", "key.json", "-o", "s.json"), "needs the key and the results"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], problem: str
) -> None:
    write(tmp_path / "in.wav", Waveform(tiny.notes(2.0), tiny.RATE))
    (tmp_path / "p.jsonl").write_text("nonsense\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["audiogen", *words])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert problem in str(stopped.value) and "\n" not in str(stopped.value)
    assert not (tmp_path / "report").exists()
