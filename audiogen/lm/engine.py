"""The step of a language model, everything from codes to codes: who computes it, and in which numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from audiogen.compiler import NoKernel, kernel
from audiogen.interfaces import AudiogenError
from audiogen.lm.model import MusicLM
from audiogen.lm.musicgen import MusicGen
from audiogen.lm.sampling import Sampling, draw, guide, uniform

Settled = Literal["int8", "bfloat16", "float32"]
Precision = Literal["auto"] | Settled
CPU = torch.device("cpu")


class OutOfRoomError(AudiogenError):
    """No memory for so many streams at once; none of them has moved."""


@dataclass
class Turn:
    """What one stream asks an engine for: some positions of its own."""

    state: Any
    """as `Engine.begin` made it; it moves on"""
    last: Tensor
    """codes of the position before, int64 `[K]`"""
    lanes: np.ndarray
    """float32 `[steps, N]`"""
    forced: Tensor
    """codes that are known, int64 `[steps, K]`; -1 where one is to be drawn"""
    sampling: Sampling
    seed: int
    first_draw: int
    """of the random numbers, one a position"""
    logits: Tensor | None = None
    """to be filled with what was drawn from, guided, float32 `[steps, K, V]`"""


class Engine(Protocol):
    """Steps streams of one model. The state is the caller's; the codes of a stream do not depend on the others."""

    config: Any
    precision: Settled

    def begin(self, prefix: Tensor) -> Any:
        """Prefix `[R, L, D]`, with the prompt and, for guidance, without (R = 1 or 2) → a stream's state."""
        ...

    def steer(self, prefix: Tensor, state: Any) -> None:
        """Another prefix of the same length in the place of the first; what was played stays."""
        ...

    def read(self, turn: Turn) -> None:
        """Go over positions whose codes are all forced."""
        ...

    def run(self, turns: Sequence[Turn]) -> list[Tensor]:
        """The next codes of each turn, int64 `[steps, K]`; all turns have as many steps."""
        ...


def settle_device(device: str, precision: Precision = "auto") -> torch.device:
    """What "auto" means on this machine: the first GPU where PyTorch finds one, unless int8 is asked for; "cuda:1" is
    the second. Raises AudiogenError for another name, a GPU that is not there, and int8 on one.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() and precision != "int8" else "cpu"
    if device == "cpu":
        return CPU
    told = re.fullmatch(r"cuda(?::([0-9]{1,3}))?", device)
    if told is None:
        raise AudiogenError(f"device {device!r}: expected auto, cpu, cuda, or cuda:1 for the second GPU")
    if not torch.cuda.is_available():
        built = torch.version.cuda is not None
        mend = "install NVIDIA's driver (nvidia-smi must list the GPU)" if built else "install a build for CUDA"
        why = "finds no GPU here" if built else "is built without CUDA"
        raise AudiogenError(f"device {device}: PyTorch {torch.__version__} {why}: {mend}, or use cpu")
    index, count = int(told[1] or 0), torch.cuda.device_count()
    if index >= count:
        raise AudiogenError(f"device {device}: this machine's GPUs are cuda:0 to cuda:{count - 1}")
    if precision == "int8":
        raise AudiogenError(f"device {device}: int8 is for CPUs; on a GPU use bfloat16 or float32")
    return torch.device("cuda", index)


def settle_precision(
    precision: Precision, ours: bool = True, recurrent: bool = False, device: torch.device = CPU
) -> Settled:
    """What "auto" means on this machine: int8 for our own models and bfloat16 for others where the kernel can be
    compiled; else PyTorch, in bfloat16 where the processor has instructions for it. An LSTM has no kernel. On a GPU
    it is bfloat16.

    Raises AudiogenError for int8 without a kernel.
    """
    if device.type == "cuda" and precision == "auto":
        return "bfloat16"
    found = NoKernel("an LSTM has none") if recurrent else kernel()
    if precision == "int8" and isinstance(found, NoKernel):
        raise AudiogenError(f"precision int8 needs the compiled kernel: {found}; use bfloat16 or float32")
    if precision != "auto":
        return precision
    if not isinstance(found, NoKernel):
        return "int8" if ours else "bfloat16"
    fast = torch.backends.cpu.get_cpu_capability() == "AVX512" and torch.cpu._is_avx512_bf16_supported()
    return "bfloat16" if fast else "float32"


def make_engine(
    model: MusicLM | MusicGen, precision: Settled, threads: int | None = None, device: torch.device = CPU
) -> Engine:
    """The fastest engine there is for `model` in `precision` on `device`; it takes the model's weights over.

    `threads` as PyTorch's if not given. Raises AudiogenError for int8 without a kernel.
    """
    recurrent = isinstance(model, MusicLM) and model.config.recurrent is not None
    if device.type == "cuda" and precision != "int8" and not recurrent:
        from audiogen.lm.graphed import GraphedEngine

        return GraphedEngine(model, precision, device)
    compiled = device.type == "cpu" and not recurrent and not isinstance(kernel(), NoKernel)
    if precision == "int8" or (precision == "bfloat16" and compiled):
        from audiogen.lm.native import NativeEngine

        return NativeEngine(model, precision, threads or torch.get_num_threads())
    if isinstance(model, MusicGen):
        model.read_all(device)
    return EagerEngine(model.to(device, torch.bfloat16 if precision == "bfloat16" else torch.float32))


class EagerEngine:
    """Implements `Engine` with PyTorch, one stream after another: the reference, for every model and machine."""

    def __init__(self, model: Any) -> None:
        self.model, self.config = model, model.config
        self._device, self._dtype = model.heads.weight.device, model.heads.weight.dtype
        self.precision: Settled = "bfloat16" if self._dtype == torch.bfloat16 else "float32"

    def begin(self, prefix: Tensor) -> Any:
        return self.model.init_state(prefix.to(self._device, self._dtype))

    def steer(self, prefix: Tensor, state: Any) -> None:
        self.model.set_prefix(prefix.to(self._device, self._dtype), state)

    def read(self, turn: Turn) -> None:
        rows = _rows(turn)
        codes = torch.cat([turn.last[None], turn.forced[:-1]]).T.expand(rows, -1, -1).to(self._device)
        lanes = self._lanes(turn, rows)
        if isinstance(self.model, MusicGen):  # which reads many positions at once
            self.model.step(codes, lanes, turn.state)
            return
        for position in range(len(turn.forced)):
            here = slice(position, position + 1)
            self.model.step(codes[:, :, here], lanes[:, here], turn.state)

    def run(self, turns: Sequence[Turn]) -> list[Tensor]:
        return [self._run(turn) for turn in turns]

    def _run(self, turn: Turn) -> Tensor:
        steps, books = turn.forced.shape
        rows, sampling = _rows(turn), turn.sampling
        lanes = self._lanes(turn, rows)
        counter = torch.arange(turn.first_draw, turn.first_draw + steps)
        numbers = uniform(torch.tensor(turn.seed), counter, books).to(self._device)
        last, known, made = turn.last.to(self._device), turn.forced.to(self._device), []
        for step in range(steps):
            codes = last.expand(rows, -1)[:, :, None]
            logits = self.model.step(codes, lanes[:, step : step + 1], turn.state)[:, :, 0].float()
            guided = guide(logits, sampling.guidance)[0] if rows == 2 else logits[0]
            if turn.logits is not None:
                turn.logits[step] = guided
            last = torch.where(known[step] < 0, draw(guided, sampling, numbers[step]), known[step])
            made.append(last)
        return torch.stack(made).cpu()

    def _lanes(self, turn: Turn, rows: int) -> Tensor:
        """`[R, steps, N]`; without the prompt there is no score either."""
        told = torch.from_numpy(turn.lanes).to(self._device, self._dtype)
        return torch.stack([told, torch.zeros_like(told)])[:rows]


def _rows(turn: Turn) -> int:
    return 1 if turn.sampling.guidance == 1 else 2
