"""AdamW for vectors and tables, Muon for the matrices of linear layers.

Adam moves along the few directions in which gradients are large; what shows in many small ones, as pitch does beside
loudness, is learned late. Muon makes the update of each matrix orthogonal, so that all directions are learned at one
speed (Jordan et al. 2024; scaled after Liu et al. 2025, eq. 4, so that one learning rate serves both).

Several processes share the work: each makes its part of the matrices orthogonal and gives it to the others. Where
FSDP2 has spread the weights, AdamW works on what each process holds, and Muon gathers the momentum of matrices of one
shape, in bfloat16, for the moment of their update.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim.adamw import adamw

from audiogen.training.sharded import alike, part, whole

_QUINTICS = (
    ((8.302, -24.0426, 17.4701), (4.0078, -2.9266, 0.5425)),
    ((3.4896, -2.5654, 0.5028), (2.4973, -1.8126, 0.4217)),
)
"""for singular values from 0.003 of the norm on, and a hundredth above it, each nearest to 1 after the ones before"""


class MuonAdamW(torch.optim.Optimizer):
    """One optimiser over two groups of parameters, told apart by `matrices` in each group."""

    def __init__(
        self, module: nn.Module, *, betas: tuple[float, float], weight_decay: float, momentum: float = 0.95,
        not_matrices: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        """The weights of linear layers are matrices, but for the layers named in `not_matrices` (output heads).

        The learning rate is 0 until somebody sets it in each group, as the trainer does before every update.
        """
        layers = {name: part.weight for name, part in module.named_modules() if isinstance(part, nn.Linear)}
        matrices = {weight for name, weight in layers.items() if name not in not_matrices}
        others = [weight for weight in module.parameters() if weight not in matrices]
        groups = [
            {"params": [weight for weight in module.parameters() if weight in matrices], "matrices": True},
            {"params": [weight for weight in others if weight.ndim >= 2], "matrices": False},
            {"params": [weight for weight in others if weight.ndim < 2], "matrices": False, "weight_decay": 0.0},
        ]
        defaults = {"lr": 0.0, "betas": betas, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__([group for group in groups if group["params"]], defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            (self._turn if group["matrices"] else self._adapt)(weights, group)

    def _adapt(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        for weight in weights:
            if not self.state[weight]:
                self.state[weight] = {
                    "step": torch.zeros((), dtype=torch.float32, device=weight.device),
                    "exp_avg": torch.zeros_like(weight),
                    "exp_avg_sq": torch.zeros_like(weight),
                }
        here = [weight for weight in weights if part(weight).numel()]  # of a short one this process may hold nothing
        first, second, steps = (
            [part(self.state[weight][name]) for weight in here] for name in ("exp_avg", "exp_avg_sq", "step")
        )
        beta1, beta2 = group["betas"]
        adamw(
            [part(weight) for weight in here], _gradients(here), first, second, [], steps, fused=True, amsgrad=False,
            beta1=beta1, beta2=beta2, lr=group["lr"], weight_decay=group["weight_decay"], eps=1e-8, maximize=False,
        )  # fmt: skip
        for weight in set(weights) - set(here):
            self.state[weight]["step"] += 1

    def _turn(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        by_shape: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
        for weight in weights:
            by_shape[tuple(weight.shape)].append(weight)
            if not self.state[weight]:
                self.state[weight] = {"momentum": torch.zeros_like(weight)}
        for shape, some in by_shape.items():
            gradients, momenta = _gradients(some), [part(self.state[weight]["momentum"]) for weight in some]
            torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
            ahead = torch._foreach_lerp(gradients, momenta, group["momentum"])  # Nesterov
            scale = 0.2 * max(shape) ** 0.5
            torch._foreach_mul_([part(weight) for weight in some], 1 - group["lr"] * group["weight_decay"])
            stacked = ahead[0].new_empty(len(some), *shape, dtype=torch.bfloat16)
            for row, each, weight in zip(stacked, ahead, some, strict=True):
                row.copy_(_gathered(each, weight))
            for weight, update in zip(some, _shared_out(stacked), strict=True):
                part(weight).add_(part(alike(update, weight)), alpha=-group["lr"] * scale)


def state_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of every parameter as `INDEX.NAME` tensors (the groups' settings come from the configuration).

    Of a module that is spread, so are they.
    """
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    return {
        f"{index}.{name}": torch.as_tensor(value)
        for index, weight in enumerate(weights)
        for name, value in optimiser.state.get(weight, {}).items()
    }


def restore_state(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Inverse of `state_tensors`, from whole tensors."""
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    optimiser.state.clear()
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        optimiser.state[weights[int(index)]][name] = alike(value, weights[int(index)])


def _gradients(weights: list[Tensor]) -> list[Tensor]:
    return [part(weight.grad) for weight in weights if weight.grad is not None]


def _gathered(own: Tensor, weight: Tensor) -> Tensor:
    """The whole matrix in bfloat16 of which this process has `own`, spread as `weight` is."""
    if not isinstance(weight, DTensor):
        return own
    spread = DTensor.from_local(
        own.bfloat16(), weight.device_mesh, weight.placements, shape=weight.shape, stride=weight.stride()
    )
    return whole(spread)


def _shared_out(matrices: Tensor) -> Tensor:
    """`orthogonal`, of which every process does its share where there are several."""
    import torch.distributed as dist

    processes = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    if processes == 1:
        return orthogonal(matrices)
    each = -(-len(matrices) // processes)
    mine = matrices[dist.get_rank() * each :][:each]
    made = matrices.new_zeros(each, *matrices.shape[1:])
    if len(mine):
        made[: len(mine)] = orthogonal(mine)
    everyone = [torch.empty_like(made) for _ in range(processes)]
    dist.all_gather(everyone, made)
    return torch.cat(everyone)[: len(matrices)]


def orthogonal(matrices: Tensor) -> Tensor:
    """The nearest matrices whose singular values are about 1 (0.8 to 1.2), bfloat16 `[N, rows, columns]`.

    Each round is a quintic polynomial of the matrix, all of whose singular values it brings nearest to 1 (Amsel et al.
    2025, algorithm 1). It acts on the Gram matrix of the shorter side, two rounds at a time, since in bfloat16 errors
    grow with each; the long matrix is multiplied only then.
    """
    x = matrices.bfloat16()
    tall = x.shape[1] > x.shape[2]
    for index, (first, second) in enumerate(_QUINTICS):
        gram = x.mT @ x if tall else x @ x.mT
        if index == 0:  # its trace is the square of the norm
            size = gram.diagonal(dim1=1, dim2=2).sum(1, dtype=torch.float32)[:, None, None] + 1e-14
            gram = (gram / size).bfloat16()
        factor = _quintic(gram, first)
        turned = _quintic(factor @ gram @ factor, second) @ factor
        if index == 0:
            turned = (turned * size.rsqrt()).bfloat16()
        x = x @ turned if tall else turned @ x
    return x


def _quintic(gram: Tensor, coefficients: tuple[float, float, float]) -> Tensor:
    """a + b · gram + c · gram²: what the polynomial multiplies a matrix by."""
    a, b, c = coefficients
    made = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    made.diagonal(dim1=1, dim2=2).add_(a)
    return made
