"""`audiogen tag` and `audiogen similar` as a user meets them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from audiogen.audio.io import write
from audiogen.cli.tag import curve, is_file_name
from audiogen.interfaces import INSTRUMENTS, MOODS, STYLES, Waveform
from tests import tiny


def run(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from audiogen.cli import main; main()", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120)


def test_a_table_and_json_of_several_files_with_a_bad_one(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", Waveform(tiny.notes(12.0), tiny.RATE))
    write(tmp_path / "silent.wav", Waveform(torch.zeros(1, 80_000), tiny.RATE))
    done = run("tag", "a.wav", "none.wav", "silent.wav", "a.wav", "--json", cwd=tmp_path)
    assert done.returncode == 1 and "2 of 4 files could not be tagged" in done.stderr
    assert "none.wav: there is no such file" in done.stderr and "silent.wav: holds no sound" in done.stderr
    first, second = map(json.loads, done.stdout.splitlines())
    assert first == second and first["file"] == "a.wav" and first["seconds"] == 12
    assert set(first["style"]) == set(STYLES) and set(first["moods"]) == set(MOODS)
    assert set(first["instruments"]) == set(INSTRUMENTS) and 0 <= first["key"]["sure"] <= 1
    assert len(first["energy"]) == 16  # two windows of eight steps
    shown = run("tag", "a.wav", cwd=tmp_path)
    assert shown.returncode == 0 and "Traceback" not in shown.stderr
    lines = shown.stdout.splitlines()
    assert lines[0] == "a.wav  0:12"
    assert [line.split()[0] for line in lines[1:]] == [
        "style",
        "moods",
        "instruments",
        "tempo",
        "key",
        "metre",
        "energy",
    ]
    assert "bpm" in shown.stdout and "%" in shown.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tag", "none.wav"], "none.wav: there is no such file"),
        (["tag", "short.wav"], "short.wav: lasts 1.00 s"),
        (["tag", "text.wav"], "text.wav: cannot be read as audio"),
        (["similar", "none.wav", "--in", "m.jsonl"], "none.wav: there is no such file"),
        (["similar", "folk", "--in", "none.jsonl"], "none.jsonl: cannot read the manifest"),
        (["similar", "folk", "--in", "broken.jsonl"], "broken.jsonl:1"),
        (["similar", "folk", "--in", "m.jsonl", "--count", "0"], "--count 0"),
        (["similar", "folk", "--in", "m.jsonl", "--walk", "0"], "--walk 0"),
        (["similar", "", "--in", "m.jsonl"], "the prompt is empty"),
    ],
)
def test_bad_input_is_one_line_and_an_exit_code(tmp_path: Path, words: list[str], message: str) -> None:
    write(tmp_path / "short.wav", Waveform(tiny.notes(1.0), tiny.RATE))
    (tmp_path / "text.wav").write_text("no audio")
    (tmp_path / "broken.jsonl").write_text("{]\n")
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 1 and message in done.stderr
    assert done.stderr.count("\n") <= 2 and "Traceback" not in done.stderr
    assert not list(tmp_path.glob("*.safetensors"))


def test_similar_by_file_by_words_and_on_a_walk(tmp_path: Path) -> None:
    tracks = tiny.catalogue(tmp_path, seconds=5.0)
    words = ("--in", "manifest.jsonl", "--json")
    first = run("similar", "0.wav", *words, cwd=tmp_path)
    assert first.returncode == 0 and "3 tracks added" in first.stderr
    found = [json.loads(line) for line in first.stdout.splitlines()]
    assert {each["path"] for each in found} == {"1.wav", "2.wav"}  # not the track itself
    assert found[0]["score"] >= found[1]["score"]
    assert (tmp_path / "manifest.similar.safetensors").is_file()
    by_words = run("similar", "calm folk with harp and a theremin", *words, "--count", "2", cwd=tmp_path)
    assert by_words.returncode == 0 and "added" not in by_words.stderr
    assert "not understood: theremin" in by_words.stderr and len(by_words.stdout.splitlines()) == 2
    write(tmp_path / "own.wav", Waveform(tiny.notes(5.0, seed=9), tiny.RATE))
    walked = run("similar", "own.wav", "--in", "manifest.jsonl", "--walk", "9", cwd=tmp_path)
    assert walked.returncode == 0, walked.stderr
    assert sorted(line.split()[1] for line in walked.stdout.splitlines()) == [track.path for track in tracks]
    unheard = run("similar", "the colour of money", *words, cwd=tmp_path)
    assert unheard.returncode == 1 and "nothing that can be heard" in unheard.stderr


def test_what_is_a_file_and_what_are_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jazz").write_text("")
    assert is_file_name("jazz") and is_file_name("a/b.WAV") and is_file_name("./x") and is_file_name("/tmp/x")
    assert not is_file_name("folk") and not is_file_name("3/4 folk, 120 bpm.") and not is_file_name("calm " * 300)


def test_a_curve_is_a_line_of_blocks() -> None:
    assert curve(np.array([0.0, 0.5, 1.0])) == "▁▅█"
    assert len(curve(np.linspace(0, 1, 1000))) == 48
