"""Small random MusicGen checkpoints, written by transformers itself, with a tokenizer made on the spot."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

RATE, HOP = 800, 16  # 50 frames a second, as in the public ones
PROMPT = "slow dub techno, 118 bpm"
_WORDS = ("a", "slow", "calm", "fast", "bright", "dub", "techno", "harp", "drums", "with", ",", "118", "bpm")


def tokenizer() -> Tokenizer:
    """Words of a short list; the end is marked as T5 marks it."""
    words = {"<pad>": 0, "</s>": 1, "<unk>": 2} | {word: index for index, word in enumerate(_WORDS, 3)}
    made = Tokenizer(models.WordLevel(words, "<unk>"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return made


def model(
    seed: int = 0, *, melody: bool = False, channels: int = 1, text_dim: int = 24,
    ratios: tuple[int, ...] = (4, 2, 2), **decoder: Any,
) -> Any:  # fmt: skip
    """transformers' own model of a few thousand weights, large enough for every input to matter; a frame has as many
    samples as the product of `ratios`."""
    torch.manual_seed(seed)
    sizes = {
        "vocab_size": 32, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 48,
        "max_position_embeddings": 800, "num_codebooks": 4 * channels, "audio_channels": channels,
        "pad_token_id": 32, "bos_token_id": 32, "initializer_factor": 0.3,
    } | decoder  # fmt: skip
    bits_a_frame = 5 * sizes["num_codebooks"] // channels
    parts = {
        "decoder": sizes,
        "text_encoder": transformers.T5Config(
            vocab_size=20, d_model=text_dim, d_kv=8, d_ff=32, num_layers=2, num_heads=3
        ),
        "audio_encoder": transformers.EncodecConfig(
            sampling_rate=math.prod(ratios) * RATE // HOP, audio_channels=1,
            normalize=False, use_causal_conv=False, hidden_size=12, num_filters=4,
            num_residual_layers=1, upsampling_ratios=list(ratios), codebook_size=32, codebook_dim=12, num_lstm_layers=1,
            kernel_size=5, target_bandwidths=[bits_a_frame * RATE / HOP / 1000], norm_type="weight_norm",
        ),
    }  # fmt: skip
    if melody:
        made = transformers.MusicgenMelodyForConditionalGeneration(transformers.MusicgenMelodyConfig(**parts))
    else:
        made = transformers.MusicgenForConditionalGeneration(transformers.MusicgenConfig(**parts))
    with torch.no_grad():
        for name, value in made.named_parameters():
            if "norm" in name or name.endswith("proj.bias"):
                value.add_(torch.randn_like(value) * 0.1)
            if name.startswith(("enc_to", "audio_enc_to")) and name.endswith("weight"):
                value.normal_(std=0.3)
        for name, value in made.named_buffers():
            if name.endswith("codebook.embed"):
                value.normal_()
        last = made.audio_encoder.decoder.layers[-1].conv  # to audio of a size that is heard and mostly not limited
        last.bias.zero_()
        heard = made.audio_encoder.decode(torch.randint(0, 32, (1, 1, bits_a_frame // 5, 200)), [None]).audio_values
        last.parametrizations.weight.original0.mul_(0.2 / heard.std())
        last.bias.fill_(-0.2 * float(heard.mean() / heard.std()))
    pad = sizes["vocab_size"]
    made.generation_config.update(
        bos_token_id=pad, decoder_start_token_id=pad, pad_token_id=pad, do_sample=True, max_length=1500,
        guidance_scale=3.0,
    )  # fmt: skip
    return made.eval().requires_grad_(False)


def save(made: Any, folder: Path, **told: Any) -> Path:
    """Write the checkpoint as transformers does, with its tokenizer; → the folder."""
    made.save_pretrained(folder, **told)
    tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def token_ids(text: str = PROMPT) -> torch.Tensor:
    """What transformers is given, `[1, L]`."""
    return torch.tensor([tokenizer().encode(text).ids])


def generate(made: Any, frames: int, guidance: float, **told: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """transformers' greedy clip under `PROMPT` → (codes `[1, K, frames]`, audio `[1, C, S]`)."""
    ids, seen, decode = token_ids(), [], made.audio_encoder.decode
    longest = (made.decoder.config.num_codebooks - 1) // made.decoder.config.audio_channels + 1

    def spy(codes: torch.Tensor, **rest: Any) -> Any:
        seen.append(codes[0])
        return decode(codes, **rest)

    made.audio_encoder.decode = spy
    try:
        audio = made.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, guidance_scale=guidance,
            max_length=frames + longest, **told,
        )  # fmt: skip
    finally:
        del made.audio_encoder.decode
    return torch.stack(seen, 2).flatten(1, 2), audio  # of stereo: left 0, right 0, left 1, …
