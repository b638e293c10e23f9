from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import pytest
import soundfile
import torch

from audiogen.audio.features import loudness_lufs
from audiogen.audio.io import write
from audiogen.evaluation.listening import sum_up, write_test
from audiogen.interfaces import AudiogenError, Waveform
from audiogen.storage import read_json
from tests.tiny import RATE, notes


def folders(root: Path, *names: str) -> list[Path]:
    made = []
    for index, name in enumerate(names):
        (root / name).mkdir()
        for clip in range(3):
            sound = (0.1 + index) * 0.3 * notes(4.0, seed=clip)
            write(root / name / f"{clip}.wav", Waveform(sound, RATE))
        made.append(root / name)
    return made


def test_the_page_brings_its_audio_and_tells_nothing(tmp_path: Path) -> None:
    page, key = write_test(folders(tmp_path, "ours", "theirs"), tmp_path / "test.html")
    text = page.read_text()
    assert "ours" not in text and "theirs" not in text and "0.wav" not in text
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])  # type: ignore[index]
    told = read_json(key)
    assert len(data["trials"]) == 3 and set(told["clips"]) == {c["id"] for trial in data["trials"] for c in trial}
    levels = []
    for clip in data["trials"][0]:
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(clip["audio"].split(",")[1])), dtype="float32")
        levels.append(loudness_lufs(Waveform(torch.from_numpy(samples.T), rate)))
    assert abs(levels[0] - levels[1]) < 0.1


def results(tmp_path: Path, key: Path, wins: list[int]) -> list[Path]:
    told = read_json(key)
    by_clip: dict[str, dict[str, str]] = {}
    for mark, clip in told["clips"].items():
        by_clip.setdefault(clip["clip"], {})[clip["system"]] = mark
    made = []
    for listener, count in enumerate(wins):
        answers = [
            {"ratings": {marks["ours"]: 100 if index < count else 0, marks["theirs"]: 0 if index < count else 100}}
            for index, marks in enumerate(by_clip.values())
        ]
        path = tmp_path / f"result-{listener}.json"
        path.write_text(json.dumps({"kind": "audiogen listening test", "test": told["test"], "answers": answers}))
        made.append(path)
    return made


def test_what_listeners_say(tmp_path: Path) -> None:
    _, key = write_test(folders(tmp_path, "ours", "theirs"), tmp_path / "test.html")
    found = sum_up([key, *results(tmp_path, key, [3, 3, 2, 3])], tmp_path / "sum.json")
    preferred = found["preferred"]["ours over theirs"]
    assert (
        preferred["wins"] == 11 and preferred["losses"] == 1 and preferred["value"] == pytest.approx(11 / 12, abs=1e-4)
    )
    assert preferred["low"] > 0.5 and preferred["p"] < 0.01
    assert found["ratings"]["ours"]["value"] > 90 and read_json(tmp_path / "sum.json") == found


def test_bad_input(tmp_path: Path) -> None:
    one, other = folders(tmp_path, "ours", "theirs")
    (tmp_path / "empty" / "ours").mkdir(parents=True)
    for sources, output, problem in (
        ([one], "t.html", "two folders"),
        ([one, tmp_path / "empty"], "t.html", "same name"),
        ([one, tmp_path / "none"], "t.html", "no such folder"),
        ([one, other], "t.txt", "html"),
        ([one, tmp_path / "empty" / "ours"], "t.html", "one name"),
    ):
        with pytest.raises(AudiogenError, match=problem):
            write_test(sources, tmp_path / output)
    write(one / "1.wav", Waveform(torch.zeros(2, RATE * 3), RATE))
    with pytest.raises(AudiogenError, match=r"1\.wav: is silent"):
        write_test([one, other], tmp_path / "t.html")
    (one / "1.wav").unlink()
    _, key = write_test([one, other], tmp_path / "t.html")
    _, second = write_test([one, other], tmp_path / "u.html")
    result = results(tmp_path, second, [2])[0]
    with pytest.raises(AudiogenError, match="another test"):
        sum_up([key, result], tmp_path / "s.json")
    with pytest.raises(AudiogenError, match="not a result"):
        sum_up([key, key], tmp_path / "s.json")
    broken = json.loads(result.read_text())
    broken["answers"][0]["ratings"] = dict.fromkeys(broken["answers"][0]["ratings"], 300)
    result.write_text(json.dumps(broken))
    with pytest.raises(AudiogenError, match="0 to 100"):
        sum_up([second, result], tmp_path / "s.json")
