"""Discriminators of spectra, which learn to tell what a codec plays from music, and how a codec learns from them.

Losses on magnitudes are content with the mean of what may be played, which sounds dull; a discriminator is not, since
the mean is never heard (Goodfellow et al. 2014). Ours look at complex spectra of several windows (Jang et al. 2021,
UnivNet, §2.2; Défossez et al. 2022, EnCodec, §3.4). They serve in training only and are no part of a codec's folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from audiogen.config import Config

Loss = tuple[Tensor, dict[str, Tensor]]
SpectralDistance = Callable[[Tensor, Tensor], Loss]

_LAYERS = (((3, 8), (1, 4)), ((3, 9), (1, 2)), ((3, 5), (2, 2)), ((3, 3), (1, 1)))
"""kernel and stride, in frames and bins"""


class AdversarialConfig(Config):
    """How a codec is trained against discriminators, beside its other losses."""

    kind: Literal["hinge", "least_squares", "bce"] = "hinge"
    """what real and played excerpts shall be told apart by: Lim and Ye 2017; Mao et al. 2017; Goodfellow et al. 2014"""
    weight: float = Field(default=1.0, ge=0)
    """of the loss of not passing for real"""
    features: float = Field(default=1.0, ge=0)
    """of feature matching: the distance, layer by layer, of what the discriminators see in both"""
    balance: bool = True
    """weights say how large a loss's gradient at the decoder's output is beside that of the spectral losses; otherwise
    they are factors"""
    gradient_penalty: float = Field(default=0.0, ge=0)
    """weight of R1, the gradient at real excerpts; 0: none"""
    penalty_every: PositiveInt = 8
    """updates from one penalty to the next, which counts for all of them"""
    starts_at: int = Field(default=0, ge=0)
    """update from which on the discriminators learn"""
    head_start: int = Field(default=50, ge=0)
    """updates that they learn before the codec listens to them: at first they know nothing"""
    windows: tuple[PositiveInt, ...] = Field(default=(2048, 1024, 512), min_length=1)
    """samples; even numbers"""
    filters: PositiveInt = 16
    """of each convolution"""

    def model_post_init(self, context: Any, /) -> None:
        bad = [size for size in self.windows if size < 32 or size % 2]
        if bad:
            raise ValueError(f"windows {bad}: a window is an even number of samples, 32 at least")


class Judgement(NamedTuple):
    """Of one window: `logits` `[B, 1, frames, bands]`, above zero for real, and what each layer before them saw."""

    logits: Tensor
    features: tuple[Tensor, ...]


class CompressedSpectrum(torch.autograd.Function):
    """Complex STFT with a hop of half a window, its magnitude to the power of 0.3: what is soft is seen too, about as
    loudness follows power (Stevens 1957). `[B, C, S]` → real and imaginary parts `[B, 2 · C, frames, bins]`.

    Written out, as `PowerSpectrum` is: less than half of the time, and channel-last, as convolutions want it.
    """

    floor = 1e-6
    """power that is silence: what lies below is not raised further"""

    @staticmethod
    def forward(ctx: Any, x: Tensor, window: Tensor) -> Tensor:
        size = window.shape[0]
        spectra = torch.fft.rfft(x.unfold(2, size, size // 2) * window).permute(0, 2, 3, 1).contiguous()
        parts = torch.view_as_real(spectra)
        power = parts.square()
        power = (power[..., 0] + power[..., 1]).add_(CompressedSpectrum.floor)
        scale = power.pow(-0.35)
        ctx.save_for_backward(spectra, power, scale, window)
        ctx.samples = x.shape[2]
        return (parts * scale[..., None]).flatten(3).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        spectra, power, scale, window = ctx.saved_tensors
        size, channels = window.shape[0], spectra.shape[3]
        back = grads[0].float().permute(0, 2, 3, 1).unflatten(3, (channels, 2)).contiguous()
        parts = torch.view_as_real(spectra)
        along = parts * back
        along = (along[..., 0] + along[..., 1]).mul_(-0.7).div_(power)  # of 0.35 · d log power
        back = torch.view_as_complex(torch.addcmul(back, parts, along[..., None]).mul_(scale[..., None]))
        back = back.permute(0, 3, 1, 2).contiguous()
        back[..., 1:-1] /= 2  # irfft counts each bin twice but the first and the last
        first, second = (torch.fft.irfft(back, n=size, norm="forward") * window).unflatten(3, (2, size // 2)).unbind(3)
        out = F.pad(first, (0, 0, 0, 1))
        out[:, :, 1:] += second
        return F.pad(out.flatten(2), (0, ctx.samples - out.shape[2] * (size // 2))), None


class SpectralDiscriminator(nn.Module):
    """Looks at spectra of one window, patch by patch."""

    window: Tensor

    def __init__(self, channels: int, window: int, filters: int) -> None:
        super().__init__()
        hann = torch.hann_window(window)
        self.register_buffer("window", hann / hann.norm(), persistent=False)
        planes = [2 * channels] + [filters] * len(_LAYERS)
        self.layers = nn.ModuleList(
            _convolution(*before_after, kernel, stride)
            for before_after, (kernel, stride) in zip(pairwise(planes), _LAYERS, strict=True)
        )
        self.out = _convolution(filters, 1, (3, 3), (1, 1))

    def spectra(self, samples: Tensor) -> Tensor:
        """What it looks at: `[B, C, S]` → float32 `[B, 2 · C, frames, bins]`."""
        return CompressedSpectrum.apply(samples.float(), self.window)

    def forward(self, spectra: Tensor) -> Judgement:
        """What it thinks of `spectra`."""
        features: list[Tensor] = []
        for layer in self.layers:
            spectra = F.leaky_relu(layer(spectra), 0.2)
            features.append(spectra)
        return Judgement(self.out(spectra), tuple(features))


def _convolution(before: int, after: int, kernel: tuple[int, int], stride: tuple[int, int]) -> nn.Module:
    """With weights such that logits are neither small nor large at first (He et al. 2015, eq. 14)."""
    made = nn.Conv2d(before, after, kernel, stride, (kernel[0] // 2, kernel[1] // 2))
    nn.init.kaiming_normal_(made.weight, a=0.2)
    return weight_norm(made)


class Contest(nn.Module):
    """A codec in training and the discriminators that it is trained against, as the one module that a trainer has.

    What the discriminators learn from does not reach the codec, what the codec learns from does not reach them: its
    gradients are taken at its output, weighed, and go on from there as one. So one backward pass serves both.
    """

    norms: Tensor
    """of the gradients of the spectral loss, the adversarial one and the feature matching: moving averages"""
    decay = 0.95
    """they grow fast while the discriminators learn, and an average that lags lets them"""

    def __init__(self, codec: nn.Module, channels: int, config: AdversarialConfig) -> None:
        super().__init__()
        self.codec, self.config = codec, config
        self.discriminators = nn.ModuleList(
            SpectralDiscriminator(channels, size, config.filters) for size in config.windows
        )
        self.register_buffer("norms", torch.zeros(3))

    def resting(self) -> Tensor:
        """0, in which every weight of the discriminators takes part."""
        return 0.0 * torch.stack([weight.sum() for weight in self.discriminators.parameters()]).sum()

    def loss(self, played: Tensor, music: Tensor, spectral: SpectralDistance, step: int) -> Loss:
        """The loss of both sides, for what the codec has `played` and the `music` that it should have, `[B, C, S]`;
        and its parts for the log. `spectral` tells the loss between the two that the codec has in any case."""
        config, judges = self.config, list(self.discriminators)
        output = _apart(played)
        loss, parts = spectral(output, music)
        spectra = [judge.spectra(output) for judge in judges]  # type: ignore[operator]
        seen = [_apart(each) for each in spectra]
        with torch.no_grad():
            known = [judge.spectra(music) for judge in judges]  # type: ignore[operator]
        fakes, reals = ([judge(each) for judge, each in zip(judges, some, strict=True)] for some in (seen, known))
        adversarial = torch.stack([codec_loss(fake.logits, config.kind) for fake in fakes]).mean()
        features = torch.stack([feature_distance(*pair) for pair in zip(fakes, reals, strict=True)]).mean()
        told = [
            discriminator_loss(real.logits, fake.logits, config.kind) for real, fake in zip(reals, fakes, strict=True)
        ]
        parts |= {"adversarial": adversarial, "features": features, "discriminators": torch.stack(told).mean()}
        gradients = [*torch.autograd.grad(loss, output)]
        listening = step >= config.starts_at + config.head_start
        for each in (adversarial, features) if listening else ():
            back = torch.autograd.grad(each, seen, retain_graph=True)
            gradients += torch.autograd.grad(spectra, output, back, retain_graph=True)
        weights = self._weights(gradients)
        onward = (played * sum(weight * each for weight, each in zip(weights, gradients, strict=True))).sum()
        value = loss + config.weight * adversarial + config.features * features  # to be told, whatever the balance
        total = parts["discriminators"] + onward + (value - onward).detach()
        if config.gradient_penalty and step % config.penalty_every == 0:
            at_each = [gradient_penalty(*pair) for pair in zip(judges, known, strict=True)]
            parts["penalty"] = torch.stack(at_each).mean()
            total = total + config.penalty_every * config.gradient_penalty * parts["penalty"]
        return total, parts

    def _weights(self, gradients: list[Tensor]) -> Tensor:
        """Of the spectral loss, 1, and where there are such of the adversarial one and the feature matching."""
        wanted = gradients[0].new_tensor([1.0, self.config.weight, self.config.features])[: len(gradients)]
        if len(wanted) == 1 or not self.config.balance:
            return wanted
        norms = torch.stack([each.flatten(1).norm(dim=1).mean() for each in gradients])
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(norms)
        self.norms.lerp_(norms, 1 - self.decay)  # the share of what came before the first one is the same in all
        return wanted * (self.norms[0] / self.norms.clamp_min(1e-12))


def codec_of(module: nn.Module) -> nn.Module:
    """The codec of a trainer's module, which may be a contest."""
    return module.codec if isinstance(module, Contest) else module


def codec_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of a checkpoint's tensors those of the codec, under its own names."""
    inside = {name.removeprefix("codec."): value for name, value in tensors.items() if name.startswith("codec.")}
    return inside or dict(tensors)


def discriminator_loss(real: Tensor, fake: Tensor, kind: str) -> Tensor:
    """How badly logits of music and of a codec's output tell which is which."""
    real, fake = real.float(), fake.float()
    if kind == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    if kind == "least_squares":
        return (1 - real).square().mean() + fake.square().mean()
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def codec_loss(fake: Tensor, kind: str) -> Tensor:
    """How far logits of a codec's output are from those of music."""
    fake = fake.float()
    if kind == "hinge":
        return F.relu(1 - fake).mean()
    if kind == "least_squares":
        return (1 - fake).square().mean()
    return F.softplus(-fake).mean()


def feature_distance(fake: Judgement, real: Judgement) -> Tensor:
    """Mean over the layers of the mean absolute difference, as a share of what there is in the music (Défossez et al.
    2022, eq. 2)."""
    shares = []
    for mine, theirs in zip(fake.features, real.features, strict=True):
        theirs = theirs.detach()
        shares.append((mine - theirs).abs().mean(dtype=torch.float32) / theirs.abs().mean(dtype=torch.float32))
    return torch.stack(shares).mean()


def gradient_penalty(judge: nn.Module, spectra: Tensor) -> Tensor:
    """R1 (Mescheder et al. 2018, eq. 9) at the `spectra` of music: half the squared norm of the logits' gradient, the
    mean over excerpts and patches."""
    spectra = _apart(spectra)
    with torch.autocast(spectra.device.type, enabled=False):
        logits = judge(spectra).logits
        (gradient,) = torch.autograd.grad(logits.sum(), spectra, create_graph=True)
    return gradient.square().sum() / (2 * logits.numel())


def _apart(tensor: Tensor) -> Tensor:
    """The same values, whose gradient can be asked for and goes no further. No leaf: what counts operations hangs hooks
    on modules' inputs that `autograd.grad` does not stand on leaves."""
    return tensor.detach().requires_grad_().view_as(tensor)
