"""How well a language model foresees music: cross-entropy of held-out codes, and how far two models are apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audiogen.data.manifest import Track
from audiogen.interfaces import Prompt
from audiogen.lm.engine import Engine
from audiogen.lm.model import MusicLM
from audiogen.lm.sampling import Sampling
from audiogen.lm.score import lanes
from audiogen.lm.stream import CodeStream


@torch.inference_mode()
def foreseen(engine: Engine, model: MusicLM, track: Track, codes: np.ndarray, frames: int) -> tuple[Tensor, Tensor]:
    """What a model says of the first `frames` of a piece under its own prompt and score, in the engine's arithmetic.

    `codes` int `[T, K]` → log-probabilities `[S, K, V]` of S delayed positions, and the codes there `[S, K]`, -1 where
    there is none.
    """
    score, rate, books = track.score(), model.config.frame_rate, model.config.num_codebooks
    caption = track.captions[0] if track.captions else ""
    prefix = model.prefix.encode([Prompt(caption, track.attributes())]).float()

    def source(first: int, count: int) -> np.ndarray:
        return lanes(score, first, count, rate)

    known = torch.from_numpy(codes[:frames, :books].T.astype(np.int64))
    stream = CodeStream(engine, prefix, source, Sampling(guidance=1.0), seed=0)
    stream._prompt = known  # not read, as those of a stream that goes on would be, but asked about
    turn = stream.ask(known.shape[1])
    turn.logits = torch.zeros(*turn.forced.shape, model.config.codebook_size)
    engine.run([turn])
    own = turn.forced < model.config.codebook_size
    return turn.logits.log_softmax(-1), torch.where(own, turn.forced, -1)


def nats(logs: Tensor, codes: Tensor) -> Tensor:
    """Cross-entropy of each codebook, `[K]`."""
    own = codes >= 0
    picked = logs.gather(2, codes.clamp_min(0)[..., None])[..., 0]
    return -(picked * own).sum(0) / own.sum(0)


def divergence(logs: Tensor, other: Tensor, codes: Tensor) -> Tensor:
    """Kullback-Leibler divergence of `logs` from `other` in nats, of each codebook, `[K]`; 0 where it has no codes.

    Log-probabilities `[S, K, V]` both, Σ p (log p - log q); `codes` `[S, K]` is negative where there is none.
    """
    own = codes >= 0
    each = (logs.exp() * (logs - other)).sum(-1)
    return (each * own).sum(0) / own.sum(0).clamp_min(1)


def measure_model(
    models: Sequence[tuple[str, Engine, MusicLM]], tracks: Sequence[Track], codes: Sequence[np.ndarray], frames: int
) -> dict[str, Any]:
    """Bits a second of each codebook for each model, and the first one's divergence from each of the others."""
    told: dict[str, list[Tensor]] = {}
    for track, each in zip(tracks, codes, strict=True):
        first = None
        for name, engine, model in models:
            logs, there = foreseen(engine, model, track, each, frames)
            told.setdefault(name, []).append(nats(logs, there))
            if first is None:
                first = logs
            else:
                told.setdefault(f"from {name}", []).append(divergence(first, logs, there))
    found: dict[str, Any] = {"pieces": len(tracks), "frames": frames}
    for name, values in told.items():
        bits = torch.stack(values).mean(0) * models[0][2].config.frame_rate / math.log(2)
        found[name] = {
            "bits_a_second": round(float(bits.sum()), 2),
            "codebooks": [round(float(each), 2) for each in bits],
        }
    return found
