"""Tensors of a module that FSDP2 has spread over processes: each holds a part of every one (a `DTensor`).

A checkpoint holds whole tensors, gathered one after another, so the number of processes may change between runs.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor


def part(tensor: Tensor) -> Tensor:
    """What this process holds of `tensor`, the same memory; a plain tensor is itself."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """All of `tensor`, on every process that holds a part; all of them must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def alike(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole `tensor`, the same on every process, spread as `like` is where it has its shape, and on its device."""
    moved = tensor.to(part(like).device)
    if isinstance(like, DTensor) and moved.shape == like.shape:
        return distribute_tensor(moved, like.device_mesh, like.placements, src_data_rank=None)
    return moved


def gathered(tensors: Mapping[str, Tensor], keep: bool) -> dict[str, Tensor]:
    """Whole copies on the CPU, of which only the processes with `keep` hold on to."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        full = whole(tensor.detach())
        if keep:
            found[name] = full.cpu()
    return found


def reshard(module: nn.Module) -> None:
    """Put away what a forward pass has gathered and no backward pass has let go; of other modules nothing."""
    for each in module.modules():
        if isinstance(each, FSDPModule):
            each.reshard()


@torch.no_grad()
def fill(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put whole `tensors`, one for each name of `module`'s state, into a module that may be spread."""
    for name, own in module.state_dict().items():
        part(own).copy_(part(alike(tensors[name], own)))


@torch.no_grad()
def average(averaged: Mapping[str, Tensor], state: Mapping[str, Tensor], decay: float) -> None:
    """Draw moving averages of a module's state on by one update, in place; what is no floating-point number is taken
    over. Each process does what it holds."""
    now, kept = ({name: part(value) for name, value in each.items()} for each in (state, averaged))
    floats = [name for name, value in now.items() if value.is_floating_point()]
    torch._foreach_lerp_([kept[name] for name in floats], [now[name] for name in floats], 1 - decay)
    for name in now.keys() - set(floats):
        kept[name].copy_(now[name])
