"""What the trainer trains, and how: the protocol of a task and the settings that all tasks share."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn

from audiogen.config import Config


class TrainerConfig(Config):
    """How to train; what to train is the task's own configuration."""

    may_change: ClassVar[frozenset[str]] = frozenset({
        "accumulation", "checkpoint_activations", "validate_every", "checkpoint_every_seconds", "keep_checkpoints",
        "most_bad_losses", "trackers", "threads",
    })  # fmt: skip
    """fields that may be other ones when a run is resumed"""

    seed: int = 1
    max_steps: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    """segments an optimiser update, over all processes and accumulation"""
    accumulation: int = Field(default=1, gt=0)
    """micro-batches an update on each process, to begin with; doubled whenever one does not fit into memory"""
    checkpoint_activations: bool = False
    """keep of each block its input only and compute the rest again: less memory, a third more work"""
    lr: float = Field(gt=0)
    lr_end: float = 0.0
    matrix_pace: float = Field(default=3.0, gt=0)
    """learning rate of the matrices, which Muon turns, as a multiple of `lr`, which is AdamW's"""
    warmup_steps: int = 200
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.95)
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    mixed_precision: str = "bf16"
    validate_every: int = 500
    checkpoint_every_seconds: float = 240.0
    keep_checkpoints: int = Field(default=2, gt=0)
    """how many of the newest are kept; the one of the lowest validation loss always is"""
    most_bad_losses: int = Field(default=10, ge=0)
    """updates in a row that may be skipped because the loss or the gradient is not finite"""
    trackers: tuple[str, ...] = ()
    """such as "tensorboard", "trackio" or "wandb", by way of Accelerate; metrics.jsonl is written always"""
    threads: int = 0
    """CPU threads; 0 leaves PyTorch's choice"""


class Task(Protocol):
    """What the trainer trains: a module, excerpts by position, a loss, a validation.

    Every weight takes part in every loss, be it with nothing: several processes wait for each other's gradients.
    """

    module: nn.Module
    heads: tuple[str, ...]
    """linear layers that only read the result out: their rows are learned one by one"""
    blocks: tuple[nn.Module, ...]
    """parts called one after another, that may be computed again or spread one by one"""
    samples: int
    """excerpts an epoch"""
    frames: int
    """frames an excerpt"""

    def batch(self, positions: range) -> Any: ...
    def weight(self, batch: Any) -> float:
        """How much the batch's mean loss counts among others: the number of what it is the mean of."""
        ...

    def names(self, positions: range) -> list[str]:
        """Where the excerpts at `positions` come from."""
        ...

    def loss(self, module: nn.Module, batch: Any, step: int) -> tuple[Tensor, dict[str, Tensor]]: ...
    def validate(self, module: nn.Module) -> dict[str, float]: ...
    def write_samples(self, module: nn.Module, folder: Path) -> None: ...
    def fingerprint(self) -> dict[str, str]: ...


class Objective(nn.Module):
    """A task's module with its loss, called as one: what Accelerate wraps sees every use of a weight."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.module = task.module
        self._loss = task.loss
        self._no_split_modules = sorted({type(block).__name__ for block in task.blocks})  # what FSDP2 spreads by itself

    def forward(self, batch: Any, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        return self._loss(self.module, batch, step)


def to_device(batch: Any, device: torch.device) -> Any:
    """A batch's tensors on `device`; the rest as it is."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, dict):
        return {name: to_device(value, device) for name, value in batch.items()}
    return batch
