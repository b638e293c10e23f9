"""SEANet encoder and decoder (Tagliasacchi et al. 2020; as in Défossez et al. 2022, EnCodec, §3.1), run as streams.

Every layer takes the next piece `[B, C, n]`, its state, and whether the piece is the last one; it gives what is
determined so far, `[B, C', n']`, and the next state. None is the state of a layer that has seen nothing. A whole signal
is one piece with state None that is the last. So convolutions may look ahead: the last piece brings what was held back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import repeat
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from audiogen.config import Config

State = Any
"""None, or what a layer keeps between two pieces: tensors and tuples of them. Owned by the caller, never changed."""


Few = Annotated[int, Field(ge=1, le=64)]
Width = Annotated[int, Field(ge=1, le=4096)]
"""bounds that no codec comes near: a foreign configuration beyond them is damaged, and would fill the memory"""


class SEANetConfig(Config):
    """Sizes of encoder and decoder."""

    channels: Literal[1, 2] = 1
    latent_dim: Width = 128
    filters: Width = 32
    """width at the sample rate; it doubles with every ratio"""
    ratios: tuple[Few, ...] = Field((8, 5, 4, 2), min_length=1, max_length=8)
    """of the decoder, from the frame rate up; the encoder goes down in reverse"""
    kernel_size: Few = 7
    last_kernel_size: Few = 7
    residual_kernel_size: Few = 3
    residual_layers: int = Field(1, ge=0, le=16)
    dilation_growth: Few = 2
    compress: Few = 2
    """the inside of a residual block is narrower by this"""
    lstm_layers: Few = 2
    conv_shortcut: bool = True
    """the way around a residual block is a convolution of one sample, else nothing"""
    causal: bool = True
    pad_mode: Literal["reflect", "replicate", "constant"] = "reflect"
    trim_right_ratio: float = Field(1.0, ge=0, le=1)
    """share of a causal transposed convolution's surplus that is cut at its end"""
    time_group_norm: bool = False
    """normalise each convolution's output over all channels and all time: then only whole signals can be run"""

    @property
    def hop_length(self) -> int:
        """samples a frame"""
        return math.prod(self.ratios)

    def model_post_init(self, context: Any, /) -> None:
        if self.compress > self.filters:
            raise ValueError(f"compress {self.compress} leaves nothing of {self.filters} filters")
        if not self.causal and self.trim_right_ratio != 1:
            raise ValueError("trim_right_ratio other than 1 is for causal convolutions only")


class Layer(nn.Module):
    """One step of a stream; changes nothing."""

    def forward(self, x: Tensor, state: State, last: bool) -> tuple[Tensor, State]:
        return x, None

    def ready(self, count: int) -> int:
        """How many outputs the first `count` inputs determine, more to follow."""
        return count


class Elu(Layer):
    """Exponential linear unit."""

    def forward(self, x: Tensor, state: State, last: bool) -> tuple[Tensor, State]:
        return F.elu(x), None


class ConvState(NamedTuple):
    """Inputs still needed `[B, C, n]`, and whether the padding before the start is among them or past."""

    seen: Tensor
    begun: bool


class Conv(Layer):
    """Convolution, padded at the stream's two ends so that n inputs give n / stride outputs; n is a multiple of it.

    Reflecting at the start takes `left` samples after the first one: output begins when they are there.
    """

    def __init__(
        self, config: SEANetConfig, inputs: int, outputs: int, kernel_size: int, stride: int = 1, dilation: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel_size, stride, dilation=dilation)
        self.norm = nn.GroupNorm(1, outputs) if config.time_group_norm else nn.Identity()
        self.span, self.stride, self.pad_mode = (kernel_size - 1) * dilation + 1, stride, config.pad_mode
        padding = self.span - stride
        self.right = 0 if config.causal else padding // 2
        self.left = padding - self.right
        self.needed = self.left + 1 if config.pad_mode == "reflect" else 1

    def forward(self, x: Tensor, state: ConvState | None, last: bool) -> tuple[Tensor, ConvState | None]:
        seen, begun = (x, False) if state is None else (torch.cat([state.seen, x], 2), state.begun)
        left = 0 if begun else self.left
        if begun or last or seen.shape[2] >= self.needed:
            seen, begun = self._padded(seen, left, self.right if last else 0), True
        count = max(0, (seen.shape[2] - self.span) // self.stride + 1) if begun else 0
        if count:
            y = self.norm(self.conv(seen[:, :, : (count - 1) * self.stride + self.span]))
        else:
            y = seen.new_zeros(seen.shape[0], self.conv.out_channels, 0)
        return y, None if last else ConvState(seen[:, :, count * self.stride :].clone(), begun)

    def _padded(self, x: Tensor, left: int, right: int) -> Tensor:
        """`x` longer by `left` and `right`; what is too short to be reflected is reflected with silence behind it."""
        if not left and not right:
            return x
        short = max(0, max(left, right) + 1 - x.shape[2]) if self.pad_mode == "reflect" else 0
        padded = F.pad(F.pad(x, (0, short)), (left, right), mode=self.pad_mode)
        return padded[:, :, : padded.shape[2] - short]

    def ready(self, count: int) -> int:
        return max(0, (count + self.left - self.span) // self.stride + 1) if count >= self.needed else 0


class ConvTranspose(Layer):
    """Transposed convolution of twice its stride, cut at the stream's two ends so that n inputs give n · stride.

    Its state is the last input, `[B, C, 1]`.
    """

    def __init__(self, config: SEANetConfig, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose1d(inputs, outputs, 2 * stride, stride)
        self.norm = nn.GroupNorm(1, outputs) if config.time_group_norm else nn.Identity()
        self.stride = stride
        self.right = math.ceil(stride * config.trim_right_ratio) if config.causal else stride // 2
        self.left = stride - self.right

    def forward(self, x: Tensor, state: Tensor | None, last: bool) -> tuple[Tensor, Tensor | None]:
        if not x.shape[2] and (state is None or not last):
            return x.new_zeros(x.shape[0], self.conv.out_channels, 0), state
        seen = x if state is None else torch.cat([state, x], 2)
        y = self.norm(self.conv(seen))
        start = self.left if state is None else self.stride  # what lies before was given with the piece before
        stop = y.shape[2] - (self.right if last else self.stride)
        return y[:, :, start:stop], None if last else seen[:, :, -1:].clone()

    def ready(self, count: int) -> int:
        return max(0, count * self.stride - self.left)


class Lstm(Layer):
    """LSTM around which its input passes; its state is that of `nn.LSTM`."""

    def __init__(self, dim: int, depth: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(dim, dim, depth)

    def forward(self, x: Tensor, state: State, last: bool) -> tuple[Tensor, State]:
        if not x.shape[2]:
            return x, state
        y, state = self.lstm(x.permute(2, 0, 1), state)
        return y.permute(1, 2, 0) + x, state


class ResidualState(NamedTuple):
    """States of the branch, and what has passed around it and waits for it `[B, C, n]`."""

    branch: list[State]
    waiting: Tensor


class ResidualBlock(Layer):
    """A dilated and a pointwise convolution, and a way around them."""

    def __init__(self, config: SEANetConfig, dim: int, dilation: int) -> None:
        super().__init__()
        inside = dim // config.compress
        dilated = Conv(config, dim, inside, config.residual_kernel_size, dilation=dilation)
        self.block = nn.ModuleList([Elu(), dilated, Elu(), Conv(config, inside, dim, 1)])
        self.shortcut = Conv(config, dim, dim, 1) if config.conv_shortcut else Layer()

    def forward(self, x: Tensor, state: ResidualState | None, last: bool) -> tuple[Tensor, ResidualState | None]:
        around, _ = self.shortcut(x, None, True)  # one sample wide: each piece is a whole
        waiting = around if state is None else torch.cat([state.waiting, around], 2)
        y, branch = _run(self.block, x, None if state is None else state.branch, last)
        count = y.shape[2]
        return waiting[:, :, :count] + y, None if last else ResidualState(branch, waiting[:, :, count:].clone())

    def ready(self, count: int) -> int:
        return _ready(self.block, count)


class SEANet(nn.Module):
    """Layers in a row, of which some look ahead."""

    def __init__(self, layers: Iterable[Layer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, states: list[State] | None, last: bool) -> tuple[Tensor, list[State]]:
        """The next piece `[B, C, n]` → what is determined `[B, C', n']` and the next states."""
        return _run(self.layers, x, states, last)

    def ready(self, count: int) -> int:
        """How many outputs the first `count` inputs determine, more to follow."""
        return _ready(self.layers, count)


def seanet_encoder(config: SEANetConfig) -> SEANet:
    """Samples `[B, channels, T · hop_length]` → latents `[B, latent_dim, T]`."""
    dim = config.filters
    layers: list[Layer] = [Conv(config, config.channels, dim, config.kernel_size)]
    for ratio in reversed(config.ratios):
        layers += _residuals(config, dim)
        layers += [Elu(), Conv(config, dim, 2 * dim, 2 * ratio, stride=ratio)]
        dim *= 2
    layers += [Lstm(dim, config.lstm_layers), Elu(), Conv(config, dim, config.latent_dim, config.last_kernel_size)]
    return SEANet(layers)


def seanet_decoder(config: SEANetConfig) -> SEANet:
    """Latents `[B, latent_dim, T]` → samples `[B, channels, T · hop_length]`."""
    dim = config.filters * 2 ** len(config.ratios)
    layers: list[Layer] = [Conv(config, config.latent_dim, dim, config.kernel_size), Lstm(dim, config.lstm_layers)]
    for ratio in config.ratios:
        layers += [Elu(), ConvTranspose(config, dim, dim // 2, ratio)]
        dim //= 2
        layers += _residuals(config, dim)
    layers += [Elu(), Conv(config, dim, config.channels, config.last_kernel_size)]
    return SEANet(layers)


def _residuals(config: SEANetConfig, dim: int) -> list[Layer]:
    return [ResidualBlock(config, dim, config.dilation_growth**index) for index in range(config.residual_layers)]


def _run(layers: nn.ModuleList, x: Tensor, states: list[State] | None, last: bool) -> tuple[Tensor, list[State]]:
    following = []
    for layer, state in zip(layers, repeat(None) if states is None else states, strict=False):
        x, new = layer(x, state, last)
        following.append(new)
    return x, following


def _ready(layers: nn.ModuleList, count: int) -> int:
    for layer in layers:
        count = layer.ready(count)  # type: ignore[operator]
    return count
