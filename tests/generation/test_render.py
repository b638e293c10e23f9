from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from audiogen import AudiogenError, Generator
from audiogen.audio.io import read
from audiogen.generation.render import (
    from_record,
    is_done,
    read_jobs,
    record,
    recorded_device,
    recorded_precision,
    render,
)


def quiet(done: float, total: float) -> None:
    assert 0 < done <= total + 1e-6


def test_the_json_makes_the_same_file_again(generator: Generator, tmp_path: Path) -> None:
    request = generator.request("jazz waltz, 100 bpm", seconds=1.3, seed=2)
    render(generator, request, tmp_path / "a.wav", "PCM_16", False, quiet)
    again = from_record(tmp_path / "a.json", generator)
    render(generator, again, tmp_path / "b.wav", "PCM_16", False, quiet)
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    assert b"generated_by" in (tmp_path / "a.wav").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "a.wav", "b.json", "b.wav"]


def test_the_json_says_where_codes_were_computed(generator: Generator, tmp_path: Path) -> None:
    """A GPU rounds otherwise than a CPU: the clip is made again on its own kind."""
    request, there = generator.request("jazz", 0.5, 1), replace(generator.model, device=torch.device("cuda", 1))
    for name, model, device in (("a", generator.model, "cpu"), ("b", there, "cuda")):
        (tmp_path / name).write_text(json.dumps(record(Generator(model), request)))
        assert (recorded_device(tmp_path / name), recorded_precision(tmp_path / name)) == (device, "float32")


def test_the_picture(generator: Generator, tmp_path: Path) -> None:
    rendered = render(generator, generator.request("rock", 1, 1), tmp_path / "a.wav", "FLOAT", True, quiet)
    assert (tmp_path / "a.png").stat().st_size > 10_000
    assert rendered.seconds == 1 and rendered.real_time_factor > 0
    assert read(tmp_path / "a.wav").seconds == 1


def test_a_record_of_another_model_or_none_is_refused(generator: Generator, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("{}")
    with pytest.raises(AudiogenError, match="not the JSON of a clip"):
        from_record(path, generator)
    render(generator, generator.request("rock", 0.5, 1), tmp_path / "a.wav", "PCM_16", False, quiet)
    told = json.loads(path.read_text())
    told["model"]["fingerprint"] = "0" * 16
    path.write_text(json.dumps(told))
    with pytest.raises(AudiogenError, match="made by the model"):
        from_record(path, generator)


def test_interrupted_leaves_nothing(generator: Generator, tmp_path: Path) -> None:
    def stop(done: float, total: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render(generator, generator.request("rock", 2, 1), tmp_path / "a.wav", "PCM_16", True, stop)
    assert not list(tmp_path.iterdir())


def test_jobs_of_a_text_file_and_of_a_csv(tmp_path: Path) -> None:
    text, table = tmp_path / "p.txt", tmp_path / "p.csv"
    text.write_text("happy house\n\njazz waltz\n")
    jobs = read_jobs(text, 12.0, 7)
    assert [(j.prompt, j.seconds, j.seed, j.name) for j in jobs] == [
        ("happy house", 12.0, 7, "001-happy-house"),
        ("jazz waltz", 12.0, 8, "002-jazz-waltz"),
    ]
    table.write_text('prompt,seconds,seed,bpm,key,name\n"slow, dark techno",5,,118,D minor,cue 1\nrock,,9,,,\n')
    first, second = read_jobs(table, None, 3)
    assert (first.prompt, first.seconds, first.seed, first.bpm, first.key) == (
        "slow, dark techno",
        5,
        3,
        118,
        "D minor",
    )
    assert first.name == "cue 1" and (second.seed, second.seconds) == (9, None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no prompts"),
        ("seconds\n3\n", ":1: expected columns"),
        ("prompt,colour\na,b\n", ":1: expected columns"),
        ("prompt,seconds\na,long\n", ":2: could not convert"),
        ("prompt,seconds\na\n", ":2: has another number"),
        ("prompt,name\na,../x\n", ":2: the name"),
        ("prompt,name\na,x\nb,x\n", ":3: the name"),
    ],
)
def test_broken_tables_are_named_by_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text(content)
    with pytest.raises(AudiogenError, match=message):
        read_jobs(path, None, 0)


def test_finished_clips_are_known_and_others_not_overwritten(generator: Generator, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("rock\n")
    (job,) = read_jobs(tmp_path / "p.txt", 0.5, 1)
    assert not is_done(job, tmp_path)
    request = generator.request(job.prompt, job.seconds, job.seed)
    render(generator, request, job.path(tmp_path), "PCM_16", False, quiet)
    assert is_done(job, tmp_path)
    (other,) = read_jobs(tmp_path / "p.txt", 0.5, 2)
    with pytest.raises(AudiogenError, match="made from something else"):
        is_done(other, tmp_path)
