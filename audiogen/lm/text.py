"""Prompts as a T5 (Raffel et al. 2020) reads them, for models that attend to a text: needs the extra `text`.

The one door to transformers and tokenizers. Of a checkpoint we take the encoder's weights and `tokenizer.json`.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ConfigDict, Field
from torch import Tensor

from audiogen.config import Config
from audiogen.foreign import Checkpoint
from audiogen.interfaces import AudiogenError
from audiogen.storage import Storage, Weights, fill_module, save_weights

KIND = "t5_encoder"
_TOKENIZER = "tokenizer.json"
_SHARED, _TIED = "shared.weight", "encoder.embed_tokens.weight"


class TextEncoderConfig(Config):
    """The fields of a T5's `config.json` that decide the computation; the bounds keep an absurd file from asking for
    memory."""

    model_config = ConfigDict(extra="ignore")

    model_type: Literal["t5"]
    vocab_size: int = Field(default=32_128, gt=0, le=1_000_000)
    d_model: int = Field(default=512, gt=0, le=16_384)
    d_kv: int = Field(default=64, gt=0, le=1024)
    d_ff: int = Field(default=2048, gt=0, le=131_072)
    num_layers: int = Field(default=6, gt=0, le=256)
    num_heads: int = Field(default=8, gt=0, le=256)
    relative_attention_num_buckets: int = Field(default=32, gt=1, le=4096)
    relative_attention_max_distance: int = Field(default=128, gt=1, le=65_536)
    layer_norm_epsilon: float = Field(default=1e-6, gt=0, le=1)
    feed_forward_proj: Literal["relu", "gated-gelu"] = "relu"


class TextEncoder:
    """A prompt → the states of its tokens. Stateless."""

    def __init__(self, config: TextEncoderConfig, tensors: dict[str, Tensor], folder: Path) -> None:
        """Raises AudiogenError for a missing extra and for a `tokenizer.json` missing, damaged or of another model."""
        self.config, self._tokenizer_path = config, folder / _TOKENIZER
        self._tokenizer = _tokenizer(self._tokenizer_path, config.vocab_size)
        self._model = _empty(config)
        fill_module(self._model, tensors | {_TIED: tensors[_SHARED]}, folder)
        self._model.eval().requires_grad_(False)

    @classmethod
    def from_transformers(cls, checkpoint: Checkpoint, dtype: torch.dtype) -> TextEncoder:
        """The part `text_encoder` of a checkpoint, as `dtype`. Raises AudiogenError naming what does not fit."""
        config = TextEncoderConfig.build(
            checkpoint.config.get("text_encoder") or {}, f"{checkpoint.folder}/config.json: text_encoder"
        )
        shapes = {name: list(value.shape) for name, value in _empty(config).state_dict().items() if name != _TIED}
        checkpoint.check("text_encoder.", shapes, ignored=[_TIED])
        tensors = {name: checkpoint.read(f"text_encoder.{name}", dtype) for name in shapes}
        return cls(config, tensors, checkpoint.folder)

    def save(self, folder: str | Path, storage: Storage) -> None:
        """Write a folder of weights and `tokenizer.json`."""
        tensors = {name: value for name, value in self._model.state_dict().items() if name != _TIED}
        save_weights(folder, KIND, self.config.model_dump(mode="json"), tensors, storage)
        shutil.copyfile(self._tokenizer_path, Path(folder) / _TOKENIZER)

    @classmethod
    def load(cls, folder: str | Path, dtype: torch.dtype) -> TextEncoder:
        """Read what `save` wrote. Raises AudiogenError naming what is missing or does not fit."""
        weights = Weights(folder, KIND)
        config = TextEncoderConfig.build(weights.config, f"{folder}/config.json")
        if _SHARED not in weights.names():
            raise AudiogenError(f"{folder}: the tensor {_SHARED} is missing; convert the model again")
        return cls(config, {name: weights.read(name).to(dtype) for name in weights.names()}, Path(folder))

    @torch.inference_mode()
    def encode(self, text: str) -> Tensor:
        """→ states `[1, L, text_dim]`, the last of them that of the end."""
        ids = torch.tensor([self._tokenizer.encode(text).ids])
        states: Tensor = self._model(input_ids=ids).last_hidden_state
        return states


def _empty(config: TextEncoderConfig) -> Any:
    try:
        from transformers import T5Config, T5EncoderModel
    except ImportError:
        raise AudiogenError(
            "this model reads its prompt with transformers, which is not installed: pip install 'audiogen[text]'"
        ) from None

    with torch.device("meta"):
        return T5EncoderModel(T5Config(**config.model_dump(exclude={"model_type"})))


def _tokenizer(path: Path, vocab_size: int) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise AudiogenError(
            "this model reads its prompt with tokenizers, which is not installed: pip install 'audiogen[text]'"
        ) from None

    if not path.is_file():
        raise AudiogenError(f"{path}: missing, and the prompt cannot be read without it; fetch it into the folder")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more special
        raise AudiogenError(f"{path}: no tokenizer that can be read ({error}); fetch it again") from None
    if tokenizer.get_vocab_size() > vocab_size:
        raise AudiogenError(
            f"{path}: has {tokenizer.get_vocab_size()} tokens, but the text encoder's vocab_size is {vocab_size}; "
            "it belongs to another model"
        )
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def library() -> Any:
    """The module transformers. Raises AudiogenError for a missing extra."""
    try:
        import transformers
    except ImportError:
        raise AudiogenError("transformers is not installed: pip install 'audiogen[text]'") from None
    return transformers
