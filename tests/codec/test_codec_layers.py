from __future__ import annotations

import pytest
import torch
from laws import cuts

from audiogen.codec.layers import CausalConvNeXt, ConvNeXtStack


def test_stack_in_pieces_is_the_stack_at_once_and_sees_only_the_past() -> None:
    torch.manual_seed(0)
    stack = ConvNeXtStack(8, 3, 2).eval()
    x = torch.randn(2, 40, 8)
    with torch.no_grad():
        whole, last = stack(x, stack.init_state(2))
        state, parts = stack.init_state(2), []
        for part in x.split([length for length in cuts(40, 1) if length], 1):
            done, state = stack(part, state)
            parts.append(done)
        torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-6, rtol=0)
        torch.testing.assert_close(state, last, atol=1e-6, rtol=0)
        x[:, 25:] = 0
        torch.testing.assert_close(stack(x, stack.init_state(2))[0][:, :25], whole[:, :25], atol=1e-6, rtol=0)
    assert [past.shape for past in last] == [(2, 6, 8)] * 3


@pytest.mark.parametrize(("batch", "frames"), [(1, 1), (1, 16), (3, 40), (2, 200)])  # few values, and many
def test_a_quick_block_is_the_plain_one_and_trains_as_it(batch: int, frames: int) -> None:
    torch.manual_seed(0)
    plain, quick = CausalConvNeXt(48, 96), CausalConvNeXt(48, 96, quick=True)
    quick.load_state_dict(plain.state_dict())
    past, x = 3 * torch.randn(batch, 6, 48), 3 * torch.randn(batch, frames, 48)
    expected, state = plain(x, past)
    trained, _ = quick(x, past)
    with torch.no_grad():
        used, following = quick(x, past)
    assert torch.equal(trained, expected) and torch.equal(following, state)
    torch.testing.assert_close(used, expected, atol=2e-6, rtol=0)
    trained.square().mean().backward()
    assert all(weight.grad is not None for weight in quick.parameters())
