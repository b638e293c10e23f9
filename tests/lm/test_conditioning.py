from __future__ import annotations

import pytest
import torch

from audiogen.interfaces import Attributes, Key, Prompt, StyleEncoder
from audiogen.lm.conditioning import PrefixEncoder, text_buckets

PARTS = ("style", "moods", "instruments", "key", "tempo", "metre", "energy", "text")


@pytest.fixture(scope="module")
def encoder() -> PrefixEncoder:
    torch.manual_seed(0)
    return PrefixEncoder(16).requires_grad_(False)


def test_shape_and_protocol(encoder: PrefixEncoder) -> None:
    assert isinstance(encoder, StyleEncoder)
    assert encoder.encode([None, Prompt("calm")]).shape == (2, encoder.length, 16) == (2, 12, 16)


@pytest.mark.parametrize(
    ("part", "prompts"),
    [
        ("style", [Prompt("", Attributes(style="jazz")), Prompt("", Attributes(style="rock"))]),
        ("moods", [Prompt("", Attributes(moods=("calm",))), Prompt("", Attributes(moods=("calm", "dark")))]),
        ("instruments", [Prompt("", Attributes(instruments=("harp",))), Prompt("", Attributes(instruments=("pad",)))]),
        ("key", [Prompt("", Attributes(key=Key(2, "minor"))), Prompt("", Attributes(key=Key(2, "major")))]),
        ("tempo", [Prompt("", Attributes(tempo_bpm=118.0)), Prompt("", Attributes(tempo_bpm=121.0))]),
        ("metre", [Prompt("", Attributes(beats_per_bar=3)), Prompt("", Attributes(beats_per_bar=4))]),
        ("energy", [Prompt("", Attributes(energy=0.2)), Prompt("", Attributes(energy=0.8))]),
        ("text", [Prompt("rain on a roof"), Prompt("a roof on rain")]),
    ],
)
def test_each_thing_said_changes_its_own_token(encoder: PrefixEncoder, part: str, prompts: list[Prompt]) -> None:
    nothing, one, other = encoder.encode([None, *prompts])
    for a, b in ((nothing, one), (one, other)):
        changed = (a - b).abs().amax(1) > 1e-4
        assert changed.nonzero()[:, 0].tolist() == [PARTS.index(part)]


def test_what_the_model_does_not_know_is_as_not_said(encoder: PrefixEncoder) -> None:
    unknown = Attributes(style="polka", moods=("grumpy",), instruments=("kazoo",), seconds=9.0)
    nothing, blank, odd = encoder.encode([None, Prompt(""), Prompt("!?", unknown)])
    assert torch.equal(nothing, blank) and torch.equal(nothing, odd)


def test_text_is_hashed_alike_everywhere() -> None:
    assert text_buckets("Slow, slow DUB") == text_buckets("slow slow dub") == [2044, 2044, 1236, 174, 1168]
    assert text_buckets("雨") and not text_buckets(" …—")
    assert max(text_buckets(" ".join(map(str, range(5000))))) < 2048
