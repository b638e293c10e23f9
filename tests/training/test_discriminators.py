from __future__ import annotations

import pytest
import torch
from tiny import notes
from torch import Tensor, nn
from torch.func import functional_call

from audiogen.interfaces import AudiogenError
from audiogen.training.discriminators import (
    AdversarialConfig,
    CompressedSpectrum,
    Contest,
    SpectralDiscriminator,
    codec_loss,
    codec_of,
    codec_tensors,
    discriminator_loss,
    feature_distance,
    gradient_penalty,
)  # fmt: skip

SMALL = AdversarialConfig(windows=(128, 64), filters=4, head_start=0)
KINDS = ("hinge", "least_squares", "bce")


class Gain(nn.Module):
    """A codec of two numbers, that plays left and right too softly."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor([0.3, 0.5]))

    def forward(self, music: Tensor) -> Tensor:
        return music * self.gain[:, None]


def music(seed: int = 0) -> Tensor:
    return torch.stack([notes(0.1, seed=2 * seed + item) for item in range(2)])


def contest(**changes: object) -> Contest:
    torch.manual_seed(0)
    return Contest(Gain(), 2, SMALL.model_copy(update=changes))


def squares(played: Tensor, wanted: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    return (played - wanted).square().mean(), {}


def at_output(made: Contest, spectral_scale: float = 1.0) -> Tensor:
    """The gradient that the codec's output gets."""
    played = made.codec(music()).detach().requires_grad_()

    def scaled(*pair: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return spectral_scale * squares(*pair)[0], {}

    made.loss(played, music(), scaled, 1)[0].backward()
    assert played.grad is not None
    return played.grad


def norm(gradient: Tensor) -> float:
    return float(gradient.flatten(1).norm(dim=1).mean())


def test_spectra_are_compressed_and_so_are_their_gradients() -> None:
    torch.manual_seed(0)
    x = (0.3 * torch.randn(2, 2, 300)).requires_grad_()
    window = torch.hann_window(64) / 4
    spectra = torch.stft(x.flatten(0, 1), 64, 32, window=window, center=False, return_complex=True)
    spectra = spectra * (spectra.abs().square() + CompressedSpectrum.floor) ** -0.35
    expected = torch.view_as_real(spectra).permute(0, 3, 2, 1).unflatten(0, (2, 2)).flatten(1, 2)
    found = CompressedSpectrum.apply(x, window)
    assert found.shape == (2, 4, 8, 33)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    weights = torch.randn_like(expected)
    wanted, got = (torch.autograd.grad((each * weights).sum(), x)[0] for each in (expected, found))
    torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)
    assert float(got.abs().max()) > 1 and not got[:, :, 288:].any()  # the last window ends there


@pytest.mark.parametrize(("kind", "blind"), [("hinge", 2.0), ("least_squares", 0.5), ("bce", 1.386)])
def test_real_is_told_from_fake_after_a_few_updates(kind: str, blind: float) -> None:
    """`blind` is the least loss of one who always says the same."""
    torch.manual_seed(0)
    judge = SpectralDiscriminator(2, 64, 4)
    optimiser = torch.optim.AdamW(judge.parameters(), lr=1e-2)

    def heard(seed: int) -> tuple[Tensor, Tensor]:
        real, fake = music(seed), 0.1 * torch.randn(2, 2, 1600)
        return judge(judge.spectra(real)).logits, judge(judge.spectra(fake)).logits

    assert float(discriminator_loss(*heard(0), kind).detach()) > 0.9 * blind
    for seed in range(30):
        optimiser.zero_grad()
        discriminator_loss(*heard(seed), kind).backward()
        optimiser.step()
    real, fake = (each.detach() for each in heard(99))
    assert float(discriminator_loss(real, fake, kind)) < 0.5 * blind
    assert float(real.mean()) > float(fake.mean()) + 0.5
    assert float(codec_loss(real, kind)) < 0.5 * float(codec_loss(fake, kind))


@pytest.mark.parametrize("kind", KINDS)
def test_each_side_learns_from_its_own_loss_and_from_no_other(kind: str) -> None:
    """Against two losses of their own: the codec's with the discriminators' weights held, theirs with its output."""
    made = contest(kind=kind, balance=False, weight=0.7, features=0.3, gradient_penalty=0.1, penalty_every=2)
    loss, parts = made.loss(made.codec(music()), music(), squares, 4)
    loss.backward()
    wanted, value, total, learning = music(), 0.0, torch.zeros(2), []
    for index, judge in enumerate(made.discriminators):
        held = {name: weight.detach() for name, weight in judge.named_parameters()}
        played = made.codec(music())
        fake = functional_call(judge, held, (judge.spectra(played),))
        real = functional_call(judge, held, (judge.spectra(wanted),))
        half = (0.7 * codec_loss(fake.logits, kind) + 0.3 * feature_distance(fake, real)) / 2
        own = half + (squares(played, wanted)[0] if index == 0 else 0)
        total += torch.autograd.grad(own, made.codec.gain)[0]
        fake, real = judge(judge.spectra(played.detach())), judge(judge.spectra(wanted))
        theirs = discriminator_loss(real.logits, fake.logits, kind) / 2
        theirs = theirs + 2 * 0.1 * gradient_penalty(judge, judge.spectra(wanted)) / 2
        weights = list(judge.parameters())
        for weight, gradient in zip(weights, torch.autograd.grad(theirs, weights), strict=True):
            torch.testing.assert_close(weight.grad, gradient, atol=1e-6, rtol=1e-4)
            learning.append(bool(gradient.any()))
        value += float((own + theirs).detach())
    torch.testing.assert_close(made.codec.gain.grad, total, atol=1e-6, rtol=1e-4)
    assert sum(learning) > 0.6 * len(learning) and total.all()  # under a hinge biases may weigh alike on both sides
    assert float(loss.detach()) == pytest.approx(value, rel=1e-5)
    assert {"adversarial", "features", "discriminators", "penalty"} == parts.keys()


def test_the_penalty_comes_every_so_many_updates() -> None:
    made = contest(gradient_penalty=0.1, penalty_every=3)
    told = [made.loss(made.codec(music()), music(), squares, step)[1] for step in range(4)]
    assert ["penalty" in parts for parts in told] == [True, False, False, True]


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_balanced_gradients_have_the_shares_asked_for(scale: float) -> None:
    """Beside the spectral loss's own gradient, whatever its size."""
    alone = at_output(contest(weight=0.0, features=0.0), scale)
    expected = torch.autograd.grad(scale * squares(played := leaf(), music())[0], played)[0]
    torch.testing.assert_close(alone, expected)
    for shares in ({"weight": 0.5, "features": 0.0}, {"weight": 0.0, "features": 2.0}):
        other = at_output(contest(**shares), scale) - alone
        assert norm(other) == pytest.approx(sum(shares.values()) * norm(alone), rel=1e-3)


def leaf() -> Tensor:
    return Gain()(music()).detach().requires_grad_()


def test_balance_follows_a_moving_average() -> None:
    made = contest(weight=0.5, features=0.0)
    first = at_output(made)
    quiet = torch.autograd.grad(squares(played := leaf(), music())[0], played)[0]
    adversarial = first - quiet  # its norm is half of that of `quiet`
    second = at_output(made, spectral_scale=10.0) - 10 * quiet
    average = (made.decay + 10) / (made.decay + 1)  # of the spectral gradient's norm; the other one's has not changed
    torch.testing.assert_close(second, adversarial * average, atol=1e-7, rtol=1e-3)


def test_the_codec_listens_after_the_head_start() -> None:
    made = contest(head_start=3, starts_at=2)
    quiet = torch.autograd.grad(squares(played := leaf(), music())[0], played)[0]
    for step in (2, 4, 5):
        played = leaf()
        made.zero_grad()
        made.loss(played, music(), squares, step)[0].backward()
        assert torch.equal(played.grad, quiet) == (step < 5) and bool(made.norms.any()) == (step == 5)
        assert any(weight.grad.any() for weight in made.discriminators.parameters())


def test_r1_is_the_squared_gradient_at_real_excerpts() -> None:
    torch.manual_seed(0)
    judge = SpectralDiscriminator(2, 64, 4)
    spectra = judge.spectra(music())
    jacobian = torch.autograd.functional.jacobian(lambda each: judge(each).logits.sum((1, 2, 3)), spectra)
    own = torch.stack([jacobian[item, item] for item in range(2)])  # of each excerpt's logits
    patches = judge(spectra).logits[0].numel()
    expected = own.square().sum((1, 2, 3)).mean() / (2 * patches)
    found = gradient_penalty(judge, spectra)
    torch.testing.assert_close(found, expected)
    found.backward()
    assert all(layer.parametrizations.weight.original1.grad.any() for layer in judge.layers)


def test_no_distance_between_what_is_the_same() -> None:
    torch.manual_seed(0)
    judge = SpectralDiscriminator(2, 64, 4)
    one, other = (judge(judge.spectra(music(seed))) for seed in (0, 1))
    assert float(feature_distance(one, one).detach()) == 0 and float(feature_distance(other, one).detach()) > 0.1


def test_resting_discriminators_take_part_with_nothing() -> None:
    made = contest()
    loss = made.resting()
    loss.backward()
    gradients = [weight.grad for weight in made.discriminators.parameters()]
    assert float(loss.detach()) == 0 and all(each is not None and not each.any() for each in gradients)


def test_the_codec_is_found_in_a_contest_and_in_its_checkpoint() -> None:
    made, alone = contest(), Gain()
    assert codec_of(made) is made.codec and codec_of(alone) is alone
    for module in (made, alone):
        found = codec_tensors(module.state_dict())
        assert found.keys() == {"gain"} and torch.equal(found["gain"], alone.gain)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"kind": "wasserstein"}, r"kind: .*'hinge', 'least_squares' or 'bce'"),
        ({"windows": []}, "windows: .* at least 1"), ({"windows": [512, 63]}, r"windows \[63\]: .* even"),
        ({"windows": [16]}, r"windows \[16\]: .* 32"), ({"weight": -1.0}, "weight: .* greater"),
        ({"gradient_penalty": -0.1}, "gradient_penalty: .* greater"), ({"starts_at": -1}, "starts_at: .* greater"),
        ({"head_start": -1}, "head_start: .* greater"),
        ({"filters": 0}, "filters: .* greater"), ({"penalty_every": 0}, "penalty_every: .* greater"),
    ],
)  # fmt: skip
def test_bad_settings_are_told(value: dict[str, object], told: str) -> None:
    with pytest.raises(AudiogenError, match=told):
        AdversarialConfig.build(value, "here.toml")
