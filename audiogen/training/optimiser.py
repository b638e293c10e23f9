"""AdamW for vectors and tables, Muon for the matrices of linear layers.

Adam moves along the few directions in which gradients are large; what shows in many small ones, as pitch does beside
loudness, is learned late. Muon makes the update of each matrix orthogonal, so that all directions are learned at one
speed (Jordan et al. 2024; scaled after Liu et al. 2025, eq. 4, so that one learning rate serves both).
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

_QUINTIC = (3.4445, -4.7750, 2.0315)
_ROUNDS = 5


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
        first, second, steps = (
            [self.state[weight][name] for weight in weights] for name in ("exp_avg", "exp_avg_sq", "step")
        )
        beta1, beta2 = group["betas"]
        adamw(
            weights, _gradients(weights), first, second, [], steps, fused=True, amsgrad=False,
            beta1=beta1, beta2=beta2, lr=group["lr"], weight_decay=group["weight_decay"], eps=1e-8, maximize=False,
        )  # fmt: skip

    def _turn(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        alike: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
        for weight in weights:
            alike[tuple(weight.shape)].append(weight)
            if not self.state[weight]:
                self.state[weight] = {"momentum": torch.zeros_like(weight)}
        for shape, some in alike.items():
            gradients, momenta = _gradients(some), [self.state[weight]["momentum"] for weight in some]
            torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
            ahead = torch._foreach_lerp(gradients, momenta, group["momentum"])  # Nesterov
            scale = 0.2 * max(shape) ** 0.5
            torch._foreach_mul_(some, 1 - group["lr"] * group["weight_decay"])
            for weight, update in zip(some, orthogonal(torch.stack(list(ahead))), strict=True):
                weight.add_(update, alpha=-group["lr"] * scale)


def _gradients(weights: list[Tensor]) -> list[Tensor]:
    return [weight.grad for weight in weights if weight.grad is not None]


def orthogonal(matrices: Tensor) -> Tensor:
    """The nearest matrices whose singular values are about 1 (0.7 to 1.2), `[N, rows, columns]`, computed in bfloat16.

    Newton-Schulz iteration with the coefficients of Jordan et al. 2024.
    """
    x = matrices.bfloat16()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = _QUINTIC
    for _ in range(_ROUNDS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)
