"""A toy task that has all that makes resuming hard: dropout, a buffer that every forward changes, momentum."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audiogen.config import Config
from audiogen.training.task import TrainerConfig
from audiogen.training.trainer import Trainer


class Module(nn.Module):
    seen: Tensor

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 1))
        self.register_buffer("seen", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen.lerp_(x.mean(0), 0.1)
        return self.layers(x + self.seen)


class Toy:
    """Learns the sum of four numbers. `hooks` are called with the step, inside the loss, after forward."""

    heads = ("layers.3",)
    samples, frames = 1000, 1

    def __init__(self, dropout: float = 0.3) -> None:
        torch.manual_seed(0)
        self.module: nn.Module = Module(dropout)
        self.blocks = (self.module.layers[0], self.module.layers[3])  # type: ignore[index, union-attr]
        self.asked: list[int] = []
        self.hooks: list[Any] = []
        self.validating: list[Any] = []

    def batch(self, positions: range) -> Tensor:
        self.asked += positions
        return torch.from_numpy(np.stack([np.random.default_rng(p).normal(size=4) for p in positions])).float()

    def weight(self, batch: Tensor) -> float:
        return float(len(batch))

    def names(self, positions: range) -> list[str]:
        return [f"{position}.wav" for position in positions]

    def loss(self, module: nn.Module, batch: Tensor, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        loss = (module(batch)[:, 0] - batch.sum(1)).square().mean()
        for hook in self.hooks:
            loss = hook(loss, step)
        return loss, {"largest": batch.abs().max()}

    def validate(self, module: nn.Module) -> dict[str, float]:
        assert not module.training
        for hook in self.validating:
            hook(module)
        return {"loss": 1.0}

    def write_samples(self, module: nn.Module, folder: Path) -> None: ...

    def fingerprint(self) -> dict[str, str]:
        return {"manifest": "abc"}


def settings(**changes: Any) -> TrainerConfig:
    values: dict[str, Any] = {
        "max_steps": 6, "batch_size": 4, "lr": 1e-2, "warmup_steps": 2, "mixed_precision": "no", "threads": 1,
        "checkpoint_every_seconds": 0.0, "validate_every": 2,
    }  # fmt: skip
    return TrainerConfig.model_validate(values | changes)


class ToyConfig(Config):
    trainer: TrainerConfig


def trainer(run: Path, task: Toy | None = None, **changes: Any) -> Trainer:
    return Trainer(task or Toy(), run, ToyConfig(trainer=settings(**changes)))


def weights(made: Trainer) -> Tensor:
    return torch.cat([value.detach().flatten() for value in made.task.module.parameters()])


# --- resume -----------------------------------------------------------------------------------------------------------
