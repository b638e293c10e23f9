from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny import LM, catalogue, prepared

from audiogen.data.manifest import Track, read_manifest
from audiogen.interfaces import AudiogenError
from audiogen.training import sweep as module
from audiogen.training.lm_trainer import LMTrainingConfig
from audiogen.training.sweep import Choice, Range, Space, Sweep, assign_folds, changed, fold_manifests, read_space

RECIPES = Path(__file__).parents[2] / "recipes"
RATES: Space = {"trainer.lr": Range(low=1e-4, high=1e-2, log=True), "lm.transformer.depth": Choice(choices=(1, 2))}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    prepared(folder, catalogue(folder))
    return folder


def config(data: Path, **trainer: Any) -> LMTrainingConfig:
    told = {
        "max_steps": 4, "batch_size": 2, "lr": 1e-3, "warmup_steps": 1, "validate_every": 2, "threads": 1,
        "mixed_precision": "no",
    }  # fmt: skip
    return LMTrainingConfig.model_validate({
        "manifest": str(data / "manifest.jsonl"), "codes": str(data / "codes"), "codec": str(data / "codec"),
        "lm": LM.model_dump(), "segment_frames": 20, "trainer": told | trainer,
    })  # fmt: skip


def test_a_space_is_read(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text(
        "[trainer.lr]\nlow = 1e-4\nhigh = 1e-2\nlog = true\n[lm.transformer]\ndepth.choices = [1, 2]\n"
        "[segment_frames]\nlow = 20\nhigh = 40\n"
    )
    whole = {"segment_frames": Range(low=20, high=40)}
    assert read_space(path, config(data)) == RATES | whole
    assert isinstance(whole["segment_frames"].low, int)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[trainer.rate]\nlow = 1\nhigh = 2\n", r"trainer\.rate is no field .* one of seed, max_steps"),
        ("[trainer.lr.x]\nlow = 1\nhigh = 2\n", r"trainer\.lr\.x is no field"),
        ("[trainer.lr]\nlow = 2\nhigh = 1\n", "low 2 must be below high 1"),
        ("[trainer.lr]\nlow = 0\nhigh = 1\nlog = true\n", "above 0 where log is true"),
        ("[trainer.lr]\nlow = 0\n", "high"),
        ("[trainer.lr]\nchoices = []\n", "choices"),
        ("[trainer]\nlr = 1e-3\n", r"trainer\.lr: give a table"),
        ("", "names no field"),
        ("[", "not valid TOML"),
    ],
)
def test_a_bad_space_is_refused(text: str, message: str, data: Path, tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text(text)
    with pytest.raises(AudiogenError, match=message) as caught:
        read_space(path, config(data))
    assert str(path) in str(caught.value)
    with pytest.raises(AudiogenError, match=r"none\.toml: cannot be read"):
        read_space(tmp_path / "none.toml", config(data))


def test_folds_are_of_whole_compositions_and_about_equal(data: Path) -> None:
    first = read_manifest(data / "manifest.jsonl")[0]
    tracks = [
        first.model_copy(update={"composition": f"piece {index // 2}", "samples": 16_000 * (1 + index // 2)})
        for index in range(14)
    ]
    fold_of = assign_folds(tracks, 3)
    assert sorted(set(fold_of.values())) == [0, 1, 2] and len(fold_of) == 7
    sums = [sum(t.seconds for t in tracks if fold_of[t.composition] == index) for index in range(3)]
    assert max(sums) - min(sums) <= 4
    for count in (1, 8):
        with pytest.raises(AudiogenError, match=f"{count} folds of 7 compositions"):
            assign_folds(tracks, count)


def test_each_fold_validates_once(data: Path, tmp_path: Path) -> None:
    told = [read_manifest(path) for path in fold_manifests(config(data), 3, tmp_path)]

    def held_out(tracks: list[Track]) -> set[str]:
        return {track.composition for track in tracks if track.split == "validation"}

    assert all(len(tracks) == 3 for tracks in told)
    assert set().union(*map(held_out, told)) == {"0", "1", "2"} and sum(len(held_out(t)) for t in told) == 3


def test_two_trials_over_folds_with_table_and_picture(data: Path, tmp_path: Path) -> None:
    recipe = runpy.run_path(str(RECIPES / "sweep.py"))
    space = tmp_path / "space.toml"
    space.write_text("[trainer.lr]\nlow = 1e-4\nhigh = 1e-2\nlog = true\n")
    recipe["main"](config(data), str(space), tmp_path / "run", 2, 2)
    told = json.loads((tmp_path / "run" / "sweep.json").read_text())
    assert [item["state"] for item in told] == ["complete", "complete"]
    assert told[0]["loss"] <= told[1]["loss"] and told[0]["values"] != told[1]["values"]
    for item in told:
        assert len(item["losses"]) == 2 and item["spread"] == pytest.approx(
            abs(item["losses"][0] - item["losses"][1]) / 2**0.5
        )
        for index, loss in enumerate(item["losses"]):
            run = tmp_path / "run" / "trials" / f"{item['number']:04d}" / f"fold-{index + 1}"
            lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
            assert lines[-1]["global_step"] == 4 and lines[-1]["validation_loss"] == pytest.approx(loss, abs=1e-6)
            assert (
                json.loads((run / "config.json").read_text())["config"]["trainer"]["lr"] == item["values"]["trainer.lr"]
            )
    table = (tmp_path / "run" / "sweep.md").read_text().splitlines()
    assert len(table) == 4 and f"{told[0]['loss']:.4f} ± " in table[2]
    assert (tmp_path / "run" / "sweep.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("validations", [2, 3], ids=["in the middle of a trial", "in its last validation"])
def test_an_interrupted_sweep_goes_on_in_the_same_trial(
    validations: int, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = list(Sweep(config(data), RATES, tmp_path / "whole").go_on(2))
    real = module._Silent.validate

    def interrupted(self: Any, model: Any) -> dict[str, float]:
        if interrupted.left == 0:  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        interrupted.left -= 1  # type: ignore[attr-defined]
        return real(self, model)

    interrupted.left = validations  # type: ignore[attr-defined]
    monkeypatch.setattr(module._Silent, "validate", interrupted)
    broken = Sweep(config(data), RATES, tmp_path / "broken")
    with pytest.raises(KeyboardInterrupt):
        list(broken.go_on(2))
    assert [result.state for result in broken.results()] == ["complete", "unfinished"]
    monkeypatch.setattr(module._Silent, "validate", real)
    again = Sweep(config(data), RATES, tmp_path / "broken")
    (rest,) = again.go_on(2)
    assert rest._replace(curve={}) == whole[1]._replace(curve={})  # the validation that was interrupted may be missing
    assert rest.curve.items() <= whole[1].curve.items() and rest.curve[4] == rest.loss
    assert [result.state for result in again.results()] == ["complete"] * 2
    assert list(Sweep(config(data), RATES, tmp_path / "broken").go_on(2)) == []


def test_a_hopeless_trial_is_pruned_and_an_impossible_one_told(data: Path, tmp_path: Path) -> None:
    space: Space = {"trainer.lr": Choice(choices=(1e-3, 1e-9)), "lm.transformer.heads": Choice(choices=(4, 3))}
    search = Sweep(config(data, max_steps=6, lr_end=0.0), space, tmp_path)
    for lr, heads in ((1e-3, 4), (1e-3, 4), (1e-3, 4), (1e-9, 4), (1e-3, 3)):
        search.study.enqueue_trial({"trainer.lr": lr, "lm.transformer.heads": heads})
    results = list(search.go_on(5))
    assert [result.state for result in results] == ["complete"] * 3 + ["pruned", "failed"]
    assert max(results[3].curve) == 2 and not results[3].losses
    assert "dim 32 must be heads 3 times" in results[4].why


def test_what_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(AudiogenError, match="4 folds of 3 compositions"):
        Sweep(config(data), RATES, tmp_path / "many", folds=4)
    search = Sweep(config(data), RATES, tmp_path / "run")
    with pytest.raises(AudiogenError, match="trains in this folder"):
        Sweep(config(data), RATES, tmp_path / "run")
    assert list(search.go_on(0)) == []
    with pytest.raises(AudiogenError, match="began with another config, space"):
        Sweep(config(data, lr=5e-3), {"trainer.lr": Choice(choices=(1.0,))}, tmp_path / "run")
    with pytest.raises(AudiogenError, match=r"trial 3: bad configuration(.|\n)*heads"):
        changed(config(data), {"lm.transformer.heads": 3}, "trial 3")


def test_without_optuna_the_extra_is_named(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['optuna'] = None\n"
        "from audiogen.training.sweep import Sweep\n"
        "from audiogen.interfaces import AudiogenError\n"
        "try: Sweep(None, {}, 'nowhere')\n"
        "except AudiogenError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert 'pip install "audiogen[sweep]"' in done.stdout, done.stderr
    assert not (tmp_path / "nowhere").exists()
