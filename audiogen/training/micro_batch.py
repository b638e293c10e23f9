"""How a global batch is cut over processes and turns, and what to do when a part does not fit into memory."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from audiogen.interfaces import AudiogenError


@dataclass(frozen=True)
class Share:
    """What one process does of each update: `accumulation` micro-batches in turn."""

    batch_size: int
    """segments an update, over all processes and turns"""
    processes: int
    accumulation: int

    def __post_init__(self) -> None:
        parts = self.processes * self.accumulation
        if self.batch_size % parts:
            raise AudiogenError(
                f"batch_size {self.batch_size} must be a multiple of processes × accumulation = {parts}"
            )

    @property
    def micro_batch(self) -> int:
        """Segments that a process holds at once."""
        return self.batch_size // (self.processes * self.accumulation)

    def positions(self, step: int, turn: int, process: int) -> range:
        """Positions of the micro-batch of `process`, in the order that all runs of a seed share."""
        first = step * self.batch_size + (turn * self.processes + process) * self.micro_batch
        return range(first, first + self.micro_batch)

    def of_step(self, step: int) -> range:
        """Positions of the whole global batch."""
        return range(step * self.batch_size, (step + 1) * self.batch_size)

    def smaller(self) -> Share | None:
        """Half the micro-batch in twice the turns; an odd one in as many as divide it. None when it is one segment."""
        for factor in range(2, self.micro_batch + 1):
            if self.micro_batch % factor == 0:
                return replace(self, accumulation=self.accumulation * factor)
        return None

    def at_most(self, micro_batch: int) -> Share:
        """The largest share that holds no more than `micro_batch` segments at once."""
        share = self
        while share.micro_batch > micro_batch:
            share = share.smaller() or share
        return share


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that a device or this machine had no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def buffers(module: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """The module's buffers, each with a copy of what it holds now."""
    return [(buffer, buffer.clone()) for buffer in module.buffers()]


def put_back(held: list[tuple[Tensor, Tensor]]) -> None:
    """Undo what a pass that did not count has done to the `buffers` held."""
    for buffer, before in held:
        buffer.copy_(before)
