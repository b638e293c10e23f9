"""Where a MusicLM looks: its blocks run in the open, so that the shares of attention can be seen.

The weights and the arithmetic are the Transformer's own; only here the shares of each head are kept until they are
averaged. Read block by block, so that the memory is that of one block and one window, however long the clip.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from audiogen.lm.model import MusicLM
from audiogen.lm.transformer import _rotate


@dataclass(frozen=True)
class Seen:
    """What a block of t positions predicted, and where each layer looked (mean of its heads).

    For each position the shares of `prefix` and `lags` together are 1.
    """

    logits: Tensor
    """`[B, K, t, V]`, as `MusicLM.forward` gives them"""
    prefix: Tensor
    """share on each token of the prefix, float32 `[layers, B, t, L]`"""
    lags: Tensor
    """share on the position so many frames back, 0 being itself, float32 `[layers, B, t, window]`"""


class AttentionMaps:
    """One clip read from its start; `read` repeated is `MusicLM.forward`, and tells where it looked."""

    @torch.inference_mode()
    def __init__(self, model: MusicLM, prefix: Tensor) -> None:
        """`prefix` `[B, L, D]`, of the type of the model's weights."""
        self._model, self._config, self._length = model, model.config.transformer, prefix.shape[1]
        self._position = 0
        state, length = model.init_state(prefix), self._length
        layers = list(zip(state.keys, state.values, strict=True))
        self._prefix = [(keys[:, :, :length].clone(), values[:, :, :length].clone()) for keys, values in layers]
        # the window before the first frame is zeros, which the mask hides
        self._past = [(keys[:, :, length + 1 :], values[:, :, length + 1 :]) for keys, values in layers]

    @torch.inference_mode()
    def read(self, codes: Tensor, lanes: Tensor) -> Seen:
        """The next t positions: delayed codes `[B, K, t]` of the positions before each, lanes `[B, t, N]`."""
        model, transformer = self._model, self._model.transformer
        frames, window = codes.shape[2], self._config.window_frames
        cos, sin = transformer._turns(self._position, frames, torch.float32)
        query, key = torch.arange(frames)[:, None], torch.arange(1 - window, frames)[None]
        hidden = (key > query) | (key <= query - window) | (key < -self._position)
        back = (query + window - 1 - torch.arange(window)).to(codes.device)  # the column of each lag
        h, prefix, lags = model._embed(codes, lanes), [], []
        for layer, block in enumerate(transformer.blocks):
            q, k, v = block.attention.project(block.norm1(h))  # type: ignore[operator, union-attr]
            old_k, old_v = self._past[layer]
            k, v = torch.cat([old_k, _rotate(k, cos, sin)], 2), torch.cat([old_v, v], 2)
            self._past[layer] = k[:, :, frames:].clone(), v[:, :, frames:].clone()
            shares, mixed = self._attend(_rotate(q, cos, sin), k, v, layer, hidden.to(h.device))
            h = block.feed_forward(h + block.attention.out(mixed))  # type: ignore[operator, union-attr]
            prefix.append(shares[..., : self._length])
            lags.append(shares[..., self._length :].gather(2, back.expand(len(shares), -1, -1)))
        self._position += frames
        return Seen(model._logits(transformer.norm(h)), torch.stack(prefix), torch.stack(lags))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, layer: int, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Queries `[B, H, t, hd]` over prefix and frames → shares, mean of the heads `[B, t, L + n]`, and the mixture
        `[B, t, H · hd]`."""
        groups = self._config.heads // self._config.kv_heads
        keys, values = (
            torch.cat(parts, 2).repeat_interleave(groups, 1) for parts in zip(self._prefix[layer], (k, v), strict=True)
        )
        scores = (q @ keys.transpose(2, 3)).float() * self._config.head_dim**-0.5
        shares = scores.masked_fill(F.pad(hidden, (self._length, 0)), float("-inf")).softmax(-1)
        return shares.mean(1), (shares.to(v.dtype) @ values).transpose(1, 2).flatten(2)
