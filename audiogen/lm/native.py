"""The CPU engine: weights packed for `kernel.c`, streams of any number in one call, each as if it were alone."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, c_double, c_float, c_int32, c_int64, c_uint64, c_void_p
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiogen.compiler import NoKernel, kernel
from audiogen.interfaces import AudiogenError
from audiogen.lm.engine import OutOfRoomError, Settled, Turn
from audiogen.lm.model import MusicLM
from audiogen.lm.musicgen import MusicGen, sinusoids
from audiogen.storage import HugePages, fresh

_GATED, _TURNED, _LAYER_NORM, _BFLOAT16 = 1, 2, 4, 8
_MOST_TEXT = 1024
_ROWS = 128  # packed together; a multiple of 32


class _Linear(ctypes.Structure):
    _fields_ = (("n", c_int32), ("k", c_int32), ("weight", c_void_p), ("scale", c_void_p), ("shift", c_void_p))


class _Norm(ctypes.Structure):
    _fields_ = (("gain", c_void_p), ("bias", c_void_p))


class _Layer(ctypes.Structure):
    _fields_ = (
        *((name, _Norm) for name in ("norm1", "norm2", "norm3")),
        *((name, _Linear) for name in ("qkv", "out", "text_q", "text_kv", "text_out", "up", "down")),
    )


class _Model(ctypes.Structure):
    _fields_ = (
        *(
            (name, c_int32)
            for name in (
                "flags", "dim", "depth", "heads", "kv_heads", "head_dim", "hidden", "books", "size", "num_lanes",
                "window", "longest",
            )
        ),
        ("epsilon", c_float), ("layers", POINTER(_Layer)), ("norm", _Norm),
        ("heads_out", _Linear), ("lanes_out", _Linear),
        *((name, c_void_p) for name in ("codes", "lanes_in", "lanes_bias", "lanes_out_bias", "positions")),
        ("frequencies", POINTER(c_double)),
    )  # fmt: skip


class _Memory(ctypes.Structure):
    _fields_ = (("kv", c_void_p), ("text", c_void_p), ("prefix_length", c_int32), ("text_length", c_int32))


class _Stream(ctypes.Structure):
    _fields_ = (
        ("memory", _Memory * 2), ("rows", c_int32), ("top_k", c_int32),
        ("guidance", c_float), ("temperature", c_float), ("top_p", c_float),
        ("position", c_int64), ("first_draw", c_int64), ("seed", c_uint64),
        *((name, c_void_p) for name in ("last", "lanes", "forced", "drawn", "logits")),
    )  # fmt: skip


@dataclass
class NativeState:
    """What a stream remembers: bfloat16 keys and values of each row, as the kernel lays them out."""

    memories: list[tuple[Tensor, Tensor]]
    prefix_length: int
    text_lengths: list[int]
    position: int = 0


class NativeEngine:
    """Implements `audiogen.lm.engine.Engine` with `kernel.c`."""

    def __init__(self, model: MusicLM | MusicGen, precision: Literal["int8", "bfloat16"], threads: int) -> None:
        """Takes the weights over: layer by layer they are packed and given up by `model`, which keeps its prefix.

        Raises AudiogenError where there is no kernel (`compiler.kernel` says why).
        """
        found = kernel()
        if isinstance(found, NoKernel):
            raise AudiogenError(f"precision {precision} needs the compiled kernel: {found}; use float32")
        self._kernel: Any = found
        self.config, self.threads = model.config, threads
        self.precision: Settled = precision

        self._half = precision == "bfloat16"
        self._kept: list[Tensor] = []  # what the kernel points to
        self._pages = HugePages()
        self._text = isinstance(model, MusicGen) and not model.config.melody_frames
        self.weight_bytes = 0
        """bytes of weights that a step reads"""
        self._model = self._music_lm(model) if isinstance(model, MusicLM) else self._musicgen(model)

    # --- Engine -----------------------------------------------------------------------------------------------------

    def begin(self, prefix: Tensor) -> NativeState:
        """Prefix `[R, L, D]`, R = 1 or 2 → the state before the first position."""
        length = 0 if self._text else prefix.shape[1]
        if prefix.shape[1] > self._model.longest - self._model.window:
            raise AudiogenError(f"the prompt has {prefix.shape[1]} tokens: say it in at most {_MOST_TEXT}")
        said = [len(row) if self._text and bool(row.any()) else 0 for row in prefix]
        memories = [tuple(self._room(size) for size in (length + self._model.window, words)) for words in said]
        state = NativeState(memories, length, said)  # type: ignore[arg-type]
        self.steer(prefix, state)
        return state

    def steer(self, prefix: Tensor, state: NativeState) -> None:
        """Another prefix of the same length in the place of the first."""
        dim = self._model.dim
        for index, row in enumerate(prefix):
            given = F.pad(row.float(), (0, -dim % 16)).contiguous()
            memory = self._memory(state, index)
            if state.text_lengths[index]:
                self._call("give_text", ctypes.byref(memory), c_void_p(_at(given)))
            elif not self._text:
                self._call("give_prefix", ctypes.byref(memory), c_void_p(_at(given)))

    def read(self, turn: Turn) -> None:
        """Go over positions whose codes are all known: many at a time, until the window is full."""
        many = max(0, min(len(turn.forced), self._model.window - turn.state.position))
        first, rest = (
            replace(turn, lanes=turn.lanes[part], forced=turn.forced[part])
            for part in (slice(0, many), slice(many, None))
        )
        if many:
            stream, _, held = self._stream(first)
            self._call("read_known", ctypes.byref(stream), many)
            turn.state.position += many
            rest.last = held[1][-1].contiguous()
        if len(rest.forced):
            self.run([rest])

    def run(self, turns: Sequence[Turn]) -> list[Tensor]:
        """The next codes of each, int64 `[steps, K]`."""
        made = [self._stream(turn) for turn in turns]
        streams = (_Stream * len(turns))(*(stream for stream, _, _ in made))
        steps = len(turns[0].forced)
        self._call("run", streams, len(turns), steps)
        for turn in turns:
            turn.state.position += steps
        return [drawn for _, drawn, _ in made]

    def bytes_read(self, states: Sequence[NativeState]) -> int:
        """Bytes of weights, keys and values that one step of these streams has to read."""
        window, kv = self._model.window, 0
        for state in states:
            for text in state.text_lengths:
                seen = state.prefix_length + min(state.position + 1, window) + text
                kv += 2 * 2 * seen * self._model.kv_heads * self._model.head_dim * self._model.depth
        return self.weight_bytes + kv

    # --- calls ------------------------------------------------------------------------------------------------------

    def _call(self, name: str, *arguments: Any) -> None:
        if getattr(self._kernel, name)(ctypes.byref(self._model), *arguments, self.threads):
            raise OutOfRoomError("out of memory")

    def _room(self, positions: int) -> Tensor:
        size = self._kernel.memory_size(ctypes.byref(self._model), positions) if positions else 0
        try:
            return fresh((size,), torch.int16)
        except OSError as error:
            raise OutOfRoomError(f"out of memory for a stream of {2 * size / 2**20:.0f} MiB") from error

    def _memory(self, state: NativeState, row: int) -> _Memory:
        kv, text = state.memories[row]
        return _Memory(_at(kv), _at(text), state.prefix_length, state.text_lengths[row])

    def _stream(self, turn: Turn) -> tuple[_Stream, Tensor, list[Any]]:
        """... the codes it will draw, and what it points to."""
        state, sampling = turn.state, turn.sampling
        rows = len(state.memories)
        lanes = np.ascontiguousarray(turn.lanes, dtype=np.float32)
        forced, last = turn.forced.contiguous(), turn.last.contiguous()
        drawn = torch.empty_like(forced)
        stream = _Stream(
            (_Memory * 2)(*(self._memory(state, row) for row in range(rows))), rows,
            min(sampling.top_k, self.config.codebook_size), sampling.guidance, sampling.temperature, sampling.top_p,
            state.position, turn.first_draw, turn.seed, _at(last), lanes.ctypes.data, _at(forced), _at(drawn),
            None if turn.logits is None else _at(turn.logits),
        )  # fmt: skip
        return stream, drawn, [lanes, forced, last]

    # --- weights ----------------------------------------------------------------------------------------------------

    def _music_lm(self, model: MusicLM) -> _Model:
        config, sizes = model.config, model.config.transformer
        dim, books = sizes.dim, config.num_codebooks
        tables = model.codes.weight.float().view(books, -1, config.code_dim)
        into = model.codes_in.weight.float().view(dim, books, -1).permute(1, 2, 0)
        first, last = model.lanes_in[0], model.lanes_in[2]
        assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
        layers = (_Layer * sizes.depth)()
        blocks: Any = model.transformer.blocks
        for layer, block in zip(layers, blocks, strict=True):
            layer.norm1, layer.norm3 = self._norm(block.norm1.weight), self._norm(block.norm2.weight)
            layer.qkv, layer.out = (self._linear(_taken(part)) for part in (block.attention.qkv, block.attention.out))
            layer.up, layer.down = self._linear(_taken(block.gate_up), gated=True), self._linear(_taken(block.down))
        made = _Model(
            flags=_GATED | _TURNED, dim=dim, depth=sizes.depth, heads=sizes.heads, kv_heads=sizes.kv_heads,
            head_dim=sizes.head_dim, hidden=sizes.hidden, books=books, size=config.codebook_size,
            num_lanes=first.in_features, window=sizes.window_frames,
            longest=sizes.window_frames + model.prefix.length, epsilon=1e-6, layers=layers,
            norm=self._norm(model.transformer.norm.weight), heads_out=self._linear(_taken(model.heads)),
            lanes_out=self._linear(_taken(last)), codes=self._keep(tables @ into),
            lanes_in=self._keep(first.weight.float().T), lanes_bias=self._keep(first.bias),
            lanes_out_bias=self._keep(last.bias),
        )  # fmt: skip
        frequencies = model.transformer.frequencies.double().contiguous()
        self._kept.append(frequencies)
        made.frequencies = ctypes.cast(frequencies.data_ptr(), POINTER(c_double))
        _empty(model.codes, model.codes_in, model.lanes_in)
        return self._finished(made)

    def _musicgen(self, model: MusicGen) -> _Model:
        config = model.config
        layers = (_Layer * config.depth)()
        for index, (layer, block) in enumerate(zip(layers, model.blocks, strict=True)):
            for name, _ in block.named_children():
                weight = model.take(f"blocks.{index}.{name}.weight")
                if weight.ndim == 2:
                    setattr(layer, name, self._linear(weight))
                else:
                    setattr(layer, name, self._norm(weight, model.take(f"blocks.{index}.{name}.bias")))
        window = config.window_frames + max(config.delays) + 1
        longest = window + config.melody_frames + _MOST_TEXT
        made = _Model(
            flags=_LAYER_NORM, dim=config.dim, depth=config.depth, heads=config.heads, kv_heads=config.heads,
            head_dim=config.dim // config.heads, hidden=config.hidden, books=config.num_codebooks,
            size=config.codebook_size, window=window, longest=longest, epsilon=model.norm.eps, layers=layers,
            norm=self._norm(model.take("norm.weight"), model.take("norm.bias")),
            heads_out=self._linear(model.take("heads.weight")),
            codes=self._keep(model.take("codes.weight").view(config.num_codebooks, -1, config.dim)),
            positions=self._keep(sinusoids(torch.arange(longest), config.dim)),
        )  # fmt: skip
        return self._finished(made)

    def _finished(self, made: _Model) -> _Model:
        made.flags |= _BFLOAT16 if self._half else 0
        text = [layer.text_kv for layer in made.layers[: made.depth]]
        self.weight_bytes -= sum(kv.n * kv.k * (2 if self._half else 1) for kv in text)  # read once a stream
        return made

    def _keep(self, value: Tensor) -> int:
        """The address of it in float32, rows padded to 16."""
        kept = value.detach().float().contiguous()
        if kept.shape[-1] % 16:
            kept = F.pad(kept, (0, -kept.shape[-1] % 16))
        self._kept.append(kept)
        return kept.data_ptr()

    def _norm(self, gain: Tensor, bias: Tensor | None = None) -> _Norm:
        return _Norm(self._keep(gain), None if bias is None else self._keep(bias))

    def _linear(self, weight: Tensor, gated: bool = False) -> _Linear:
        """A matrix `[outputs, inputs]` packed as `kernel.c` tells, some rows at a time."""
        if gated:  # 16 gates, then their 16 values, and so on
            halves = [F.pad(half, (0, 0, 0, -len(half) % 16)).unflatten(0, (-1, 16)) for half in weight.chunk(2)]
            weight = torch.stack(halves, 1).flatten(0, 2)
        outputs, inputs = weight.shape
        rows, width = outputs + -outputs % 32, inputs + -inputs % 4
        size = 2 if self._half else 4  # inputs that stand together
        made = _Linear(outputs, inputs)
        packed = self._pages.zeros((rows // 16, width // size, 16, size), torch.bfloat16 if self._half else torch.int8)
        scale, shift = torch.empty(rows), torch.empty(rows, dtype=torch.int32)
        for first in range(0, rows, _ROWS):
            here = slice(first, min(first + _ROWS, rows))
            part = weight[here]
            if part.shape != (here.stop - first, width):
                part = F.pad(part, (0, width - inputs, 0, here.stop - first - len(part)))
            if not self._half:
                part = part.float()
                scale[here] = part.abs().amax(1).clamp_min(1e-30) / 127
                part = (part / scale[here, None]).round().clamp(-127, 127).to(torch.int8)
                shift[here] = 128 * part.sum(1, dtype=torch.int32)
            packed[first // 16 : here.stop // 16] = part.unflatten(1, (-1, size)).unflatten(0, (-1, 16)).transpose(1, 2)
        self._kept.append(packed)
        made.weight = _at(packed)
        if not self._half:
            self._kept += [scale, shift]
            made.scale, made.shift = _at(scale), _at(shift)
        self.weight_bytes += outputs * inputs * packed.element_size()
        return made


def _at(value: Tensor) -> int:
    return value.data_ptr()


def _taken(module: nn.Linear) -> Tensor:
    """A weight, which `module` gives up."""
    weight = module.weight.detach()
    module.weight.data = weight.new_empty(0)
    return weight


def _empty(*modules: nn.Module) -> None:
    for module in modules:
        for parameter in module.parameters():
            parameter.data = parameter.data.new_empty(0)
