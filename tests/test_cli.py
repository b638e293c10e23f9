"""The command line as a user meets it, in processes of their own."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from tiny import notes

from audiogen.audio.io import write
from audiogen.interfaces import Waveform


def run(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from audiogen.cli import main; main()", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120)


def test_a_clip_with_its_json_and_what_was_understood(model_folder: Path, tmp_path: Path) -> None:
    done = run("generate", "calm lo-fi with sitar", "--seconds", "1", "--seed", "1", "--model", model_folder,
               "-o", "a.wav", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "not understood: sitar" in done.stderr and "× real time" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.wav"]
    again = run("generate", "rock", "--model", model_folder, "-o", "a.wav", cwd=tmp_path)
    assert again.returncode == 1 and "is there already" in again.stderr


def test_a_batch_is_resumed(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("rock\njazz\n")
    (tmp_path / "out").mkdir()
    words = ("generate", "--prompts", "p.txt", "-o", "out", "--seconds", "0.5", "--model", model_folder)
    assert run(*words, cwd=tmp_path).returncode == 0
    (tmp_path / "out" / "002-jazz.wav").unlink()
    kept = (tmp_path / "out" / "001-rock.wav").stat().st_mtime_ns
    again = run(*words, cwd=tmp_path)
    assert again.returncode == 0 and "1 of 2 clips are there already" in again.stderr
    assert (tmp_path / "out" / "002-jazz.wav").exists()
    assert (tmp_path / "out" / "001-rock.wav").stat().st_mtime_ns == kept


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["generate", ""], "empty"),
        (["generate", "jazz", "--seconds", "0"], "--seconds 0"),
        (["generate", "jazz", "--seconds", "nan"], "--seconds nan"),
        (["generate", "jazz", "--bpm", "7"], "--bpm 7"),
        (["generate", "jazz", "--key", "H#"], "--key H#"),
        (["generate", "jazz", "-o", "none/a.wav"], "does not exist"),
        (["generate", "jazz", "-o", "a.mp3"], "ends in .wav"),
        (["generate", "jazz", "--model", "nowhere", "-o", "a.wav"], "no model 'nowhere'"),
        (["generate", "jazz", "--device", "gpu", "-o", "a.wav"], "device 'gpu': expected auto, cpu, cuda"),
        (["generate"], "give one of"),
        (["generate", "jazz", "--bits", "8"], "--bits 8"),
        (["generate", "--prompts", "p.txt"], "needs a folder"),
        (["data", "check", "none.jsonl"], "none.jsonl"),
        (["codec", "encode", "none.wav", "-o", "x.st"], "none.wav"),
        (["upsample", "none.wav", "-o", "x.wav"], "none.wav"),
        (["morph", "none.wav", "b.wav", "-o", "x.wav"], "none.wav"),
        (["morph", "a.wav", "b.wav", "-o", "x.mp3"], "ends in .wav"),
        (["convert", "nowhere", "out"], "nowhere"),
    ],
)
def test_bad_input_is_one_line_and_an_exit_code(tmp_path: Path, words: list[str], message: str) -> None:
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 1 and message in done.stderr
    assert done.stderr.count("\n") <= 2 and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_ctrl_c_leaves_nothing_half_written(model_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from audiogen.cli import main; main()", "generate", "rock", "--seconds", "36000",
               "--model", str(model_folder), "-o", "a.wav"]  # fmt: skip
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # jobs in the background inherit deafness to Ctrl-C
    running = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, preexec_fn=heed)
    deadline = time.monotonic() + 60
    while not any(p.stat().st_size > 100_000 for p in tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=30)
    assert running.returncode == 130 and "nothing half-written" in errors
    assert not list(tmp_path.iterdir())


def test_help_has_examples_and_loads_nothing_heavy(tmp_path: Path) -> None:
    for words in (["--help"], ["generate", "--help"]):
        shown = run(*words, cwd=tmp_path)
        assert shown.returncode == 0 and "audiogen generate" in shown.stdout
    check = "import sys, audiogen.cli; assert not {'torch', 'librosa'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True, cwd=tmp_path)


def test_recordings_made_into_others(model_folder: Path, tmp_path: Path) -> None:
    for name, rate in (("a.wav", 16_000), ("b.wav", 16_000), ("low.wav", 8000)):
        write(tmp_path / name, Waveform(notes(1.5, rate, seed=rate), rate))
    codec = model_folder / "codec"
    morphed = run("morph", "a.wav", "b.wav", "-o", "m.wav", "--codec", codec, cwd=tmp_path)
    assert morphed.returncode == 0 and "m.wav: 1.50 s" in morphed.stderr
    raised = run("upsample", "low.wav", "-o", "up.wav", "--codec", codec, cwd=tmp_path)
    assert raised.returncode == 0 and "as recorded up to 3,760 Hz" in raised.stderr
    assert (tmp_path / "m.wav").is_file() and (tmp_path / "up.wav").is_file()


def test_styles_and_info(tmp_path: Path) -> None:
    assert "drum and bass" in run("styles", cwd=tmp_path).stdout
    assert "torch" in run("info", cwd=tmp_path).stdout
