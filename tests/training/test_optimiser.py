from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from audiogen.training.optimiser import MuonAdamW, orthogonal, restore_state, state_tensors


def optimiser(module: nn.Module, **told: object) -> MuonAdamW:
    made = MuonAdamW(module, **({"betas": (0.9, 0.95), "weight_decay": 0.01} | told))  # type: ignore[arg-type]
    for group in made.param_groups:
        group["lr"] = 1e-2
    return made


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(8, 12), nn.Linear(12, 40), nn.Tanh(), nn.Linear(40, 6))


@pytest.mark.parametrize("shape", [(2, 16, 64), (3, 64, 16), (1, 24, 24)])
def test_every_direction_gets_the_same_pace(shape: tuple[int, ...]) -> None:
    """Singular values from 1 to 100 come out near 1, in the same directions."""
    torch.manual_seed(0)
    rank = min(shape[1:])
    left, right = (torch.linalg.qr(torch.randn(shape[0], size, rank))[0] for size in shape[1:])
    made = orthogonal(left @ torch.diag(torch.logspace(0, 2, rank)) @ right.mT)
    values = torch.linalg.svdvals(made.float())
    assert float(values.min()) > 0.4 and float(values.max()) < 1.3
    inside = left.mT @ made.float() @ right  # near a multiple of one in each direction
    assert float((inside - torch.diag_embed(inside.diagonal(dim1=1, dim2=2))).abs().max()) < 0.2
    assert float(inside.diagonal(dim1=1, dim2=2).min()) > 0.4


def test_each_kind_of_parameter_has_its_rule() -> None:
    module = model()
    made = optimiser(module, not_matrices=("3",))
    names = {weight: name for name, weight in module.named_parameters()}
    told = [
        ({names[w] for w in group["params"]}, group["matrices"], group["weight_decay"]) for group in made.param_groups
    ]
    assert told == [
        ({"1.weight"}, True, 0.01),
        ({"0.weight", "3.weight"}, False, 0.01),
        ({"1.bias", "3.bias"}, False, 0.0),
    ]
    assert len(made.param_groups) == 3


def test_vectors_and_tables_move_as_by_adamw() -> None:
    module, other = model(), model()
    mine = optimiser(module, not_matrices=("1", "3"), weight_decay=0.0)
    theirs = torch.optim.AdamW(other.parameters(), lr=1e-2, betas=(0.9, 0.95), weight_decay=0.0)
    for step in range(4):
        for one, steps in ((module, mine), (other, theirs)):
            loss(one, step).backward()
            steps.step()
            steps.zero_grad()
    for a, b in zip(module.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def loss(module: nn.Module, step: int) -> Tensor:
    index = torch.arange(8).roll(step)
    return (module(index) - torch.nn.functional.one_hot(index % 6, 6)).square().mean()


def test_it_learns_and_its_state_makes_the_round_trip() -> None:
    module, again = model(), model()
    mine, fresh = optimiser(module), optimiser(again)
    first = float(loss(module, 0).detach())
    for step in range(60):
        loss(module, step).backward()
        mine.step()
        mine.zero_grad()
    assert float(loss(module, 0).detach()) < 0.05 * first
    again.load_state_dict(module.state_dict())
    restore_state(fresh, {name: value.clone() for name, value in state_tensors(mine).items()})
    for group in fresh.param_groups:
        group["lr"] = 1e-2
    for one, steps in ((module, mine), (again, fresh)):
        loss(one, 60).backward()
        steps.step()
    for a, b in zip(module.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
