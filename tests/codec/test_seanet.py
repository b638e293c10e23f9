"""Streams of SEANet layers are the whole; equality with the reference stands in test_encodec.py."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from audiogen.codec.seanet import ConvTranspose, SEANet, SEANetConfig, seanet_decoder, seanet_encoder

SMALL = SEANetConfig(filters=4, latent_dim=6, ratios=(4, 3), residual_layers=2, lstm_layers=1)
CONFIGS = {
    "causal": SMALL,
    "looks ahead": SMALL.model_copy(update={"causal": False, "conv_shortcut": False}),
    "odd sizes": SMALL.model_copy(
        update={"causal": False, "kernel_size": 4, "last_kernel_size": 5, "residual_kernel_size": 2, "channels": 2}
    ),
    "trimmed on both sides": SMALL.model_copy(update={"trim_right_ratio": 0.3, "pad_mode": "constant"}),
    "replicating": SMALL.model_copy(update={"causal": False, "pad_mode": "replicate", "ratios": (1, 5)}),
}


@pytest.fixture(params=CONFIGS)
def config(request: pytest.FixtureRequest) -> SEANetConfig:
    torch.manual_seed(0)
    return CONFIGS[request.param]


def pieces(net: SEANet, x: Tensor, lengths: list[int]) -> Tensor:
    """`x` in pieces; how much comes out of each is what `ready` says."""
    states, given, heard = None, 0, []
    for piece in x.split(lengths, 2):
        y, states = net(piece, states, False)
        given += piece.shape[2]
        heard.append(y)
        assert sum(part.shape[2] for part in heard) == net.ready(given)
    return torch.cat([*heard, net(x[:, :, :0], states, True)[0]], 2)


@torch.inference_mode()
@pytest.mark.parametrize("frames", [1, 2, 9])
def test_pieces_of_any_length_are_the_whole(config: SEANetConfig, frames: int) -> None:
    hop = config.hop_length
    encoder, decoder = seanet_encoder(config), seanet_decoder(config)
    samples = torch.randn(2, config.channels, frames * hop)
    latents, _ = encoder(samples, None, True)
    assert latents.shape == (2, config.latent_dim, frames)
    decoded, _ = decoder(latents, None, True)
    assert decoded.shape == samples.shape
    size = frames * hop
    for lengths in ([0, 1, 1, 2, size - 4], [0, 5, 0, size - 5], [size]):
        torch.testing.assert_close(pieces(encoder, samples, lengths), latents, atol=1e-5, rtol=0)
    for lengths in ([1] * frames, [0, frames - 1, 0, 1], [frames, 0]):
        torch.testing.assert_close(pieces(decoder, latents, lengths), decoded, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_a_state_can_be_gone_on_from_twice(config: SEANetConfig) -> None:
    net = seanet_decoder(config)
    _, states = net(torch.randn(1, config.latent_dim, 8), None, False)
    more = torch.randn(1, config.latent_dim, 3)
    first, _ = net(more, states, False)
    assert torch.equal(net(more, states, False)[0], first)


@torch.inference_mode()
@pytest.mark.parametrize(("name", "ahead"), [("causal", 0), ("looks ahead", 5)])
def test_causal_layers_hear_nothing_of_what_follows_and_others_a_little(name: str, ahead: int) -> None:
    net, hop = seanet_decoder(CONFIGS[name]).double(), SMALL.hop_length
    x = torch.randn(1, 6, 20, dtype=torch.float64)
    changed = torch.cat([x[:, :, :12], 0 * x[:, :, 12:]], 2)
    apart = (net(x, None, True)[0] - net(changed, None, True)[0]).abs().amax((0, 1))
    assert float(apart[: net.ready(12)].max()) < 1e-13 < float(apart[net.ready(12)])
    assert (12 - ahead) * hop <= net.ready(12) <= 12 * hop


@torch.inference_mode()
def test_group_norm_hears_the_whole_before_the_cut() -> None:
    config = SMALL.model_copy(update={"time_group_norm": True, "causal": False})
    layer, x = ConvTranspose(config, 3, 2, 4), torch.randn(1, 3, 7)
    uncut = torch.nn.functional.conv_transpose1d(x, layer.conv.weight, layer.conv.bias, 4)
    torch.testing.assert_close(layer(x, None, True)[0], layer.norm(uncut)[:, :, 2:-2])


def test_gradients_reach_every_weight(config: SEANetConfig) -> None:
    encoder, decoder = seanet_encoder(config), seanet_decoder(config)
    latents, _ = encoder(torch.randn(1, config.channels, 4 * config.hop_length), None, True)
    decoder(latents, None, True)[0].square().sum().backward()
    for name, weight in [*encoder.named_parameters(), *decoder.named_parameters()]:
        assert weight.grad is not None and bool(weight.grad.isfinite().all()), name


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"causal": False, "trim_right_ratio": 0.5}, "trim_right_ratio"),
        ({"compress": 40}, "compress 40 leaves nothing of 32 filters"),
        ({"ratios": ()}, "ratios"),
        ({"pad_mode": "circular"}, "pad_mode"),
        ({"kernel_size": 0}, "kernel_size"),
    ],
)
def test_sizes_that_cannot_be_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SEANetConfig.model_validate(values)
