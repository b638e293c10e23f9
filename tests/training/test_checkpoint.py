from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from laws import failed_save_changes_nothing
from torch import Tensor, nn

from audiogen.interfaces import AudiogenError
from audiogen.training.checkpoint import (
    flatten_optimiser,
    load_checkpoint,
    newest_checkpoint,
    restore_optimiser,
    save_checkpoint,
)


def parts(value: float = 1.0) -> dict[str, dict[str, Tensor]]:
    return {name: {"weight": torch.full((3, 2), value)} for name in ("model", "ema", "optimiser")}


def test_saved_and_loaded(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "checkpoints", 7, parts(2.5), {"config": {"lr": 1e-3}})
    assert path == newest_checkpoint(tmp_path / "checkpoints") == tmp_path / "checkpoints" / "00000007"
    found, state = load_checkpoint(path)
    assert found.keys() == parts().keys() and torch.equal(found["ema"]["weight"], torch.full((3, 2), 2.5))
    assert state["global_step"] == 7 and state["config"] == {"lr": 1e-3}


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    for step in (5, 90, 1000, 20_000):
        save_checkpoint(tmp_path, step, parts(step), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00001000", "00020000"]
    assert newest_checkpoint(tmp_path) == tmp_path / "00020000"


def test_saving_the_same_step_again_replaces_it(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 5, parts(1.0), {})
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


def test_a_torn_or_foreign_checkpoint_is_named(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 5, parts(), {})
    whole = (path / "ema.safetensors").read_bytes()
    (path / "ema.safetensors").write_bytes(whole[:-5])
    with pytest.raises(AudiogenError, match=r"00000005: not a whole checkpoint"):
        load_checkpoint(path)
    (path / "ema.safetensors").unlink()
    with pytest.raises(AudiogenError, match=r"00000005: not a whole checkpoint .*ema"):
        load_checkpoint(path)
    (path / "ema.safetensors").write_bytes(whole)
    (path / "state.json").write_text(json.dumps({"format": 9}))
    with pytest.raises(AudiogenError, match=r"00000005: checkpoint format 9, this version reads 1"):
        load_checkpoint(path)
    (path / "state.json").write_text("{")
    with pytest.raises(AudiogenError, match=r"00000005: not a whole checkpoint"):
        load_checkpoint(path)
    (path / "state.json").unlink()
    assert newest_checkpoint(tmp_path) is None


def test_optimiser_state_makes_the_round_trip() -> None:
    def stepped(count: int) -> tuple[nn.Module, torch.optim.AdamW]:
        torch.manual_seed(0)
        module = nn.Linear(3, 2)
        optimiser = torch.optim.AdamW(module.parameters(), lr=1e-2)
        for step in range(count):
            step_once(module, optimiser, step)
        return module, optimiser

    def step_once(module: nn.Module, optimiser: torch.optim.AdamW, step: int) -> None:
        module(torch.full((1, 3), float(step + 1))).square().sum().backward()
        optimiser.step()
        optimiser.zero_grad()

    module, optimiser = stepped(3)
    other, fresh = stepped(0)
    other.load_state_dict(module.state_dict())
    restore_optimiser(fresh, {name: value.clone() for name, value in flatten_optimiser(optimiser).items()})
    for one, steps in ((module, optimiser), (other, fresh)):
        step_once(one, steps, 3)
    assert torch.equal(module.weight, other.weight) and torch.equal(module.bias, other.bias)  # type: ignore[arg-type]
