"""MusicGen (Copet et al. 2023): a decoder over delayed codes that attends to a text, or has text and melody before it.

Its own block, since nothing of `transformer.Block` is shared (docs/decisions/0011-musicgen.md): LayerNorm, GELU,
sinusoidal positions, attention over the text. The stream, the delay pattern, sampling and storage are those of
`MusicLM`. The reference for every number is transformers' implementation (tests/lm/test_musicgen.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from audiogen.config import Config
from audiogen.foreign import Checkpoint
from audiogen.interfaces import AudiogenError, Condition
from audiogen.storage import Storage, Weights, as_type, fill_module, fresh, is_finite, save_weights

KIND = "musicgen_lm"
_WINDOW_SECONDS, _STRIDE_SECONDS = 30.0, 18.0
_POSITIONS = "model.decoder.embed_positions.weights"  # old checkpoints store the sinusoids, which are computed here


class MusicGenConfig(Config):
    """Sizes of a MusicGen; the bounds keep an absurd file from asking for memory."""

    num_codebooks: int = Field(gt=0, le=64)
    codebook_size: int = Field(gt=1, le=65_536)
    channels: int = Field(default=1, ge=1, le=2)
    frame_rate: float = Field(default=50.0, gt=0, le=1000)
    dim: int = Field(ge=4, le=16_384, multiple_of=2)
    depth: int = Field(gt=0, le=256)
    heads: int = Field(gt=0, le=256)
    hidden: int = Field(gt=0, le=131_072)
    text_dim: int = Field(gt=0, le=16_384)
    melody_pitches: Literal[0, 12] = 0
    """0 for a model that attends to the text and knows no melody"""
    melody_frames: int = Field(default=0, ge=0, le=8192)
    window_frames: int = Field(gt=1, le=65_536)
    """frames that share one run of positions; then the last `window_frames - stride_frames` begin the next"""
    stride_frames: int = Field(gt=0)

    def model_post_init(self, context: object, /) -> None:
        if self.dim % self.heads or self.num_codebooks % self.channels or self.stride_frames > self.window_frames:
            raise ValueError(
                f"dim {self.dim} must be a multiple of heads {self.heads}, num_codebooks {self.num_codebooks} of "
                f"channels {self.channels}, and stride_frames {self.stride_frames} at most window_frames"
            )
        if bool(self.melody_pitches) != bool(self.melody_frames):
            raise ValueError("melody_pitches and melody_frames must both be given, or neither")

    @property
    def pad(self) -> int:
        """the code that stands for none"""
        return self.codebook_size

    @property
    def delays(self) -> tuple[int, ...]:
        """By how many frames each codebook is late; left and right of a pair together."""
        return tuple(book // self.channels for book in range(self.num_codebooks))

    @classmethod
    def from_transformers(cls, config: dict[str, Any], source: str, frame_rate: float) -> MusicGenConfig:
        """The sizes that a `config.json` of model_type "musicgen" or "musicgen_melody" tells.

        The window is 30 s with a stride of 18 s, as the authors' code has it, or what the positions allow.
        Raises AudiogenError for what we would compute otherwise than its authors.
        """
        melody = config.get("model_type") == "musicgen_melody"
        decoder, text = config.get("decoder"), config.get("text_encoder")
        if not isinstance(decoder, dict) or not isinstance(text, dict):
            raise AudiogenError(f"{source}: 'decoder' and 'text_encoder' must be objects; fetch it again")
        if decoder.get("activation_function", "gelu") != "gelu":
            raise AudiogenError(f"{source}: activation_function {decoder['activation_function']!r}: only gelu is known")
        size = decoder.get("vocab_size", 2048)
        if decoder.get("pad_token_id", size) != size:
            raise AudiogenError(f"{source}: pad_token_id {decoder['pad_token_id']!r}: expected vocab_size, {size!r}")
        frames = config.get("chroma_length", 235) if melody else 0
        values = {
            "num_codebooks": decoder.get("num_codebooks", 4),
            "codebook_size": size,
            "channels": decoder.get("audio_channels", 1),
            "frame_rate": frame_rate,
            "dim": decoder.get("hidden_size", 1024),
            "depth": decoder.get("num_hidden_layers", 24),
            "heads": decoder.get("num_attention_heads", 16),
            "hidden": decoder.get("ffn_dim", 4096),
            "text_dim": text.get("d_model", 512),
            "melody_pitches": config.get("num_chroma", 12) if melody else 0,
            "melody_frames": frames,
        }
        positions = decoder.get("max_position_embeddings", 2048)
        numbers = [positions, frames, values["num_codebooks"]]
        if any(not isinstance(number, int) for number in numbers):
            raise AudiogenError(f"{source}: max_position_embeddings, chroma_length, num_codebooks: expected integers")
        window = min(round(_WINDOW_SECONDS * frame_rate), positions - frames - values["num_codebooks"])
        stride = max(1, round(window * _STRIDE_SECONDS / _WINDOW_SECONDS))
        return cls.build(values | {"window_frames": window, "stride_frames": stride}, source)


@dataclass
class MusicGenState:
    """Keys and values a layer: of the positions so far, `[B, H, capacity, hd]`, and of the text, `[B, H, L, hd]`."""

    keys: list[Tensor]
    values: list[Tensor]
    text: list[tuple[Tensor, Tensor]]
    position: int = 0


class _Block(nn.Module):
    """Attention back over the positions, attention over the text (unless that stands before them), feed-forward."""

    def __init__(self, config: MusicGenConfig) -> None:
        super().__init__()
        dim = config.dim
        self.heads = config.heads
        self.norm1, self.norm3 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        linear = partial(nn.Linear, bias=False)
        self.qkv, self.out = linear(dim, 3 * dim), linear(dim, dim)
        if not config.melody_frames:
            self.norm2 = nn.LayerNorm(dim)
            self.text_q, self.text_kv, self.text_out = linear(dim, dim), linear(dim, 2 * dim), linear(dim, dim)
        self.up, self.down = linear(dim, config.hidden), linear(config.hidden, dim)

    def split(self, x: Tensor, parts: int) -> list[Tensor]:
        """`[B, T, parts · D]` → `parts` of `[B, H, T, hd]`."""
        return [part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in x.chunk(parts, 2)]


class MusicGen(nn.Module):
    """Implements `audiogen.interfaces.LanguageModel`. Stateless; a stream's state is the caller's.

    The prefix is `[B, L, D]`: what the text says, with the melody before it where the model knows melodies. Lanes
    are not used.
    """

    _read: Callable[[str], Tensor]
    """gives what is on the device "meta" from its file"""

    def __init__(self, config: MusicGenConfig) -> None:
        super().__init__()
        self.config = config
        dim, books, size = config.dim, config.num_codebooks, config.codebook_size
        table = torch.empty(books * (size + 1), dim)
        if not table.is_meta:  # where filling it would load 150 MB of PyTorch's modules
            nn.init.normal_(table)
        self.codes = nn.Embedding.from_pretrained(table, freeze=False)
        self.text_in = nn.Linear(config.text_dim, dim) if config.text_dim != dim else nn.Identity()
        project = config.melody_pitches not in (0, dim)
        self.melody_in = nn.Linear(config.melody_pitches, dim) if project else nn.Identity()
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(dim)
        self.heads = nn.Linear(dim, books * size, bias=False)

    # --- weights ----------------------------------------------------------------------------------------------------

    def save(self, folder: str | Path, storage: Storage) -> None:
        """Write a model folder."""
        save_weights(folder, KIND, self.config.model_dump(mode="json"), self.state_dict(), storage)

    @classmethod
    def open(cls, folder: str | Path, dtype: torch.dtype = torch.float32) -> MusicGen:
        """What `save` wrote, as `dtype`; most of it is still to be read (`take`, `read_all`) before the model is used.

        Raises AudiogenError naming what is missing or does not fit.
        """
        weights = Weights(folder, KIND)
        model = cls._unread(MusicGenConfig.build(weights.config, f"{folder}/config.json"), dtype)
        shapes = {name: torch.empty(weights.shape(name), dtype=dtype, device="meta") for name in weights.names()}
        fill_module(model, shapes, folder)

        def read(name: str) -> Tensor:
            value = weights.read(name)
            if not is_finite(value):
                raise AudiogenError(f"{folder}: {name} holds NaN or infinite values; fetch the model again")
            return as_type(value, dtype)

        return model._opened(read)

    @classmethod
    def load(cls, folder: str | Path) -> MusicGen:
        """`open`, and read everything."""
        return cls.open(folder).read_all()

    @classmethod
    def open_transformers(cls, checkpoint: Checkpoint, config: MusicGenConfig, dtype: torch.dtype) -> MusicGen:
        """Decoder and projections of a checkpoint, as `dtype`; most is still to be read, as of `open`.

        Raises AudiogenError naming what does not fit.
        """
        model = cls._unread(config, dtype)
        told = {name: list(value.shape) for name, value in model.state_dict().items()}
        sources = {name: _sources(name, config) for name in told}
        expected = {
            source: [told[name][0] // len(parts), *told[name][1:]]
            for name, parts in sources.items()
            for source in parts
        }
        for prefix in ("decoder.", "enc_to_dec_proj.", "audio_enc_to_dec_proj."):
            inside = {n.removeprefix(prefix): shape for n, shape in expected.items() if n.startswith(prefix)}
            checkpoint.check(prefix, inside, ignored=[_POSITIONS])

        def read(name: str) -> Tensor:
            whole, parts = fresh(told[name], dtype), sources[name]
            for part, there in zip(parts, whole.chunk(len(parts)), strict=True):
                there.copy_(checkpoint.read(part, dtype))
            return whole

        return model._opened(read)

    @classmethod
    def from_transformers(cls, checkpoint: Checkpoint, config: MusicGenConfig, dtype: torch.dtype) -> MusicGen:
        """`open_transformers`, and read everything."""
        return cls.open_transformers(checkpoint, config, dtype).read_all()

    @classmethod
    def _unread(cls, config: MusicGenConfig, dtype: torch.dtype) -> MusicGen:
        with torch.device("meta"):
            return cls(config).to(dtype).eval()

    def _opened(self, read: Callable[[str], Tensor]) -> MusicGen:
        self._read = read
        for name, value in list(self.named_parameters()):
            value.requires_grad_(False)
            if name.startswith(("text_in.", "melody_in.")):
                self.load_state_dict({name: read(name)}, strict=False, assign=True)
        return self

    def read_all(self, device: torch.device | str = "cpu") -> MusicGen:
        """Read what is still in its file, one tensor after the other, and put it on `device`."""
        for name, value in list(self.named_parameters()):
            if value.is_meta:
                self.load_state_dict({name: self._read(name).to(device)}, strict=False, assign=True)
        return self.requires_grad_(False)

    def take(self, name: str) -> Tensor:
        """A weight that the model gives up; it is read now if it has not been."""
        module, _, kind = name.rpartition(".")
        owner = self.get_submodule(module)
        value = getattr(owner, kind).detach()
        value = self._read(name) if value.is_meta else value
        setattr(owner, kind, nn.Parameter(value.new_empty(0), requires_grad=False))
        return value

    # --- what is asked for ------------------------------------------------------------------------------------------

    def prefix(self, text: Tensor, melody: Tensor | None = None) -> Tensor:
        """Text states `[1, L, text_dim]`, pitch classes int64 `[melody_frames]` or none → prefix `[2, L', D]`: with
        the prompt, and without, which is a text of zeros and a melody of the first pitch class, as in transformers."""
        said = self.text_in(text.to(self.heads.weight))  # as it is stored, where it is
        said = torch.cat([said, torch.zeros_like(said)])
        if not self.config.melody_frames:
            return said
        plain = torch.zeros(self.config.melody_frames, dtype=torch.long, device=said.device)
        pitches = torch.stack([plain if melody is None else melody.to(said.device), plain])
        played = self.melody_in(F.one_hot(pitches, self.config.melody_pitches).to(said.dtype))
        return torch.cat([played, said], 1)

    # --- the language model -----------------------------------------------------------------------------------------

    def forward(self, codes: Tensor, condition: Condition) -> Tensor:
        """Delayed codes `[B, K, T]` of the positions before each, condition → logits `[B, K, T, V]`."""
        return self.step(codes, condition.lanes, self._state(condition.prefix, codes.shape[2]))

    def init_state(self, prefix: Tensor) -> MusicGenState:
        """Prefix `[B, L, D]` → the state before the first position, with room for one window."""
        return self._state(prefix, self.config.window_frames + max(self.config.delays) + 1)

    def step(self, codes: Tensor, lanes: Tensor, state: MusicGenState) -> Tensor:
        """Codes `[B, K, t]`, state → logits `[B, K, t, V]`; the state advances by t. `lanes` is not used.

        The state has room for the positions of one window (`init_state`); a stream begins another after that.
        """
        books, size = self.config.num_codebooks, self.config.codebook_size
        offsets = torch.arange(books, device=codes.device)[:, None] * (size + 1)
        hidden = self._run(self.codes(codes + offsets).sum(1), state)
        return self.heads(hidden).unflatten(2, (books, size)).transpose(1, 2)

    def _state(self, prefix: Tensor, positions: int) -> MusicGenState:
        config, (batch, length, dim) = self.config, prefix.shape
        before = length if config.melody_frames else 0
        shape = (batch, config.heads, before + positions, dim // config.heads)
        rooms = [[prefix.new_zeros(shape) for _ in self.blocks] for _ in range(2)]
        state = MusicGenState(rooms[0], rooms[1], [])
        if before:
            self._run(prefix, state)
        else:
            state.text = [tuple(block.split(block.text_kv(prefix), 2)) for block in self.blocks]  # type: ignore[misc, operator, union-attr]
        return state

    def _run(self, x: Tensor, state: MusicGenState) -> Tensor:
        """Inputs `[B, t, D]` of the next t positions → hidden states `[B, t, D]`."""
        start, count = state.position, x.shape[1]
        end = start + count
        x = x + sinusoids(torch.arange(start, end, device=x.device), x.shape[2]).to(x.dtype)
        mask = None if count == 1 else torch.ones(count, end, dtype=torch.bool, device=x.device).tril(start)
        for index, block in enumerate(self.blocks):
            assert isinstance(block, _Block)
            q, k, v = block.split(block.qkv(block.norm1(x)), 3)
            keys, values = state.keys[index], state.values[index]
            keys[:, :, start:end], values[:, :, start:end] = k, v
            x = x + block.out(_attend(q, keys[:, :, :end], values[:, :, :end], mask))
            if state.text:
                (q,) = block.split(block.text_q(block.norm2(x)), 1)
                x = x + block.text_out(_attend(q, *state.text[index], None))
            x = x + block.down(F.gelu(block.up(block.norm3(x))))
        state.position = end
        return self.norm(x)  # type: ignore[no-any-return]


def sinusoids(positions: Tensor, dim: int) -> Tensor:
    """Positions `[T]` as float32 `[T, dim]`, cosines first, as tensor2tensor has them."""
    half = dim // 2
    rates = torch.exp(torch.arange(half, device=positions.device).float() * -(math.log(10_000) / (half - 1)))
    angles = positions.float()[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], 1)


def _attend(q: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """`[B, H, t, hd]` over `[B, H, N, hd]`, under a mask `[t, N]` → `[B, t, H · hd]`."""
    return F.scaled_dot_product_attention(q, keys, values, attn_mask=mask).transpose(1, 2).flatten(2)


def _sources(name: str, config: MusicGenConfig) -> list[str]:
    """The tensors of a transformers checkpoint that, one after the other, are our tensor `name`."""
    inner = "decoder.model.decoder."
    books = range(config.num_codebooks)
    if name == "codes.weight":
        return [f"{inner}embed_tokens.{book}.weight" for book in books]
    if name == "heads.weight":
        return [f"decoder.lm_heads.{book}.weight" for book in books]
    module, _, kind = name.rpartition(".")
    if module in ("text_in", "melody_in"):
        return [("" if module == "text_in" else "audio_") + f"enc_to_dec_proj.{kind}"]
    if module == "norm":
        return [f"{inner}layer_norm.{kind}"]
    _, number, part = module.split(".")
    return [f"{inner}layers.{number}.{source}.{kind}" for source in _PARTS[part]]


_PARTS = {
    "norm1": ["self_attn_layer_norm"],
    "qkv": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    "out": ["self_attn.out_proj"],
    "norm2": ["encoder_attn_layer_norm"],
    "text_q": ["encoder_attn.q_proj"],
    "text_kv": ["encoder_attn.k_proj", "encoder_attn.v_proj"],
    "text_out": ["encoder_attn.out_proj"],
    "norm3": ["final_layer_norm"],
    "up": ["fc1"],
    "down": ["fc2"],
}
