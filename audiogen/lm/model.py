"""MusicLM: codes, prefix and score lanes in, logits of the next delayed frame out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from audiogen.config import Config
from audiogen.interfaces import Condition
from audiogen.lm import fused
from audiogen.lm.conditioning import PrefixEncoder
from audiogen.lm.recurrent import Recurrent, RecurrentConfig
from audiogen.lm.score import NUM_LANES
from audiogen.lm.transformer import Transformer, TransformerConfig
from audiogen.storage import Storage, fill_module, load_weights, save_weights


class MusicLMConfig(Config):
    """Sizes of a MusicLM; `num_codebooks` and `codebook_size` are the codec's."""

    num_codebooks: int = Field(default=12, gt=0)
    codebook_size: int = Field(default=1024, gt=1)
    code_dim: int = 96
    """width of a code's embedding before it is projected"""
    frame_rate: float = 25.0
    transformer: TransformerConfig = TransformerConfig()
    recurrent: RecurrentConfig | None = None
    """sizes of an LSTM, which then stands in the Transformer's place"""

    def model_post_init(self, context: object, /) -> None:
        if self.recurrent is not None and self.transformer != TransformerConfig():
            raise ValueError("a model has a Transformer or an LSTM: leave out the table transformer, or recurrent")

    @property
    def dim(self) -> int:
        """width of the hidden states"""
        return (self.recurrent or self.transformer).dim

    @property
    def pad(self) -> int:
        """the code that stands for none"""
        return self.codebook_size

    @property
    def delays(self) -> tuple[int, ...]:
        """By how many frames each codebook is late."""
        return tuple(range(self.num_codebooks))


class MusicLM(nn.Module):
    """Implements `audiogen.interfaces.LanguageModel`. Stateless; a stream's state is the caller's."""

    offsets: Tensor

    def __init__(self, config: MusicLMConfig) -> None:
        super().__init__()
        self.config = config
        dim, books, size = config.dim, config.num_codebooks, config.codebook_size
        self.codes = nn.Embedding(books * (size + 1), config.code_dim)
        self.codes_in = nn.Linear(books * config.code_dim, dim, bias=False)
        self.lanes_in = nn.Sequential(nn.Linear(NUM_LANES, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.prefix = PrefixEncoder(dim)
        if config.recurrent is None:
            self.transformer = Transformer(config.transformer)
        else:
            self.recurrent = Recurrent(config.recurrent)
        self.heads = nn.Linear(dim, books * size, bias=False)
        self.register_buffer("offsets", torch.arange(books) * (size + 1), persistent=False)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                nn.init.normal_(weight, std=self._initial_std(name, weight))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *told: Any) -> None:
        """Weights made before there were so many lanes hear nothing of the later ones."""
        name = f"{prefix}lanes_in.0.weight"
        weight = state_dict.get(name)
        if weight is not None and weight.ndim == 2 and weight.shape[1] < NUM_LANES:
            state_dict[name] = F.pad(weight, (0, NUM_LANES - weight.shape[1]))
        super()._load_from_state_dict(state_dict, prefix, *told)

    @property
    def trunk(self) -> Transformer | Recurrent:
        """What is between embeddings and heads."""
        return self.transformer if self.config.recurrent is None else self.recurrent

    @staticmethod
    def _initial_std(name: str, weight: Tensor) -> float:
        """Inputs and gates of unit size; the Transformer small, all outputs smaller, so that the trunk begins near the
        identity."""
        if name == "codes.weight":
            return 1.0
        if ".down." in name or ".out." in name:
            return 0.01
        return float(weight.shape[1] ** -0.5) if name.startswith(("codes_in", "lanes_in", "recurrent")) else 0.02

    @torch.no_grad()
    def start_from_codebooks(self, codebooks: Tensor) -> None:
        """Begin the embeddings of codes at the codec's entries `[K', V, D]`, K' ≥ K, scaled to unit size.

        So codes that sound alike begin alike. Does nothing when D is not `code_dim`.
        """
        books, size = self.config.num_codebooks, self.config.codebook_size
        if codebooks.shape[2] == self.config.code_dim:
            scaled = codebooks[:books] / codebooks[:books].square().mean((1, 2), keepdim=True).sqrt()
            self.codes.weight.view(books, size + 1, -1)[:, :size] = scaled

    def save(self, folder: str | Path, storage: Storage) -> None:
        """Write a model folder."""
        save_weights(folder, "music_lm", self.config.model_dump(mode="json"), self.state_dict(), storage)

    @classmethod
    def load(cls, folder: str | Path) -> MusicLM:
        """Read what `save` wrote. Raises AudiogenError naming what is missing or does not fit."""
        config, tensors = load_weights(folder, "music_lm")
        model = cls(MusicLMConfig.build(config, f"{folder}/config.json"))
        fill_module(model, tensors, folder)
        return model.eval().requires_grad_(False)

    def _embed(self, codes: Tensor, lanes: Tensor) -> Tensor:
        """Codes `[B, K, T]`, lanes `[B, T, N]` → `[B, T, D]`."""
        tokens = self.codes(codes.transpose(1, 2) + self.offsets)
        return self.codes_in(tokens.flatten(2)) + self.lanes_in(lanes.to(tokens.dtype))

    def _logits(self, hidden: Tensor) -> Tensor:
        return self.heads(hidden).unflatten(2, (self.config.num_codebooks, -1)).transpose(1, 2)

    def _hidden(self, codes: Tensor, condition: Condition) -> Tensor:
        return self.trunk(self._embed(codes, condition.lanes), condition.prefix)  # type: ignore[no-any-return]

    def forward(self, codes: Tensor, condition: Condition) -> Tensor:
        """Delayed codes `[B, K, T]` of the positions before each, condition → logits `[B, K, T, V]`."""
        return self._logits(self._hidden(codes, condition))

    def cross_entropy(self, codes: Tensor, condition: Condition, targets: Tensor, ignored: int) -> Tensor:
        """As `forward`, and the codes `[B, K, T]` that should come → cross-entropy of each codebook in nats, summed
        over all that are not `ignored`, `[K]`."""
        hidden, config = self._hidden(codes, condition), self.config
        if fused.serves(hidden, config.dim, config.codebook_size):
            return fused.cross_entropy(hidden, self.heads.weight, targets, ignored)
        logits, wanted = self._logits(hidden).transpose(1, 2), targets.transpose(1, 2)  # as they lie in memory
        each = F.cross_entropy(logits.flatten(0, 2).float(), wanted.flatten(), ignore_index=ignored, reduction="none")
        return each.view(-1, config.num_codebooks).sum(0)

    def init_state(self, prefix: Tensor) -> Any:
        """Prefix `[B, L, D]` → the state before the first position, of the trunk's kind."""
        return self.trunk.init_state(prefix)

    def set_prefix(self, prefix: Tensor, state: Any) -> None:
        """Swap the prompt of a running stream."""
        self.trunk.set_prefix(prefix, state)

    def step(self, codes: Tensor, lanes: Tensor, state: Any) -> Tensor:
        """Codes `[B, K, 1]`, lanes `[B, 1, N]`, state → logits `[B, K, 1, V]`; the state advances by one."""
        told = lanes.contiguous()  # of a slice bfloat16 rounds otherwise, and the cut must not matter
        return self._logits(self.trunk.step(self._embed(codes, told), state))
