"""Prompts → prefix: one token for each thing a prompt can say, always in the same place.

What is not said has a learned token of its own, so every prefix has the same length and no mask is needed.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from audiogen.interfaces import INSTRUMENTS, MOODS, STYLES, Attributes, Prompt

_BUCKETS = 2048
_TEXT_DIM = 96
_WORD = re.compile(r"[a-z]+|[0-9]+|#|[\u3040-\u30ff\u4e00-\u9fff]")
_PARTS = ("style", "moods", "instruments", "key", "tempo", "metre", "energy", "text")
_FREE = 4


def text_buckets(text: str) -> list[int]:
    """Words and neighbouring pairs of words → buckets 0…2047, the same on every machine."""
    words = _WORD.findall(text.lower())
    grams = words + [f"{a} {b}" for a, b in pairwise(words)]
    return [int.from_bytes(hashlib.blake2b(gram.encode(), digest_size=4).digest()) % _BUCKETS for gram in grams]


class PrefixEncoder(nn.Module):
    """Implements `audiogen.interfaces.StyleEncoder`: prompts → prefix `[B, L, D]`, L = 12."""

    length = len(_PARTS) + _FREE

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.free = nn.Parameter(torch.randn(_FREE, dim) * 0.02)
        self.absent = nn.Parameter(torch.randn(len(_PARTS), dim) * 0.02)
        self.styles = nn.Embedding(len(STYLES), dim)
        self.moods = nn.Embedding(len(MOODS), dim)
        self.instruments = nn.Embedding(len(INSTRUMENTS), dim)
        self.keys = nn.Embedding(24, dim)
        self.metres = nn.Embedding(16, dim)
        self.tempo = nn.Linear(16, dim)
        self.energy = nn.Linear(4, dim)
        self.words = nn.Embedding(_BUCKETS, _TEXT_DIM)
        self.text = nn.Linear(_TEXT_DIM, dim)
        self.norm = nn.RMSNorm(dim, eps=1e-6)

    def encode(self, prompts: Sequence[Prompt | None]) -> Tensor:
        """→ prefix `[B, L, D]`; None stands for no prompt at all."""
        return torch.stack([self._one(prompt) for prompt in prompts])

    def _one(self, prompt: Prompt | None) -> Tensor:
        said: dict[str, Tensor] = {} if prompt is None else self._said(prompt.attributes, prompt.text)
        parts = torch.stack([said.get(name, self.absent[index]) for index, name in enumerate(_PARTS)])
        return self.norm(torch.cat([parts, self.free]))

    def _said(self, attributes: Attributes, text: str) -> dict[str, Tensor]:
        said: dict[str, Tensor] = {}
        if attributes.style in STYLES:
            said["style"] = self.styles.weight[STYLES.index(attributes.style)]
        for name, table, names, values in (
            ("moods", self.moods, MOODS, attributes.moods),
            ("instruments", self.instruments, INSTRUMENTS, attributes.instruments),
        ):
            known = [names.index(value) for value in values if value in names]
            if known:
                said[name] = table.weight[known].sum(0) / math.sqrt(len(known))
        if attributes.key is not None:
            said["key"] = self.keys.weight[attributes.key.tonic + 12 * (attributes.key.mode == "minor")]
        if attributes.tempo_bpm is not None:
            octaves = math.log2(attributes.tempo_bpm / 60)
            said["tempo"] = self.tempo(_waves(octaves, 16, self.free))
        if attributes.beats_per_bar is not None:
            said["metre"] = self.metres.weight[min(attributes.beats_per_bar, 15)]
        if attributes.energy is not None:
            said["energy"] = self.energy(_waves(attributes.energy, 4, self.free))
        buckets = text_buckets(text)
        if buckets:
            said["text"] = self.text(self.words.weight[buckets].sum(0) / math.sqrt(len(buckets)))
        return said


def _waves(value: float, count: int, like: Tensor) -> Tensor:
    """sin and cos of `value` at octave-spaced rates, `[count]`."""
    angles = [value * math.pi / 2 * 2.0**octave for octave in range(count // 2)]
    return like.new_tensor([f(angle) for angle in angles for f in (math.sin, math.cos)])
