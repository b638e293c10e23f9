from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from accelerate.utils import LoggerType

from audiogen.interfaces import AudiogenError
from audiogen.training.processes import flat, make_accelerator
from audiogen.training.task import TrainerConfig


def made(run: Path, **changes: Any) -> Any:
    values = {"max_steps": 1, "batch_size": 1, "lr": 1.0, "mixed_precision": "no"} | changes
    return make_accelerator(TrainerConfig.model_validate(values), run)


def test_trackers_are_known_and_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AudiogenError, match=r"'tensorbord' is none of .*tensorboard"):
        made(tmp_path, trackers=["tensorbord"])
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", lambda: [LoggerType.TENSORBOARD])
    with pytest.raises(AudiogenError, match=r"wandb is not installed; pip install wandb"):
        made(tmp_path, trackers=["wandb"])
    monkeypatch.setattr("accelerate.accelerator.filter_trackers", lambda names, *_: names)
    assert made(tmp_path, trackers=["tensorboard"]).log_with == ["tensorboard"]


def test_settings_are_told_flat() -> None:
    told = flat({"trainer": {"lr": 1.0, "betas": [0.9, 0.95]}, "start_from": None, "run": "a"})
    assert told == {"trainer.lr": 1.0, "trainer.betas": "[0.9, 0.95]", "start_from": "None", "run": "a"}


def test_with_tensorboard_itself(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    accelerator = made(tmp_path, trackers=["tensorboard"])
    accelerator.init_trackers("run", flat({"trainer": {"lr": 1.0, "betas": [0.9, 0.95]}, "start_from": None}))
    accelerator.log({"loss": 2.0}, step=1)
    accelerator.end_training()
    assert list(tmp_path.rglob("events.out.tfevents.*"))
