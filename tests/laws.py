"""The design's laws as checkers, to be applied to every implementation. Each raises AssertionError when broken."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from audiogen.interfaces import AudiogenError, Codec, Condition
from audiogen.lm.engine import EagerEngine
from audiogen.lm.model import MusicLM
from audiogen.lm.naive import generate_naively
from audiogen.lm.sampling import Sampling
from audiogen.lm.stream import CodeStream, LaneSource, WindowedStream, advance_together

# --- law 1: the stream is the whole -----------------------------------------------------------------------------------


def cuts(total: int, seed: int) -> list[int]:
    """Random lengths that add up to `total`: some 0, some 1, some long."""
    random, lengths = np.random.default_rng(seed), []
    while sum(lengths) < total:
        longest = int(random.choice([1, 3, max(2, total // 3)]))
        lengths.append(min(int(random.integers(0, longest + 1)), total - sum(lengths)))
    return lengths


def streamed_codec_is_the_offline_one(codec: Codec, samples: Tensor, seeds: Sequence[int] = range(3)) -> None:
    """Samples `[B, C, S]` and their codes, in random chunks, against all at once."""
    batch, total = samples.shape[0], samples.shape[2]
    codes = codec.encode(samples)
    frames = math.ceil(total / codec.hop_length)
    assert codes.dtype == torch.int64 and codes.shape == (batch, codec.num_codebooks, frames)
    assert int(codes.min()) >= 0 and int(codes.max()) < codec.codebook_size
    audio = codec.decode(codes)
    assert audio.shape == (batch, codec.channels, frames * codec.hop_length)
    for seed in seeds:
        encoder, decoder = codec.streaming_encoder(batch), codec.streaming_decoder(batch)
        lengths = [length * codec.hop_length // 7 for length in cuts(7 * total // codec.hop_length, seed)]
        lengths.append(total - sum(lengths))
        parts = [encoder.encode(part) for part in samples.split(lengths, 2)]
        streamed = torch.cat([*parts, encoder.flush()], 2)
        assert streamed.shape == codes.shape
        assert int((streamed != codes).sum()) <= codes.numel() // 100_000, f"codes differ, seed {seed}"
        heard, given = [], 0
        for part in codes.split(cuts(frames, seed), 2):
            heard.append(decoder.decode(part))
            given += part.shape[2]
            late = given * codec.hop_length - sum(piece.shape[2] for piece in heard)
            assert late <= decoder.latency_frames * codec.hop_length, "later than latency_frames says"
        whole = torch.cat([*heard, decoder.flush()], 2)
        assert whole.shape == audio.shape
        assert float((whole - audio).abs().max()) <= 1e-5, f"audio differs, seed {seed}"


# --- law 2: step repeated is forward ----------------------------------------------------------------------------------


@torch.inference_mode()
def steps_are_forward(model: MusicLM, codes: Tensor, condition: Condition, tolerance: float = 1e-5) -> None:
    """Delayed codes `[B, K, T]` and lanes one position at a time, against all at once."""
    whole = model.forward(codes, condition)
    state = model.init_state(condition.prefix)
    stepped = [model.step(codes[:, :, t : t + 1], condition.lanes[:, t : t + 1], state) for t in range(codes.shape[2])]
    torch.testing.assert_close(torch.cat(stepped, 2), whole, atol=tolerance, rtol=0)


def stream_is_the_naive_one(
    model: MusicLM, prefix: Tensor, lanes: LaneSource, frames: int, sampling: Sampling, seed: int
) -> None:
    """`CodeStream` against the reference, code for code."""
    told = torch.from_numpy(lanes(0, frames + model.config.num_codebooks - 1))
    expected = generate_naively(model, prefix, told, frames, sampling, seed)
    found = CodeStream(EagerEngine(model), prefix, lanes, sampling, seed).advance(frames)
    assert found.shape == expected.shape and torch.equal(found, expected)


# --- law 3: the seed decides, the chunks do not -----------------------------------------------------------------------


def chunks_do_not_matter(
    make: Callable[[], CodeStream | WindowedStream], frames: int, seeds: Sequence[int] = range(3)
) -> None:
    """Streams of one seed, advanced by random numbers of frames, against one advanced at once."""
    whole = make().advance(frames)
    for seed in seeds:
        stream = make()
        assert torch.equal(torch.cat([stream.advance(length) for length in cuts(frames, seed)], 2), whole)


def company_does_not_matter(
    make: Callable[[int], CodeStream | WindowedStream], frames: int, seeds: Sequence[int] = range(3)
) -> None:
    """Streams `make(number)` that join and leave a running batch at random, against each one alone, bit for bit."""
    for seed in seeds:
        random = np.random.default_rng(seed)
        whole, running, number = {}, {}, 0
        while len(whole) < 6:
            for _ in range(int(random.integers(0, 4))):
                running[number] = (make(number), [])
                number += 1
            for name in [name for name in running if random.random() < 0.15]:
                _, parts = running.pop(name)
                whole[name] = torch.cat(parts, 2) if parts else None
            together = list(running.values())
            made = advance_together([stream for stream, _ in together], int(random.integers(1, max(2, frames // 4))))
            for (_, parts), codes in zip(together, made, strict=True):
                parts.append(codes)
            whole |= {n: torch.cat(p, 2) for n, (_, p) in running.items() if sum(c.shape[2] for c in p) >= frames}
            running = {n: pair for n, pair in running.items() if n not in whole}
        assert any(codes is not None for codes in whole.values())
        for name, codes in whole.items():
            if codes is not None:
                assert torch.equal(make(name).advance(codes.shape[2]), codes), f"stream {name}, seed {seed}"


# --- law 4: memory does not grow --------------------------------------------------------------------------------------


def held(value: Any) -> tuple[int, int]:
    """(bytes of tensors' storage, items of containers) that an object keeps, models aside."""
    if isinstance(value, Tensor):
        return value.untyped_storage().nbytes(), 1
    if isinstance(value, dict):
        parts = [held(item) for item in value.values()]
    elif isinstance(value, list | tuple):
        parts = [held(item) for item in value]
    elif hasattr(value, "__dict__") and not isinstance(value, nn.Module | type) and not callable(value):
        parts = [held(item) for item in vars(value).values()]
    else:
        return 0, 1
    return sum(part[0] for part in parts), 1 + sum(part[1] for part in parts)


def memory_is_constant(stream: Any, advance: Callable[[], object], times: int, settle: int = 20) -> None:
    """What `stream` holds after `settle` calls of `advance` is what it holds after `times`."""
    for _ in range(settle):
        advance()
    before = held(stream)
    assert before[0] > 0
    for _ in range(times - settle):
        advance()
    assert held(stream) == before


# --- law 5: killed and resumed is never killed ------------------------------------------------------------------------


def checkpoints(run: Path) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a run's newest checkpoint, by name."""
    from audiogen.training.checkpoint import load_checkpoint, newest_checkpoint

    newest = newest_checkpoint(run / "checkpoints")
    assert newest is not None
    parts, _ = load_checkpoint(newest)
    for part, tensors in parts.items():
        yield from ((f"{part}.{name}", value) for name, value in sorted(tensors.items()))


def same_training(run: Path, other: Path) -> None:
    """The newest checkpoints of two runs are equal, bit for bit."""
    one, two = dict(checkpoints(run)), dict(checkpoints(other))
    assert one.keys() == two.keys() and one
    differing = [name for name in one if not torch.equal(one[name], two[name])]
    assert not differing, f"differ: {differing[:5]}"


def resumed_is_uninterrupted(make: Callable[[Path], Any], folder: Path, kill_after: int) -> None:
    """`make(run)` builds task and trainer anew, with a checkpoint after each step.

    One run goes through. The other one is killed without a chance to save after `kill_after` steps, of which the last
    one was not saved, and goes on as new objects.
    """
    for _ in make(folder / "through").steps():
        pass
    killed = make(folder / "killed")
    for report in killed.steps():
        if report.global_step == kill_after - 1:
            killed.save = lambda: None
        if report.global_step == kill_after:
            break
    resumed = make(folder / "killed")
    assert resumed.global_step == kill_after - 1
    for _ in resumed.steps():
        pass
    same_training(folder / "through", folder / "killed")


# --- law 6: a file under its final name is whole ----------------------------------------------------------------------


def _everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def failed_save_changes_nothing(
    save: Callable[[], object], final: Path, writer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever fails on the way, `final` is what it was before and nothing is left beside it.

    `writer` is the dotted name of the function that writes the data; it takes the path as one of its arguments.
    """
    import os

    replace = os.replace

    def half_written(*arguments: Any, **_: Any) -> None:
        path = next(value for value in arguments if isinstance(value, str | Path))
        Path(path).write_bytes(b"half")
        raise failure

    def not_renamed(source: Any, target: Any) -> None:
        if Path(target) == final or Path(source) == final:
            raise failure
        replace(source, target)

    before = _everything(final.parent)
    for failure in (OSError(28, "No space left on device"), KeyboardInterrupt()):
        for name, fail in ((writer, half_written), ("os.replace", not_renamed)):
            with monkeypatch.context() as patch:
                patch.setattr(name, fail)
                with pytest.raises((AudiogenError, OSError, KeyboardInterrupt)) as caught:
                    save()
            assert isinstance(caught.value, KeyboardInterrupt) == isinstance(failure, KeyboardInterrupt)
            assert _everything(final.parent) == before, f"{name} failed and left something"
