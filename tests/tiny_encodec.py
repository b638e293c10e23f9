"""Small EnCodecs of random weights: the reference, as transformers makes it, and ours with the same weights."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from tiny import notes
from torch import Tensor
from transformers import EncodecConfig as ReferenceConfig
from transformers import EncodecModel
from transformers.utils import logging

from audiogen.codec.encodec import EncodecCodec

logging.set_verbosity_error()
logging.disable_progress_bar()

SMALL = {"num_filters": 4, "hidden_size": 8, "codebook_size": 16, "upsampling_ratios": [4, 3, 2]}
MONO = {**SMALL, "sampling_rate": 2400, "target_bandwidths": [0.8, 1.6]}  # 100 frames of 24 samples a second, K = 4
LAYOUTS: dict[str, dict[str, Any]] = {
    "24 kHz": {**MONO, "num_residual_layers": 2},
    "32 kHz": {**MONO, "use_causal_conv": False, "use_conv_shortcut": False},
    "odd": {**MONO, "trim_right_ratio": 0.5, "pad_mode": "constant", "kernel_size": 6, "residual_kernel_size": 4},
    "48 kHz": {
        **SMALL, "sampling_rate": 4800, "audio_channels": 2, "use_causal_conv": False, "norm_type": "time_group_norm",
        "normalize": True, "chunk_length_s": 0.1, "overlap": 0.1, "target_bandwidths": [3.2],
    },  # chunks of 20 frames, 2 shared; K = 4
}  # fmt: skip


def audio(channels: int, samples: int, sample_rate: int = 2400) -> Tensor:
    """Two items, the second one quieter: `[2, C, S]`."""
    heard = torch.stack([notes(4.0, sample_rate, seed)[:channels, :samples] for seed in (0, 1)])
    return heard * torch.tensor([1.0, 0.2])[:, None, None]


@torch.no_grad()
def make_lively(books: list[Tensor], latents: Tensor) -> None:
    """Codebooks of the spread of latents `[B, D, T]`, each finer than the one before: every entry may be heard."""
    flat = latents.transpose(1, 2).flatten(0, 1)
    for level, book in enumerate(books):
        centre = flat.mean(0) if level == 0 else torch.zeros(())
        book.copy_(centre + torch.randn(book.shape) * flat.std(0) * 0.1 ** (level / len(books)))


@cache
def reference(layout: str) -> EncodecModel:
    torch.manual_seed(0)
    made = EncodecModel(ReferenceConfig(**LAYOUTS[layout])).eval()
    for name, weight in made.named_parameters():
        if name.endswith("original0"):
            weight.data *= 1.5  # a network of random weights dampens: what follows should be heard
    heard = audio(made.config.audio_channels, 4800, made.config.sampling_rate)
    with torch.no_grad():
        latents = made.encoder(heard / heard.std((1, 2), keepdim=True) if made.config.normalize else heard)
    make_lively([layer.codebook.embed for layer in made.quantizer.layers], latents)
    return made


@cache
def ours(layout: str, **changes: Any) -> EncodecCodec:
    there = reference(layout)
    made = EncodecCodec.from_transformers(there.config.to_dict(), there.state_dict())
    if not changes:
        return made
    changed = EncodecCodec(made.config.model_copy(update=changes))
    changed.load_state_dict(made.state_dict())
    return changed.eval().requires_grad_(False)


def any_codec(name: str) -> EncodecCodec:
    return ours("32 kHz", stereo_from_mono=True) if name == "stereo from mono" else ours(name)


@torch.no_grad()
def reference_codes(layout: str, samples: Tensor) -> tuple[Tensor, Tensor | None]:
    """Codes `[B, K, T]` and scale `[B]` of the first chunk, or of everything."""
    there = reference(layout)
    made = there.encode(samples, bandwidth=there.config.target_bandwidths[-1])
    scale = made.audio_scales[0]
    return made.audio_codes[0], None if scale is None else scale[:, 0]


@torch.no_grad()
def reference_audio(layout: str, codes: Tensor, scale: Tensor | None = None) -> Tensor:
    return reference(layout).decode(codes[None], [scale]).audio_values
