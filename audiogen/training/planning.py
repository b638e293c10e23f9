"""What a training would take, found without weights or data: a model of fake tensors is run, and its cost scaled up.

The same counts as the trainer's (`training/cost.py`), on PyTorch's `FakeTensorMode`, where a tensor has a shape and no
memory. Two depths, two batches and three lengths tell apart what grows with each.
"""

from __future__ import annotations

import math
import os
import timeit
from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from audiogen.interfaces import AudiogenError
from audiogen.lm import transformer
from audiogen.lm.conditioning import PrefixEncoder
from audiogen.lm.model import MusicLM, MusicLMConfig
from audiogen.lm.score import NUM_LANES
from audiogen.training.cost import Cost, Memory, measure, standing
from audiogen.training.lm_trainer import LMTask, LMTrainingConfig
from audiogen.training.machine import matrix_peak
from audiogen.training.micro_batch import Share
from audiogen.training.optimiser import MuonAdamW

BACKWARD = 2  # times the operations of the forward pass
WAYS = ((False, False), (False, True), (True, False), (True, True))
"""to spread by FSDP2 or not, to compute blocks again or not"""
USABLE = 0.92
"""share of a processor's memory that tensors may fill; the rest is the libraries' and lost between blocks"""
_CODE_BYTES = 2  # int16 on disk


class Machine(NamedTuple):
    """One processor of a training and what it can do."""

    name: str
    operations_a_second: float
    """in bfloat16, achievable"""
    memory_bytes: float
    memory_bytes_a_second: float
    link_bytes_a_second: float
    """to the other processors, each way"""
    keeps_scores: bool
    """whether attention is spelled out there, so that its scores are kept for the backward pass"""


H200 = Machine("H200", 790e12, 141e9, 4.8e12, 400e9, keeps_scores=False)
"""In nodes of eight: 450 GB/s between neighbours inside, and outside 400 Gbit/s for each of the eight, which share what
a node sends."""


class Layout(NamedTuple):
    """How a training is spread: processes, segments held at once, FSDP2, blocks computed again."""

    processes: int
    micro_batch: int
    spread: bool
    again: bool

    def __str__(self) -> str:
        way = "one process" if self.processes == 1 else "FSDP2" if self.spread else "DDP"
        return way + (", activations checkpointed" if self.again else "")


@dataclass(frozen=True)
class Estimate:
    """Cost of training `config`; operations and bytes are those of the forward pass of one excerpt, if not said."""

    config: LMTrainingConfig
    parameters: int
    in_blocks: int
    """parameters in the blocks, of all"""
    standing: Memory
    """of one process that holds everything"""
    operations: int
    """with every query against every key; the trainer's own count leaves out what its code does"""
    attention: int
    """of these in attention"""
    seen: int
    """operations of attention that count: each frame with the prefix and the frames of its window"""
    optimiser_operations: int
    """of an update, shared by all processes"""
    turned: int
    """weights in the largest group of matrices of one shape, which Muon turns together"""
    copies: int
    """bytes of the weights in the precision of the products, kept whatever the batch"""
    kept: int
    """bytes kept for the backward pass, without scores"""
    scores: int
    """bytes of attention's scores"""
    block_kept: int
    """of `kept`, by one block"""
    block_scores: int
    block_input: int

    @property
    def needed(self) -> int:
        """Operations of a forward pass, attention over its window only."""
        return self.operations - self.attention + self.seen

    @property
    def update_operations(self) -> int:
        """Of forward and backward passes of a whole batch and of the optimiser, attention over its window only."""
        return (1 + BACKWARD) * self.needed * self.config.trainer.batch_size + self.optimiser_operations

    @property
    def update_frames(self) -> int:
        return self.config.trainer.batch_size * self.config.segment_frames

    @property
    def update_bytes(self) -> int:
        """Read from the data."""
        return self.update_frames * self.config.lm.num_codebooks * _CODE_BYTES

    def again_operations(self) -> int:
        """What computing the blocks again adds to an update."""
        return round(self.needed * self.in_blocks / self.parameters) * self.config.trainer.batch_size

    def memory(self, layout: Layout, machine: Machine) -> Memory:
        """Of one process, about, at the moment when it holds most: after the forward pass, or while Muon works.

        All gradients count, though a process that does its part in one turn has none yet after the forward pass.
        """
        whole, outside = self.standing, 1 - self.in_blocks / self.parameters
        depth = _depth(self.config.lm)
        scores = self.scores if machine.keeps_scores else 0
        each, block = self.kept + scores, self.block_kept + (self.block_scores if machine.keeps_scores else 0)
        config = self.config.lm
        logits = 4 * config.num_codebooks * config.codebook_size * self.config.segment_frames
        if layout.again:
            each -= depth * (block - self.block_input)
        moment = max(2 * logits, block if layout.again else 0)  # the loss's gradients; later, a block computed again
        working = (each + moment) * layout.micro_batch
        copies = self.copies * (outside + (1 - outside) / depth) if layout.again else self.copies
        turning = 4 * self.turned * (2 if layout.spread else 4)  # as they come, stacked, from everyone, put together
        if not layout.spread:
            twice = 2 if layout.processes > 1 else 1  # DDP's buckets
            return whole._replace(gradients=twice * whole.gradients, activations=round(max(working + copies, turning)))
        gathered = whole.parameters * (outside + 2 * (1 - outside) / depth)  # outside of blocks, and two of these
        spread = [math.ceil(value / layout.processes) for value in whole[:4]]
        return Memory._make([*spread, round(max(working + copies + gathered, turning))])

    def exchanged(self, layout: Layout, accumulation: int) -> int:
        """Bytes an update that each process sends, and receives as many.

        The sum of the gradients takes two passes over them. FSDP2 gathers all weights twice a turn and shares out
        gradients once. Muon's momentum is gathered where it is spread, and the updates it makes go to everyone.
        """
        passes = 3 * accumulation if layout.spread else 2
        return round((passes + 1) * self.standing.parameters * (layout.processes - 1) / layout.processes)

    def seconds(self, layout: Layout, machine: Machine, share: float) -> float:
        """An update, when useful operations go at `share` of the machine's rate."""
        return self.update_operations / (machine.operations_a_second * share * layout.processes)


class _Imagined(LMTask):
    """The task without data: its loss."""

    def __init__(self, config: LMTrainingConfig) -> None:
        self.config = config


def estimate(config: LMTrainingConfig) -> Estimate:
    """Find the cost of `config` in a few seconds, in no memory, whatever the model's size."""
    frames, depth = config.segment_frames, _depth(config.lm)
    with FakeTensorMode(allow_non_fake_inputs=True):
        module = MusicLM(config.lm)
        module.requires_grad_(True)
        optimiser = MuonAdamW(
            module, betas=config.trainer.betas, weight_decay=config.trainer.weight_decay, not_matrices=LMTask.heads
        )
        stands = standing(optimiser.param_groups, module.state_dict())
        for weight in module.parameters():
            weight.grad = torch.empty_like(weight)
        with FlopCounterMode(display=False) as counter:
            optimiser.step()
        shapes = Counter(
            weight.shape for group in optimiser.param_groups if group["matrices"] for weight in group["params"]
        )
        turned = max(count * shape.numel() for shape, count in shapes.items())
        parameters = sum(weight.numel() for weight in module.parameters())
        blocks = [*getattr(module.trunk, "blocks", getattr(module.trunk, "layers", ()))]
        in_blocks = sum(weight.numel() for block in blocks for weight in block.parameters())

        found = {
            (deep, batch, times): _run(config, deep, batch, times * frames)
            for deep in (1, 2)
            for batch in (1, 2)
            for times in (1, 2, 3)
        }
    each = {
        (deep, times): found[deep, 2, times].kept_bytes - found[deep, 1, times].kept_bytes
        for deep in (1, 2)
        for times in (1, 2, 3)
    }
    block = {times: each[2, times] - each[1, times] for times in (1, 2, 3)}
    scores = max(0, (block[3] - 2 * block[2] + block[1]) // 2)  # what grows with the square of the length
    copies = {deep: 2 * found[deep, 1, 1].kept_bytes - found[deep, 2, 1].kept_bytes for deep in (1, 2)}
    rest = each[1, 1] - block[1]
    forward = {deep: found[deep, 1, 1].operations for deep in (1, 2)}
    attention, seen = _attention(config)
    return Estimate(
        config=config, parameters=parameters, in_blocks=in_blocks, standing=stands,
        operations=forward[1] + (depth - 1) * (forward[2] - forward[1]), attention=attention, seen=seen,
        optimiser_operations=int(counter.get_total_flops()), turned=turned,
        copies=copies[1] + (depth - 1) * (copies[2] - copies[1]),
        kept=rest + depth * (block[1] - scores), scores=depth * scores,
        block_kept=block[1] - scores, block_scores=scores,
        block_input=4 * config.lm.dim * (frames + PrefixEncoder.length),
    )  # fmt: skip


def _run(config: LMTrainingConfig, depth: int, batch: int, frames: int) -> Cost:
    trunk = "transformer" if config.lm.recurrent is None else "recurrent"
    values = config.lm.model_dump()
    lm = MusicLMConfig.model_validate(values | {trunk: values[trunk] | {"depth": depth}})
    task = _Imagined(config.model_copy(update={"lm": lm}))
    module = MusicLM(lm)
    codes = torch.zeros(batch, lm.num_codebooks, frames, dtype=torch.long)
    told: dict[str, Any] = {
        "inputs": codes, "targets": codes, "lanes": torch.zeros(batch, frames, NUM_LANES), "prompts": [None] * batch
    }  # fmt: skip
    every = mock.patch.object(transformer, "_columns", lambda mask: [(0, mask.shape[1])], create=True)  # a mask is data
    with every, torch.autocast("cpu", torch.bfloat16, enabled=config.trainer.mixed_precision == "bf16"):
        return measure(lambda: task.loss(module, told, 0), module)


def _attention(config: LMTrainingConfig) -> tuple[int, int]:
    """Operations of attention in a forward pass: of every query with every key, and of those that see each other."""
    if config.lm.recurrent is not None:
        return 0, 0
    sizes, prefix, frames = config.lm.transformer, PrefixEncoder.length, config.segment_frames
    window = min(sizes.window_frames, frames)
    near = window * (window + 1) // 2 + (frames - window) * window
    pairs = 4 * sizes.dim * sizes.depth  # a product with the key and one with the value
    return pairs * (prefix + frames) ** 2, pairs * (prefix * prefix + frames * prefix + near)


def _depth(lm: MusicLMConfig) -> int:
    return (lm.recurrent or lm.transformer).depth


def here() -> Machine:
    """This machine, measured now, in two seconds: all its cores together, or one of its GPUs."""
    if torch.cuda.is_available():
        device, memory = torch.device("cuda"), torch.cuda.get_device_properties(0).total_memory
    else:
        device, memory = torch.device("cpu"), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    a, b = torch.ones(2, 2**26, dtype=torch.uint8, device=device)
    fastest = min(timeit.repeat(lambda: b.copy_(a).sum().item(), number=1, repeat=5))
    rate = matrix_peak(device, torch.bfloat16)
    return Machine("this machine", rate, memory, 3 * 2**26 / fastest, math.inf, keeps_scores=device.type == "cpu")


def fitted(estimate: Estimate, machine: Machine, processes: int, spread: bool, again: bool) -> tuple[Share, Memory]:
    """The largest share of the batch that fits into `machine`, from the configured accumulation on, and its memory.

    Raises AudiogenError when not one segment fits, and when the batch cannot be shared equally.
    """
    trainer = estimate.config.trainer
    share: Share | None = Share(trainer.batch_size, processes, trainer.accumulation)
    while share is not None:
        memory = estimate.memory(Layout(processes, share.micro_batch, spread, again), machine)
        if memory.total <= USABLE * machine.memory_bytes:
            return share, memory
        share = share.smaller()
    raise AudiogenError(f"one segment takes {memory.total / 1e9:.3g} of {machine.memory_bytes / 1e9:.3g} GB")


def verdict(estimate: Estimate, machine: Machine, processes: int) -> str:
    """Whether the configuration fits as it is written, and the mend."""
    trainer = estimate.config.trainer
    parts = processes * trainer.accumulation
    if trainer.batch_size % parts:
        return f"batch_size {trainer.batch_size} is no multiple of {parts}, processes × accumulation: change it"
    again, micro = trainer.checkpoint_activations, trainer.batch_size // parts
    held = estimate.memory(Layout(processes, micro, False, again), machine).total
    said = f"as written, {micro} segments at once, {held / 1e9:.3g} of {machine.memory_bytes / 1e9:.3g} GB"
    if held <= USABLE * machine.memory_bytes:
        return f"fits ({said})"
    for spread, again in sorted(WAYS, key=lambda way: (way[1], way[0])):
        if (again or not trainer.checkpoint_activations) and (processes > 1 or not spread):
            try:
                share, _ = fitted(estimate, machine, processes, spread, again)
            except AudiogenError:
                continue
            mend = [f"trainer.accumulation={share.accumulation}"]
            mend += ["trainer.checkpoint_activations=true"] * again + ["FSDP2"] * spread
            return f"DOES NOT FIT ({said}): {', '.join(mend)}"
    return f"DOES NOT FIT ({said}), in no way: a smaller segment_frames or model"
