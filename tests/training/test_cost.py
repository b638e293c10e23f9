from __future__ import annotations

import pytest
import torch
from tiny import LM, LSTM, language_model
from torch import nn

from audiogen.interfaces import Condition
from audiogen.lm.model import MusicLMConfig
from audiogen.lm.score import NUM_LANES
from audiogen.training.cost import Memory, measure, standing
from audiogen.training.optimiser import MuonAdamW


def test_a_linear_layer_keeps_its_input_and_multiplies() -> None:
    layer, x = nn.Linear(8, 16), torch.randn(4, 8)
    cost = measure(lambda: layer(x), layer)
    assert cost.kept_bytes == 4 * 8 * 4 and cost.operations == 2 * 4 * 8 * 16


def test_of_a_block_computed_again_only_the_input_is_kept() -> None:
    from torch.utils.checkpoint import checkpoint

    layers = nn.Sequential(*(nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh()) for _ in range(3)))
    x = torch.randn(4, 8)
    plain = measure(lambda: layers(x), layers)

    def again() -> torch.Tensor:
        h = x
        for layer in layers:
            h = checkpoint(layer, h, use_reentrant=False)  # type: ignore[assignment]
        return h

    assert measure(again, layers).kept_bytes == 3 * 4 * 8 * 4 < plain.kept_bytes / 2


@pytest.mark.parametrize("config", [LM, LSTM], ids=["Transformer", "LSTM"])
def test_a_language_model_takes_about_two_operations_a_weight_and_frame(config: MusicLMConfig) -> None:
    model = language_model(config=config).train().requires_grad_(True)
    codes, lanes = torch.zeros(2, 4, 10, dtype=torch.long), torch.zeros(2, 10, NUM_LANES)
    matrices = sum(part.weight.numel() for part in model.modules() if isinstance(part, nn.Linear))
    matrices -= sum(part.weight.numel() for part in model.prefix.modules() if isinstance(part, nn.Linear))
    prefix = torch.randn(2, 12, 32)
    cost = measure(lambda: model(codes, Condition(prefix, lanes)), model)
    assert 1.9 * matrices * 20 < cost.operations < 5 * matrices * 20  # the prefix and attention come on top


def test_what_stands_whatever_the_batch() -> None:
    module = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8))
    optimiser = MuonAdamW(module, betas=(0.9, 0.95), weight_decay=0.0)
    found = standing(optimiser.param_groups, module.state_dict())
    weights, vectors = 4 * 64, 4 * 3 * 8
    assert found == Memory(weights + vectors, weights + vectors, weights + 2 * vectors, weights + vectors, 0)
    module(torch.ones(1, 8)).sum().backward()
    optimiser.step()
    held = sum(v.nbytes for state in optimiser.state.values() for name, v in state.items() if name != "step")
    assert found.optimiser == held
    assert str(Memory(2**30, 2**20, 0, 5, 2**31)).startswith("memory of one process, about 3 GiB: parameters 1 GiB, ")
