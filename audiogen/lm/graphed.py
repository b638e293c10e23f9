"""The GPU engine: the step of many streams, from codes to codes, as one captured graph for each bucket of batch size.

Within a run nothing waits for the host: what is told goes to the device before the first step, what was drawn comes
back after the last one. A bucket holds the streams of the lowest slots, a power of two of them; those that take no turn
stay as they are. Weights are bfloat16 or float32: a GPU reads them at its bandwidth, and there is no int8 here.
On a CPU the same code runs without graphs, which is how most of it is tested.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from audiogen.capture import Capture, capture
from audiogen.lm.batched import Batched, BatchedMusicGen, BatchedMusicLM
from audiogen.lm.engine import EagerEngine, OutOfRoomError, Settled, Turn
from audiogen.lm.model import MusicLM
from audiogen.lm.musicgen import MusicGen
from audiogen.lm.pool import Pool, Rows, Slot
from audiogen.lm.sampling import draw_each, guide, uniform

_PART = 64  # steps that the board holds
_LEAST_ROOM = 16
_IDLE = (0, 0, 0, 0, 1, 1, 0)  # position, draw, seed, told, said, top_k, active; no index of these leads astray


class _Board:
    """What the steps of a run are told, and what came of them, at addresses that stay."""

    def __init__(self, slots: int, books: int, lanes: int, device: torch.device) -> None:
        self.numbers = torch.zeros(len(_IDLE), slots, dtype=torch.long, device=device)
        self.settings = torch.zeros(3, slots, device=device)
        """guidance, temperature, top_p"""
        self.last = torch.zeros(slots, books, dtype=torch.long, device=device)
        self.lanes = torch.zeros(_PART, slots, lanes, device=device)
        self.forced = torch.zeros(_PART, slots, books, dtype=torch.long, device=device)
        self.drawn = torch.zeros_like(self.forced)
        self.at = torch.zeros(1, dtype=torch.long, device=device)
        self.tell([])

    def tell(self, turns: Sequence[Turn]) -> None:
        """Where each stream is and how its codes are drawn; all others are idle."""
        numbers = torch.tensor(_IDLE)[:, None].repeat(1, len(self.last))
        settings, last = torch.zeros(self.settings.shape), torch.zeros(self.last.shape, dtype=torch.long)
        for turn in turns:
            slot, sampling = turn.state, turn.sampling
            told = (slot.position, turn.first_draw, turn.seed, slot.told, max(1, slot.said), sampling.top_k, 1)
            numbers[:, slot.index] = torch.tensor(told)
            settings[:, slot.index] = torch.tensor((sampling.guidance, sampling.temperature, sampling.top_p))
            last[slot.index] = turn.last
        for there, here in ((self.numbers, numbers), (self.settings, settings), (self.last, last)):
            there.copy_(here, non_blocking=True)
        self.at.zero_()

    def upload(self, turns: Sequence[Turn]) -> list[tuple[Tensor, Tensor]]:
        """Lanes and known codes of whole turns, on the device, in parts for `show`."""
        steps = len(turns[0].forced)
        lanes = np.zeros((steps, *self.lanes.shape[1:]), dtype=np.float32)
        forced = torch.zeros(steps, *self.forced.shape[1:], dtype=torch.long)
        for turn in turns:
            lanes[:, turn.state.index], forced[:, turn.state.index] = turn.lanes, turn.forced
        there = [part.to(self.at.device, non_blocking=True) for part in (torch.from_numpy(lanes), forced)]
        return list(zip(*(whole.split(_PART) for whole in there), strict=True))

    def show(self, lanes: Tensor, forced: Tensor) -> None:
        """Those of the next steps, at most `_PART`; the host does not wait."""
        self.lanes[: len(lanes)].copy_(lanes)
        self.forced[: len(forced)].copy_(forced)
        self.at.zero_()


class GraphedEngine:
    """Implements `audiogen.lm.engine.Engine` for models with a Transformer.

    Memory for 1, 2, 4, … streams is taken as they come, and kept. A stream's state is its slot, which is free again
    when the state is dropped. Guidance 1 takes two rows as any other does.

    In one bucket, with room for prompts of one length, no stream's codes depend on the others, bit for bit. From bucket
    to bucket a GPU's libraries may add the same products up in another order: there codes are equal but for rounding.
    """

    def __init__(
        self, model: MusicLM | MusicGen, precision: Literal["bfloat16", "float32"], device: torch.device,
        streams: int = 64, *, least: int = 1, capture: Capture = capture,
    ) -> None:  # fmt: skip
        """Moves `model` to `device`. At most `streams` at once, and never a bucket for fewer than `least`: with both
        the same, company changes no bit."""
        self._dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        if isinstance(model, MusicGen):
            model.read_all(device)
        model = model.to(device, self._dtype)
        self.config = model.config
        self.precision: Settled = precision
        self._plain, self._device, self._capture = EagerEngine(model), device, capture
        self._batched: Batched = BatchedMusicLM(model) if isinstance(model, MusicLM) else BatchedMusicGen(model)
        self.streams, self._least = streams, least
        self._free = list(range(streams))
        self._pool = Pool(self._batched.sizes, 0, self._batched.sizes.prefix, 0, self._dtype, device)
        self._board = _Board(0, 1, 0, device)
        self._graphs: dict[int, tuple[Callable[[], object], Tensor]] = {}

    # --- Engine -----------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def begin(self, prefix: Tensor) -> Slot:
        """Prefix `[R, L, D]` → a slot. Raises OutOfRoomError when all are taken or memory does not suffice."""
        if not self._free:
            raise OutOfRoomError(f"no place for another stream: {self.streams} fit and are there already")
        told, said = self._batched.lengths(prefix)
        index = min(self._free)
        self._make_room(index, told, said)
        self._free.remove(index)
        slot = Slot(index, len(prefix), told, said)
        weakref.finalize(slot, self._free.append, index).atexit = False
        self.steer(prefix, slot)
        return slot

    @torch.inference_mode()
    def steer(self, prefix: Tensor, state: Slot) -> None:
        """Another prefix of the same length in the place of the first; what was played stays."""
        with _memory("the prompt of another stream"):
            self._batched.write_prefix(prefix.to(self._device, self._dtype), self._pool, state)

    @torch.inference_mode()
    def read(self, turn: Turn) -> None:
        """Go over positions whose codes are all forced: at once where the model can, else as they would be drawn."""
        if isinstance(self._batched, BatchedMusicGen):
            state = self._batched.state(self._pool, turn.state)
            with _memory("what a stream goes on from"):
                self._plain.read(replace(turn, state=state))
            turn.state.position += len(turn.forced)
        else:
            self.run([turn])

    @torch.inference_mode()
    def run(self, turns: Sequence[Turn]) -> list[Tensor]:
        """The next codes of each, int64 `[steps, K]`, on the CPU."""
        steps, seen = len(turns[0].forced), [turn for turn in turns if turn.logits is not None]
        play, guided = self._graph(self._bucket(1 + max(turn.state.index for turn in turns)))
        board, count = self._board, len(guided)
        with _memory(f"a run of {len(turns)} streams"):  # all that it needs: on the way memory is not asked for
            parts = board.upload(turns)
            codes = board.drawn.new_empty(steps, count, board.drawn.shape[2])
            drawn_from = [guided.new_empty(steps, *guided.shape[1:]) for _ in seen]
        board.tell(turns)
        step = 0
        for lanes, forced in parts:
            first = step
            board.show(lanes, forced)
            for _ in range(len(lanes)):
                play()
                for turn, logits in zip(seen, drawn_from, strict=True):
                    logits[step] = guided[turn.state.index]
                step += 1
            codes[first:step] = board.drawn[: step - first, :count]
        made = codes.cpu()  # the host waits here and nowhere else
        for turn, logits in zip(seen, drawn_from, strict=True):
            assert turn.logits is not None
            turn.logits.copy_(logits)
        for turn in turns:
            turn.state.position += steps
        return [made[:, turn.state.index].clone() for turn in turns]

    # --- memory and graphs ------------------------------------------------------------------------------------------

    def _bucket(self, streams: int) -> int:
        """Slots that a graph for the lowest `streams` slots has."""
        return min(self.streams, max(self._least, 1 << (streams - 1).bit_length()))

    def _make_room(self, index: int, told: int, said: int) -> None:
        """See that the pool has a slot `index` for a prefix of `told` tokens and a text of `said`: a larger pool with
        its graph, or none."""
        now, sizes = self._pool, self._batched.sizes
        slots = max(now.slots, self._bucket(index + 1))
        before, text = max(now.before, _room(told, sizes.prefix)), max(now.said, _room(said, 0))
        if (slots, before, text) == (now.slots, now.before, now.said):
            return
        with _memory(f"{slots} streams with prompts of {max(told, said)} tokens: {now.slots} fit"):
            pool = Pool(sizes, slots, before, text, self._dtype, self._device)
            pool.copy_from(now)
            board = _Board(slots, self.config.num_codebooks, self._batched.num_lanes, self._device)
            graph = self._capture(lambda: self._step(pool, board, slots), self._device)
        self._pool, self._board, self._graphs = pool, board, {slots: graph}  # the old ones' addresses are no more

    def _graph(self, count: int) -> tuple[Callable[[], object], Tensor]:
        """What plays one step of at least the lowest `count` slots, and the logits `[≥ count, K, V]` it draws from.

        Without memory for one more graph it is that of a larger bucket, in the end of all slots.
        """
        if count not in self._graphs:
            pool, board = self._pool, self._board
            board.tell([])  # the steps of a capture move nobody
            try:
                with _memory(f"a step of {count} streams"):
                    self._graphs[count] = self._capture(lambda: self._step(pool, board, count), self._device)
            except OutOfRoomError:
                self._graphs[count] = self._graphs[min(more for more in self._graphs if more > count)]
        return self._graphs[count]

    def _step(self, pool: Pool, board: _Board, count: int) -> Tensor:
        """One position of the lowest `count` slots → the logits `[count, K, V]` that were drawn from."""
        numbers, last = board.numbers[:, :count], board.last[:count]
        position, draw, seed, told, said, top_k, active = numbers
        guidance, temperature, top_p = board.settings[:, :count, None]
        lanes = board.lanes.index_select(0, board.at)[0, :count]
        both = torch.stack([lanes, torch.zeros_like(lanes)], 1).flatten(0, 1)  # without the prompt no score either
        codes = last[:, None].expand(-1, 2, -1).flatten(0, 1)
        logits = self._batched.step(codes, both, Rows(pool, position, told, said, active))
        logits = logits.float().view(count, 2, last.shape[1], -1).transpose(0, 1)
        by = guidance[..., None]
        guided = torch.where(by == 1, logits[0], guide(logits, by)[0])
        drawn = draw_each(guided, temperature, top_k[:, None], top_p, uniform(seed, draw, last.shape[1]))
        forced = board.forced.index_select(0, board.at)[0, :count]
        drawn = torch.where(forced < 0, drawn, forced)
        board.drawn[:, :count].index_copy_(0, board.at, drawn[None])
        last.copy_(torch.where(active[:, None] > 0, drawn, last))
        numbers[:2].add_(active)  # position and draw
        board.at.add_(1)
        return guided

    # --- what it costs ----------------------------------------------------------------------------------------------

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights that a step reads: all but embeddings and what makes a prefix of a prompt."""
        model = self._plain.model
        apart = ("codes.", "prefix.", "text_in.", "melody_in.")
        read = [p for n, p in model.named_parameters() if not n.startswith(apart) and ".text_kv." not in n]
        return sum(p.numel() * p.element_size() for p in read)

    def bytes_read(self, states: Sequence[Slot]) -> int:
        """Bytes of weights, keys and values that one step of these streams has to read."""
        sizes, kv = self._batched.sizes, 0
        for state in states:
            seen = state.told + min(state.position + 1, sizes.ring)
            kv += state.rows * (seen * sizes.kv_heads + state.said * sizes.text_heads)
        return self.weight_bytes + kv * 2 * sizes.head_dim * sizes.depth * self._dtype.itemsize


def _room(length: int, least: int) -> int:
    """Places for `length` tokens: `least`, or that and a power of two, so that few lengths ask for another pool."""
    more = length - least
    return least if more <= 0 else least + max(_LEAST_ROOM, 1 << (more - 1).bit_length())


@contextmanager
def _memory(what: str) -> Iterator[None]:
    """Say so when it does not suffice; in a capture that broke off, another error may hide the cause."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and not isinstance(error.__context__, torch.OutOfMemoryError):
            raise
        raise OutOfRoomError(f"out of GPU memory for {what}") from error
