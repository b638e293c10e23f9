from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest
import torch
from laws import failed_save_changes_nothing
from torch import Tensor

from audiogen.interfaces import AudiogenError
from audiogen.training.checkpoint import Best, best_checkpoint, load_checkpoint, newest_checkpoint, save_checkpoint


def parts(value: float = 1.0, size: int = 3) -> dict[str, dict[str, Tensor]]:
    return {name: {"weight": torch.full((size, 2), value)} for name in ("model", "ema", "optimiser")}


def test_saved_and_loaded(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "checkpoints", 7, parts(2.5), {"config": {"lr": 1e-3}})
    assert path == newest_checkpoint(tmp_path / "checkpoints") == tmp_path / "checkpoints" / "00000007"
    found, state = load_checkpoint(path)
    assert found.keys() == parts().keys() and torch.equal(found["ema"]["weight"], torch.full((3, 2), 2.5))
    assert state["global_step"] == 7 and state["config"] == {"lr": 1e-3}


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None and best_checkpoint(tmp_path) is None
    for step in (5, 90, 1000, 20_000):
        save_checkpoint(tmp_path, step, parts(step), {}, keep=2, best=Best(5, 1.5))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000005", "00001000", "00020000"]
    assert newest_checkpoint(tmp_path) == tmp_path / "00020000"
    assert best_checkpoint(tmp_path) == tmp_path / "00000005"
    save_checkpoint(tmp_path, 30_000, parts(), {}, keep=1, best=Best(30_000, 1.0))
    assert [path.name for path in tmp_path.iterdir()] == ["00030000"]


def test_saving_the_same_step_again_replaces_it(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 5, parts(1.0), {})
    (tmp_path / ".00000004.part").mkdir()  # of a run that was killed while it saved
    save_checkpoint(tmp_path, 5, parts(2.0), {})
    assert [path.name for path in tmp_path.iterdir()] == ["00000005"]
    assert float(load_checkpoint(tmp_path / "00000005")[0]["model"]["weight"][0, 0]) == 2.0


def test_failed_save_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):  # once with nothing there, once over a checkpoint
        failed_save_changes_nothing(
            lambda: save_checkpoint(tmp_path, 5, parts(), {}),
            tmp_path / "00000005",
            "audiogen.training.checkpoint.save_file",
            monkeypatch,
        )
        save_checkpoint(tmp_path, 5, parts(), {})


def test_a_disk_that_fills_up_leaves_the_whole_ones(tmp_path: Path) -> None:
    """For real, by the limit that the system sets on the size of a file."""
    whole = save_checkpoint(tmp_path, 5, parts(), {}, keep=1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(AudiogenError, match=r"00000006: the checkpoint could not be written: .*are whole"):
            save_checkpoint(tmp_path, 6, parts(size=100_000), {}, keep=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert newest_checkpoint(tmp_path) == whole and [path.name for path in tmp_path.iterdir()] == ["00000005"]


@pytest.mark.parametrize("name", ["model.safetensors", "optimiser.safetensors", "state.json", "hashes.json"])
@pytest.mark.parametrize("harm", ["cut", "altered", "gone"])
def test_a_torn_checkpoint_is_named_and_passed_over(
    name: str, harm: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, torn = (save_checkpoint(tmp_path, step, parts(), {}) for step in (5, 6))
    data = (torn / name).read_bytes()
    if harm == "gone":
        (torn / name).unlink()
    else:
        (torn / name).write_bytes(data[:-5] if harm == "cut" else data[:-20] + bytes(5) + data[-15:])
    with pytest.raises(AudiogenError, match=r"00000006: not a whole checkpoint"):
        load_checkpoint(torn)
    assert newest_checkpoint(tmp_path) == whole
    said = capsys.readouterr().err
    assert said.startswith(f"{torn}: passed over, not a whole checkpoint: ") and said.count("\n") == 1
    save_checkpoint(tmp_path, 6, parts(), {})
    assert newest_checkpoint(tmp_path) == torn


def test_one_of_another_format_is_named(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 5, parts(), {})
    (path / "state.json").write_text(json.dumps({"format": 9}))
    with pytest.raises(AudiogenError, match=r"its format is 9, this version reads 2"):
        load_checkpoint(path)


def test_weights_of_format_1_are_read(tmp_path: Path) -> None:
    """Runs of 0.4.0 can still be exported."""
    path = save_checkpoint(tmp_path, 5, parts(3.0), {})
    (path / "hashes.json").unlink()
    (path / "state.json").write_text(json.dumps({"format": 1, "global_step": 5}))
    assert newest_checkpoint(tmp_path) == path
    found, state = load_checkpoint(path)
    assert state["format"] == 1 and float(found["ema"]["weight"][0, 0]) == 3.0
