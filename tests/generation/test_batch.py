from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from audiogen import Generator
from audiogen.audio.io import read
from audiogen.generation import batch
from audiogen.generation.batch import render_batch
from audiogen.generation.render import from_record, render


def clips(generator: Generator, folder: Path, count: int = 5) -> list[Any]:
    folder.mkdir(exist_ok=True)
    return [(generator.request("calm folk, 90 bpm", 0.2 + 0.3 * n, seed=n), folder / f"{n}.wav") for n in range(count)]


def test_files_are_those_that_each_clip_makes_alone(generator: Generator, tmp_path: Path) -> None:
    together, told, seen = clips(generator, tmp_path / "a"), [], []
    render_batch(generator, together, "FLOAT", False, lambda *done: told.append(done), lambda *one: seen.append(one))
    for request, path in clips(generator, tmp_path / "b"):
        rendered = render(generator, request, path, "FLOAT", False, lambda *_: None)
        other = tmp_path / "a" / path.name
        assert torch.equal(read(path).samples, read(other).samples)
        assert path.with_suffix(".json").read_bytes() == other.with_suffix(".json").read_bytes()
        assert from_record(other.with_suffix(".json"), generator).seed == request.seed
        (found,) = [one for index, one in seen if together[index][1].name == path.name]
        assert (found.seconds, found.clipped_samples) == (rendered.seconds, rendered.clipped_samples)
    assert told == sorted(told) and told[-1] == pytest.approx((sum(0.2 + 0.3 * n for n in range(5)),) * 2)


def test_stopped_in_the_middle_whole_clips_stay_and_nothing_else(
    generator: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "AT_ONCE", 2)

    def stop(index: int, _: object) -> None:
        if index == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_batch(generator, clips(generator, tmp_path / "a"), "PCM_16", False, lambda *_: None, stop)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        f"{n}.{kind}" for n in (0, 1, 2) for kind in ("json", "wav")
    ]
