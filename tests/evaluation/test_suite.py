from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from audiogen.audio.io import read, write
from audiogen.evaluation.clap import NotAtHand
from audiogen.evaluation.prompts import EvaluationPrompt
from audiogen.evaluation.suite import Subject, evaluate, fewer
from audiogen.evaluation.summary import marks_of, summarise
from audiogen.evaluation.systems import Clip
from audiogen.evaluation.training_data import TrainingData
from audiogen.files import DiskFullError
from audiogen.generation.generator import Generator
from audiogen.interfaces import Attributes, AudiogenError, Score, Waveform
from audiogen.style.plan_file import score_to_json
from tests import tiny

PROMPTS = (
    EvaluationPrompt.build(
        {"id": "a", "prompt": "calm folk, 90 bpm", "seconds": 6, "asked": {"style": "folk", "tempo_bpm": 90}}, ""
    ),
    EvaluationPrompt.build({"id": "b", "prompt": "house at 999 bpm", "seconds": 6, "asked": {"style": "house"}}, ""),
)


def quiet(what: str) -> Any:
    return lambda done, total: None


def clips_folder(folder: Path) -> Path:
    folder.mkdir()
    for take in (1, 2):
        write(folder / PROMPTS[0].file(take), Waveform(tiny.notes(6.0, seed=take), tiny.RATE))
    write(folder / "b-1.wav", Waveform(torch.zeros(1, 6 * tiny.RATE), tiny.RATE))
    (folder / "b-2.wav").write_bytes(b"RIFF nonsense")
    write(folder / "stranger.wav", Waveform(tiny.notes(6.0), tiny.RATE))
    return folder


def told(report: dict[str, Any]) -> str:
    return json.dumps({name: value for name, value in report.items() if name != "times"}, sort_keys=True)


def test_a_folder_with_missing_silent_corrupt_and_strange_files(tmp_path: Path) -> None:
    folder = clips_folder(tmp_path / "theirs")
    (folder / "a-2.wav").unlink()
    report = evaluate([Subject("theirs", str(folder))], PROMPTS, tmp_path / "report", quiet, jobs=1)
    found = report["systems"]["theirs"]
    problems = {each["file"]: each["problem"] for each in found["failures"]}
    assert problems["a-2.wav"] == "is missing" and "no sound" in problems["b-1.wav"] and "b-2.wav" in problems
    assert found["not_asked_for"] == ["stranger.wav"] and found["clips"] == 4
    assert found["marks"]["length"]["value"] == 0.25 and found["marks"]["style"]["count"] == 4
    page = (tmp_path / "report" / "report.html").read_text()
    assert "is missing" in page and "stranger.wav" in page and "a-1.wav" in page


def test_a_full_disk_is_no_fault_of_the_model(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise DiskFullError("a-1.wav: No space left on device; free some space and try again")

    monkeypatch.setattr("audiogen.generation.batch.render_batch", full)
    with pytest.raises(DiskFullError):
        evaluate([Subject("tiny", str(model_folder), takes=1)], PROMPTS, tmp_path / "report", quiet, jobs=1)


def test_a_model_that_breaks_on_a_prompt_fails_that_prompt_alone(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaking(generator: Any, group: Any, *others: Any) -> None:
        if any("folk" in request.prompt.text for request, _ in group):
            raise RuntimeError("probability tensor contains nan")

    monkeypatch.setattr("audiogen.generation.batch.render_batch", breaking)
    report = evaluate([Subject("tiny", str(model_folder), takes=1)], PROMPTS, tmp_path / "report", quiet, jobs=1)
    problems = {each["file"]: each["problem"] for each in report["systems"]["tiny"]["failures"]}
    assert "probability tensor contains nan" in problems["a-1.wav"]


def test_a_clip_that_is_none_fails_what_its_plan_and_length_ask_for(tmp_path: Path) -> None:
    asks = EvaluationPrompt.build({"id": "a", "prompt": "folk", "seconds": 30, "asked": {"style": "folk"}}, "")
    score = Score(seconds=30.0, sections=((0.0, "intro"), (12.0, "verse")), energy=((0.0, 0.2), (20.0, 0.8)))
    told = {"generated_by": "audiogen", "plan": score_to_json(score, Attributes())}
    (tmp_path / "a-1.json").write_text(json.dumps(told))
    found = marks_of(Clip(asks, 1, None, None, "is missing"), tmp_path)
    assert found == {"style": 0, "length": 0, "ending": 0, "sections": 0, "energy_curve": 0}


def test_the_same_input_gives_the_same_report_and_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    folder = clips_folder(tmp_path / "theirs")
    subjects = [Subject("theirs", str(folder))]
    first = evaluate(subjects, PROMPTS, tmp_path / "one", quiet, jobs=1)
    again = evaluate(subjects, PROMPTS, tmp_path / "two", quiet, jobs=2)
    assert told(first) == told(again)
    kept = tmp_path / "one" / "measured" / "theirs" / "a-1.json"
    before = kept.stat().st_mtime_ns
    write(folder / "a-2.wav", Waveform(tiny.notes(6.0, seed=7), tiny.RATE))
    changed = evaluate(subjects, PROMPTS, tmp_path / "one", quiet, jobs=1)
    assert kept.stat().st_mtime_ns == before and told(changed) != told(first)


def test_a_model_renders_and_what_it_refuses_is_a_failure(
    generator: Generator, model_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "report"
    subjects = [Subject("tiny", str(model_folder), takes=1), Subject("bare", str(model_folder), "unconditional", 1)]
    report = evaluate(subjects, PROMPTS, output, quiet, jobs=1)
    tiny_one = report["systems"]["tiny"]
    assert [each["file"] for each in tiny_one["failures"]] == ["b-1.wav"] and "999" in tiny_one["failures"][0][
        "problem"
    ]
    assert tiny_one["fingerprint"] == generator.model.fingerprint
    clip = output / "clips" / "tiny" / "a-1.wav"
    assert read(clip).seconds == 6.0
    other = read(output / "clips" / "bare" / "a-1.wav").samples
    assert not torch.equal(read(clip).samples, other)
    before = clip.stat().st_mtime_ns
    evaluate(subjects, PROMPTS, output, quiet, jobs=1)
    assert clip.stat().st_mtime_ns == before
    with pytest.raises(AudiogenError, match="other prompts"):
        evaluate(subjects, PROMPTS[:1], output, quiet, jobs=1)
    with pytest.raises(AudiogenError, match="another model"):
        evaluate([Subject("tiny", str(model_folder), "without score", 1)], PROMPTS, output, quiet, jobs=1)


@pytest.mark.parametrize("source", ["nothing", "empty"])
def test_what_cannot_be_evaluated(tmp_path: Path, source: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(AudiogenError, match=source):
        evaluate([Subject("x", str(tmp_path / source))], PROMPTS, tmp_path / "report", quiet)
    assert not (tmp_path / "report").exists()


def test_against_the_training_music(tmp_path: Path) -> None:
    tracks = tiny.catalogue(tmp_path / "music", seconds=12.0)
    tiny.prepared(tmp_path / "music", tracks)
    music = tmp_path / "music"
    data = TrainingData(music / "manifest.jsonl", music, music / "codes", music / "codec", tmp_path / "prints", 1)
    folder = tmp_path / "theirs"
    folder.mkdir()
    copied = read(music / "1.wav").samples[:, 2 * tiny.RATE : 8 * tiny.RATE]
    for name, samples in (("a-1", copied), ("a-2", tiny.notes(6.0, seed=40))):
        write(folder / f"{name}.wav", Waveform(samples, tiny.RATE))
    report = evaluate(
        [Subject("theirs", str(folder)), Subject("retrieval", None, baseline=True)], PROMPTS[:1], tmp_path / "report",
        quiet, against=data, clap=NotAtHand("no weights here"), jobs=1,
    )  # fmt: skip
    suspects = report["systems"]["theirs"]["copying"]["suspects"]
    assert [(each["file"], each["piece"]) for each in suspects] == [("a-1.wav", "1.wav")]
    baselines = report["baselines"]["systems"]
    assert baselines["retrieval"]["copying"]["suspects"][0]["file"] == "a-1.wav"
    assert baselines["theirs"]["clips"] == 1 and baselines["theirs"]["copying"]["suspects"] == suspects
    assert report["clap"] == {"missing": "no weights here"}
    page = (tmp_path / "report" / "report.html").read_text()
    assert "Baselines" in page and "no weights here" in page and "1.wav" in page
    assert report["held_out"]["fingerprint_share"]["count"] == 1 and report["model"] is None


def test_no_clips_at_all_are_no_crash(tmp_path: Path) -> None:
    found = summarise([Clip(PROMPTS[0], 1, None, None, "is missing")], tmp_path, None)
    assert found["marks"]["tempo"]["value"] == 0.0 and found["distance"]["rows"] == 0


def test_baselines_are_asked_the_vocabulary_or_all_there_is() -> None:
    known = PROMPTS[0].model_copy(update={"kind": "vocabulary"})
    assert fewer((known, PROMPTS[1])) == [known] and fewer(PROMPTS) == list(PROMPTS)


def test_a_clip_at_fault_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    samples = tiny.notes(6.0, seed=1)
    samples[:, 2 * tiny.RATE : 4 * tiny.RATE] = 0
    write(folder / "a-1.wav", Waveform(samples, tiny.RATE))
    report = evaluate([Subject("theirs", str(folder), takes=1)], PROMPTS[:1], tmp_path / "report", quiet, jobs=1)
    assert [each["file"] for each in report["systems"]["theirs"]["faults"]] == ["a-1.wav"]
    assert "silent for 2" in report["systems"]["theirs"]["faults"][0]["fault"]
    assert "silent for 2" in (tmp_path / "report" / "report.html").read_text()
