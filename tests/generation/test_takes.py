from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from audiogen import AudiogenError, Generator
from audiogen.audio.defects import Defects
from audiogen.audio.io import read, write
from audiogen.audio.measured import Measured
from audiogen.generation import takes as takes_module
from audiogen.generation.generator import Request
from audiogen.generation.render import from_record, render
from audiogen.generation.takes import (
    MOST_TAKES,
    TakeScore,
    check_takes,
    keep,
    play_together,
    render_takes,
    score_file,
    score_take,
    take_paths,
)
from audiogen.interfaces import STYLES, Attributes, Key, Prompt, Score, Waveform
from audiogen.lm.sampling import Sampling
from audiogen.style.tagger import Tagger, Tags

RATE = 22_050
ASKED = Attributes(style="techno", tempo_bpm=100.0, key=Key.parse("A minor"))
PERFECT = TakeScore(
    ASKED, Measured(100.0, Key.parse("A minor")), {"techno": 1.0, "house": 0.0}, -16.0, Defects(0.0, 0.0, 0.0)
)


def quiet(done: float, total: float) -> None:
    assert 0 < done <= total + 1e-6


def request(**told: object) -> Request:
    return Request(Prompt("techno"), Score(12.0), replace(ASKED, **told), Sampling(), 1)  # type: ignore[arg-type]


def song(bpm: float = 100.0, shift: int = 0, seconds: float = 12.0, level: float = 0.08) -> torch.Tensor:
    """A minor-key cadence in chords on every beat, with a click: float32 `[2, S]`."""
    beat, count = 60 / bpm, round(seconds * RATE)
    audio, chance = np.zeros(count + RATE), np.random.default_rng(0)
    chords = [(0, 3, 7), (5, 8, 12), (7, 10, 14), (0, 3, 7)]
    for index in range(int(seconds / beat)):
        first, time = round(index * beat * RATE), np.arange(round(beat * RATE)) / RATE
        for note in chords[index // 4 % 4]:
            hz = 220 * 2 ** ((note + shift) / 12)
            tone = sum(np.sin(2 * np.pi * hz * partial * time) / partial for partial in (1, 2, 3))
            audio[first : first + len(time)] += level * np.exp(-3 * time) * tone
        audio[first : first + 400] += 3 * level * chance.standard_normal(400) * np.exp(-np.arange(400) / 80)
    return torch.from_numpy(np.stack([audio, audio])[:, :count]).float()


def scored(samples: torch.Tensor, **told: object) -> TakeScore:
    return score_take(Waveform(samples, RATE), request(**told))


@pytest.fixture(scope="module")
def good() -> TakeScore:
    return scored(song())


def test_a_take_that_obeys(good: TakeScore) -> None:
    assert good.obeyed["tempo"] == good.obeyed["key"] == 1
    assert good.obeyed["style"] == good.style["techno"]
    assert good.sound == {"loudness": 1.0, "silence": 1.0, "stuck": 1.0, "clipping": 1.0}
    assert good.overall == pytest.approx(0.6 + 0.4 * good.style["techno"])


def test_another_tempo_and_a_transposed_take_lose_just_that(good: TakeScore) -> None:
    """130 is no octave of 100."""
    fast, moved = scored(song(bpm=130)), scored(song(shift=2))
    assert fast.obeyed["tempo"] == 0 and fast.obeyed["key"] == 1 and fast.overall < good.overall
    assert moved.obeyed["tempo"] == 1 and moved.obeyed["key"] < 0.5 and moved.overall < good.overall


def test_twice_the_tempo_is_met(good: TakeScore) -> None:
    assert replace(good, asked=replace(ASKED, tempo_bpm=50.0)).obeyed["tempo"] == 1
    assert replace(good, asked=replace(ASKED, tempo_bpm=150.0)).obeyed["tempo"] == 0


def _gap(audio: torch.Tensor) -> torch.Tensor:
    audio[:, 5 * RATE : 8 * RATE] = 0
    return audio


def _stuck(audio: torch.Tensor) -> torch.Tensor:
    length = round(0.12 * RATE)
    audio[:, 4 * RATE : 8 * RATE] = audio[:, 4 * RATE : 4 * RATE + length].repeat(1, 40)[:, : 4 * RATE]
    return audio


PLANTED = {
    "silence": _gap,
    "stuck": _stuck,
    "clipping": lambda audio: (12 * audio).clamp(-1, 1),
    "loudness": lambda audio: audio / 60,
}


@pytest.fixture(scope="module")
def broken() -> dict[str, TakeScore]:
    return {name: scored(plant(song())) for name, plant in PLANTED.items()}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_defect_lowers_its_own_mark_hard(name: str, good: TakeScore, broken: dict[str, TakeScore]) -> None:
    found = broken[name]
    assert found.sound[name] < 0.5 and found.overall < 0.5 * good.overall
    others = set(PLANTED) - {name} - ({"loudness"} if name == "clipping" else set())
    assert {found.sound[other] for other in others} == {1.0}


def test_the_sound_take_is_the_best(good: TakeScore, broken: dict[str, TakeScore]) -> None:
    assert keep([*broken.values(), good], best=True) == [len(broken)]
    assert keep([*broken.values(), good], best=False) == [0, 1, 2, 3, 4]
    assert keep([good, good], best=True) == [0]


def test_the_overall_score_is_the_stated_weighting() -> None:
    assert PERFECT.overall == 1
    wrong = replace(PERFECT, measured=Measured(70.0, Key.parse("C major")))
    assert wrong.overall == pytest.approx(0.4 + 0.2 * 0.3)
    assert replace(PERFECT, style={"house": 0.75, "techno": 0.25}).overall == pytest.approx(0.6 + 0.4 * 0.25)
    for defects in (Defects(3.0, 0, 0), Defects(0, 4.0, 0), Defects(0, 0, 0.01)):
        assert replace(PERFECT, defects=defects).overall == pytest.approx(0.1)
    assert replace(PERFECT, defects=Defects(3.0, 4.0, 0)).overall == pytest.approx(0.01)
    for loudness in (-34.0, -4.0):
        assert replace(PERFECT, loudness_lufs=loudness).overall == pytest.approx(0.55)
    assert replace(PERFECT, loudness_lufs=-math.inf).overall == pytest.approx(0.1)


def test_what_was_not_asked_scores_nothing() -> None:
    nothing = replace(PERFECT, asked=Attributes(), measured=Measured(None, None))
    assert nothing.obeyed == {} and nothing.overall == 1
    assert replace(nothing, asked=Attributes(tempo_bpm=100.0)).overall == 0
    assert replace(PERFECT, asked=Attributes(style="polka", tempo_bpm=100.0)).obeyed == {"tempo": 1.0}


def test_silence_is_scored_and_written_as_json() -> None:
    found = scored(torch.zeros(2, 5 * RATE))
    assert found.measured == Measured(None, None) and found.overall < 0.01
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert told["loudness_lufs"] is None and told["silence_seconds"] == 5
    assert told["tempo_bpm"] == {"asked": 100.0, "heard": None}


def test_a_file_is_scored_as_the_waveform_is(tmp_path: Path, good: TakeScore) -> None:
    write(tmp_path / "a.wav", Waveform(song(), RATE), "FLOAT")
    found = score_file(tmp_path / "a.wav", request())
    assert found.to_json() == good.to_json()


def test_of_a_long_clip_the_beginning_is_judged_and_all_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longest = []
    monkeypatch.setattr(takes_module, "JUDGED_SECONDS", 5.0)

    excerpt = Tagger.excerpt

    def heard(tagger: Tagger, judged: Waveform) -> Tags:
        longest.append(judged.seconds)
        return excerpt(tagger, judged)

    monkeypatch.setattr(Tagger, "excerpt", heard)
    clip = song(seconds=10.0).repeat(1, 8)
    clip[:, 71 * RATE : 74 * RATE] = 0
    write(tmp_path / "a.wav", Waveform(clip, RATE), "PCM_16")
    assert score_file(tmp_path / "a.wav", request()).defects.silence_seconds == pytest.approx(3.0, abs=0.11)
    assert longest == [5.0]


@pytest.mark.parametrize("seconds", [0.3, 0.99])
def test_too_short_to_score(seconds: float, generator: Generator, tmp_path: Path) -> None:
    with pytest.raises(AudiogenError, match="from 1 s on"):
        scored(song(seconds=seconds))
    with pytest.raises(AudiogenError, match="from 1 s on"):
        render_takes(
            generator, generator.request("rock", seconds, 1), tmp_path / "a.wav", 2, False, "PCM_16", False, quiet
        )
    assert not list(tmp_path.iterdir())


# --- rendering ------------------------------------------------------------------------------------------------------


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_all_takes_are_kept_with_their_scores(generator: Generator, tmp_path: Path) -> None:
    asked = generator.request("jazz waltz, 100 bpm, D minor", seconds=1.2, seed=5)
    made = render_takes(generator, asked, tmp_path / "cue.wav", 2, False, "PCM_16", True, quiet)
    assert names(tmp_path) == [f"cue-{n}.{end}" for n in (1, 2) for end in ("json", "png", "wav")]
    assert [take.request.seed for take in made.takes] == [5, 6]
    assert all(take.request.score is asked.score for take in made.takes)
    assert made.real_time_factor > 0 and made.scored_seconds > 0
    for take in made.takes:
        assert take.path is not None and read(take.path).seconds == pytest.approx(1.2)
        told = json.loads(take.path.with_suffix(".json").read_text())
        assert told["seed"] == take.request.seed and told["scores"] == take.scored.to_json()
        assert told["scores"]["key"]["asked"] == "D minor" and told["scores"]["tempo_bpm"]["asked"] == 100
        assert set(told["scores"]["obeyed"]) == {"tempo", "key", "style"}
        assert told["scores"]["style"]["asked"] == "jazz" and told["scores"]["style"]["heard"] in STYLES
    sounds = {path.read_bytes() for path in tmp_path.glob("*.wav")}
    assert len(sounds) == 2


def test_the_json_of_a_take_makes_it_again(generator: Generator, tmp_path: Path) -> None:
    asked = generator.request("rock", seconds=1.0, seed=5)
    render_takes(generator, asked, tmp_path / "cue.wav", 2, False, "PCM_16", False, quiet)
    render(generator, from_record(tmp_path / "cue-2.json", generator), tmp_path / "b.wav", "PCM_16", False, quiet)
    assert (tmp_path / "cue-2.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_the_best_alone_has_the_name(generator: Generator, tmp_path: Path) -> None:
    asked = generator.request("calm ambient, 70 bpm", seconds=1.0, seed=9)
    made = render_takes(generator, asked, tmp_path / "cue.wav", 4, True, "PCM_24", False, quiet)
    assert names(tmp_path) == ["cue.json", "cue.wav"]
    (best,) = [take for take in made.takes if take.path]
    assert best.scored.overall == max(take.scored.overall for take in made.takes)
    assert json.loads((tmp_path / "cue.json").read_text())["seed"] == best.request.seed


def test_takes_played_together_are_those_played_alone(generator: Generator) -> None:
    asked = generator.request("house", seconds=0.7, seed=3)
    requests = [replace(asked, seed=asked.seed + index) for index in range(3)]
    parts: list[list[torch.Tensor]] = [[], [], []]
    for index, chunk in play_together(generator, requests, 5):
        parts[index].append(chunk.samples)
    for one, heard in zip(requests, parts, strict=True):
        alone = torch.cat([chunk.samples for chunk in generator.play(one)], 1)
        torch.testing.assert_close(torch.cat(heard, 1), alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("error", [KeyboardInterrupt, AudiogenError])
@pytest.mark.parametrize("when", ["playing", "scoring"])
def test_interrupted_leaves_nothing(
    generator: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str, error: type[BaseException]
) -> None:
    seen = []

    def stop(*_: object) -> None:
        seen.append(names(tmp_path))
        if len(seen) == 2:
            raise error

    if when == "scoring":
        monkeypatch.setattr(takes_module, "score_file", stop)
    with pytest.raises(error):
        asked = generator.request("rock", 3, 1)
        progress = stop if when == "playing" else quiet
        render_takes(generator, asked, tmp_path / "a.wav", 3, False, "PCM_16", True, progress)
    assert len(seen[-1]) == 1 and seen[-1][0].startswith(".a-") and not list(tmp_path.iterdir())


def test_what_plays_nothing_finite_leaves_nothing(
    generator: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Generator, requests: Sequence[Request], frames: int) -> Iterator[tuple[int, Waveform]]:
        for index in range(len(requests)):
            yield index, Waveform(torch.full((2, 100), math.nan if index else 0.0), generator.sample_rate)

    monkeypatch.setattr(takes_module, "play_together", broken)
    with pytest.raises(AudiogenError, match="NaN"):
        render_takes(generator, generator.request("rock", 1, 1), tmp_path / "a.wav", 2, False, "PCM_16", False, quiet)
    assert not list(tmp_path.iterdir())


def test_a_damaged_judge_is_known_before_work_starts(
    generator: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged() -> None:
        raise AudiogenError("the weights of the tagger are missing")

    monkeypatch.setattr(takes_module, "shipped_tagger", damaged)
    monkeypatch.setattr(takes_module, "play_together", lambda *_: pytest.fail("played"))
    with pytest.raises(AudiogenError, match="weights of the tagger"):
        render_takes(generator, generator.request("rock", 1, 1), tmp_path / "a.wav", 2, False, "PCM_16", False, quiet)
    assert not list(tmp_path.iterdir())


def test_names() -> None:
    path = Path("x/cue.wav")
    assert [p.name for p in take_paths(path, 3, False)] == ["cue-1.wav", "cue-2.wav", "cue-3.wav"]
    assert [p.name for p in take_paths(path, 12, False)][::11] == ["cue-01.wav", "cue-12.wav"]
    assert take_paths(path, 1, False) == [path] and set(take_paths(path, 3, True)) == {path}


@pytest.mark.parametrize("count", [0, -1, MOST_TAKES + 1])
def test_too_few_and_too_many_are_refused(tmp_path: Path, count: int) -> None:
    with pytest.raises(AudiogenError, match=f"--takes {count}: expected a number from 1 to 64"):
        check_takes(tmp_path / "a.wav", count, False, False)


@pytest.mark.parametrize(
    ("there", "best", "plot"),
    [("a-2.wav", False, False), ("a-3.json", False, False), ("a-1.png", False, True), ("a.wav", True, False)],
)
def test_what_is_there_is_not_overwritten(
    generator: Generator, tmp_path: Path, there: str, best: bool, plot: bool
) -> None:
    (tmp_path / there).write_text("mine")
    with pytest.raises(AudiogenError, match=f"{there}: is there already"):
        asked = generator.request("rock", 1, 1)
        render_takes(generator, asked, tmp_path / "a.wav", 3, best, "PCM_16", plot, quiet)
    assert names(tmp_path) == [there] and (tmp_path / there).read_text() == "mine"


def test_other_bad_outputs(tmp_path: Path) -> None:
    with pytest.raises(AudiogenError, match=r"ends in \.wav"):
        check_takes(tmp_path / "a.mp3", 2, False, False)
    with pytest.raises(AudiogenError, match="does not exist"):
        check_takes(tmp_path / "none" / "a.wav", 2, False, False)
    (tmp_path / "a.png").touch()
    check_takes(tmp_path / "a.wav", 2, True, False)
