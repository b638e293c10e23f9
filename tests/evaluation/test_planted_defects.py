"""The suite tells known better from known worse: eight defects in good clips move their measures and no others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audiogen import Generator
from audiogen.audio.io import write
from audiogen.evaluation.clips import marks, measure_clip
from audiogen.evaluation.copying import Fingerprints, fingerprint
from audiogen.evaluation.prompts import Asked
from audiogen.interfaces import Waveform
from audiogen.style.hearing import hear
from audiogen.style.tagger import shipped_tagger
from tests.tiny import MINI

SECONDS = 31.0
CLIPS = (  # what the shipped model plays well: a defect is planted in something good
    ("house, 124 bpm, A minor", 1, Asked(style="house", tempo_bpm=124, key="A minor")),
    ("rock, 140 bpm, E minor", 2, Asked(style="rock", tempo_bpm=140, key="E minor")),
    ("techno, 130 bpm, D minor", 2, Asked(style="techno", tempo_bpm=130, key="D minor")),
    ("lo-fi, 80 bpm, F major", 2, Asked(style="lo-fi", tempo_bpm=80, key="F major")),
)
Change = Callable[[torch.Tensor, int], torch.Tensor]


def _librosa(effect: str, **told: float) -> Change:
    def change(samples: torch.Tensor, rate: int) -> torch.Tensor:
        import librosa

        extra = {"sr": rate} if effect == "pitch_shift" else {}
        return torch.from_numpy(
            np.ascontiguousarray(getattr(librosa.effects, effect)(samples.numpy(), **extra, **told))
        )

    return change


def low_passed(samples: torch.Tensor, rate: int) -> torch.Tensor:
    spectrum = torch.fft.rfft(samples)
    spectrum[:, round(4000 / (rate / 2) * spectrum.shape[1]) :] = 0
    return torch.fft.irfft(spectrum, samples.shape[1])


def looped(samples: torch.Tensor, rate: int) -> torch.Tensor:
    return samples[:, 6 * rate : 12 * rate].repeat(1, 5)[:, : samples.shape[1]]


def gap(samples: torch.Tensor, rate: int) -> torch.Tensor:
    cut = samples.clone()
    cut[:, 10 * rate : 13 * rate] = 0
    return cut


def mono(samples: torch.Tensor, rate: int) -> torch.Tensor:
    return samples.mean(0, keepdim=True).expand(2, -1)


CHANGES: dict[str, tuple[Change, set[str]]] = {
    "wrong tempo": (_librosa("time_stretch", rate=1.2), {"tempo"}),
    "transposed": (_librosa("pitch_shift", n_steps=4), {"key"}),
    "low-passed": (low_passed, {"bandwidth"}),
    "looped": (looped, {"repeated"}),
    "silent gap": (gap, {"silence"}),
    "mono": (mono, {"width"}),
}


def values(measured: list[dict[str, Any]], wishes: list[Asked]) -> dict[str, float]:
    """The figures that are watched."""
    told = [marks(asked, one) for asked, one in zip(wishes, measured, strict=True)]
    return {
        "tempo": float(np.mean([one["tempo_octave"] for one in told])),
        "key": float(np.mean([one["key_closeness"] for one in told])),
        "style": float(np.mean([one["style"] for one in told])),
        "bandwidth": float(np.median([np.log2(one["sound"]["bandwidth_hz"]) for one in measured])),
        "repeated": float(np.mean([one["form"]["repeated_share"] for one in measured])),
        "silence": float(np.mean([one["defects"]["silence_seconds"] for one in measured])),
        "width": float(np.mean([one["sound"]["width_db"] for one in measured])),
        "stuck": float(np.mean([one["defects"]["stuck_seconds"] for one in measured])),
    }


MOVES = {  # how far a figure moves when it moves
    "tempo": 0.5, "key": 0.4, "style": 0.6, "bandwidth": 1.0, "repeated": 0.4, "silence": 2.0, "width": 20.0,
    "stuck": 2.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Waveform], list[dict[str, Any]]]:
    generator, folder = Generator.from_pretrained(MINI, device="cpu"), tmp_path_factory.mktemp("good")
    clips = [generator.generate(prompt, SECONDS, seed) for prompt, seed, _ in CLIPS]
    return clips, [measured(clip, folder / f"{index}.wav") for index, clip in enumerate(clips)]


def measured(clip: Waveform, path: Path) -> dict[str, Any]:
    write(path, clip)
    return measure_clip(path, shipped_tagger())[0]


WISHES = [asked for _, _, asked in CLIPS]


def test_the_good_clips_are_good(good: tuple[list[Waveform], list[dict[str, Any]]]) -> None:
    found = values(good[1], WISHES)
    assert found["tempo"] == 1.0 and found["key"] >= 0.7 and found["style"] >= 0.75
    assert found["repeated"] < 0.3 and found["silence"] == 0 and found["width"] > -40


@pytest.mark.parametrize("defect", CHANGES)
def test_a_defect_moves_its_measure_and_no_other(
    good: tuple[list[Waveform], list[dict[str, Any]]], defect: str, tmp_path: Path
) -> None:
    change, moved = CHANGES[defect]
    before = values(good[1], WISHES)
    worse = [
        measured(Waveform(change(clip.samples, clip.sample_rate), clip.sample_rate), tmp_path / f"{index}.wav")
        for index, clip in enumerate(good[0])
    ]
    after = values(worse, WISHES)
    far = {name for name in before if abs(after[name] - before[name]) >= MOVES[name]}
    assert far == moved, (before, after)


def test_other_prompts_wishes_are_not_met(good: tuple[list[Waveform], list[dict[str, Any]]]) -> None:
    before, after = values(good[1], WISHES), values(good[1], WISHES[1:] + WISHES[:1])
    far = {name for name in before if abs(after[name] - before[name]) >= MOVES[name]}
    assert far == {"tempo", "key", "style"}, (before, after)


def test_copies_are_found(good: tuple[list[Waveform], list[dict[str, Any]]]) -> None:
    prints = [fingerprint(hear(clip)) for clip in good[0]]
    others = Fingerprints.of(prints[1:])
    assert others.match(prints[0]).share < 0.12
    part = Waveform(0.5 * good[0][0].samples[:, 5 * 48_000 : 17 * 48_000], 48_000)
    match = Fingerprints.of(prints).match(fingerprint(hear(part)))
    assert match.piece == 0 and match.share > 0.15
