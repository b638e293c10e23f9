"""The engine on two cores: milliseconds a step beside PyTorch's own, bytes moved, streams in batches, an hour.

python benchmarks/engine.py --json runs/engine.json
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import torch
import typer
from report import Report, read_speed, two_cores

from audiogen import Generator
from audiogen.generation.generator import Request
from audiogen.generation.scheduler import Scheduler
from audiogen.lm.engine import EagerEngine, Engine, make_engine
from audiogen.lm.model import MusicLM
from audiogen.lm.native import NativeEngine
from audiogen.lm.sampling import Sampling
from audiogen.lm.score import lanes
from audiogen.lm.stream import CodeStream, advance_together

MINI = Path(__file__).resolve().parents[1] / "audiogen" / "models" / "mini" / "lm"
PROMPTS = ("calm lo-fi, 80 bpm", "dark techno", "classical piano in F major", "rock, 140 bpm", "jazz trio in Bb")
HOUR = 3600.0


class Streams:
    """Code streams of mini, guidance on, on any engine."""

    def __init__(self, generator: Generator) -> None:
        self._requests = [generator.request(prompt, HOUR, 1) for prompt in PROMPTS]
        self._prefixes = [self._prefix(generator, request) for request in self._requests]
        self._rate = generator.model.engine.config.frame_rate

    @staticmethod
    @torch.inference_mode()
    def _prefix(generator: Generator, request: Request) -> torch.Tensor:
        lm = generator.model.lm
        assert isinstance(lm, MusicLM)
        return lm.prefix.encode([request.prompt, None])

    def make(self, engine: Engine, count: int = 1, sampling: Sampling | None = None) -> list[CodeStream]:
        def stream(number: int) -> CodeStream:
            score = self._requests[number % len(PROMPTS)].score

            def source(first: int, frames: int) -> np.ndarray:
                return lanes(score, first, frames, self._rate)

            return CodeStream(engine, self._prefixes[number % len(PROMPTS)], source, sampling or Sampling(), number)

        return [stream(number) for number in range(count)]


def step_ms(streams: list[CodeStream], frames: int, repeats: int = 5) -> float:
    """Median milliseconds of a step of all, over `repeats` runs of `frames` frames."""
    took = []
    for _ in range(repeats):
        began = time.perf_counter()
        advance_together(streams, frames)
        took.append(1e3 * (time.perf_counter() - began) / frames)
    return median(took)


def quantised(model: MusicLM) -> EagerEngine:
    """PyTorch's own dynamic int8."""
    engine = EagerEngine(model)
    engine.model = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, torch.qint8)
    return engine


def single(report: Report, streams: Streams, threads: int) -> Any:
    """One stream on every engine, a full window."""
    peers: dict[str, Callable[[MusicLM], Engine]] = {
        "PyTorch float32": lambda model: EagerEngine(model),
        "PyTorch bfloat16": lambda model: EagerEngine(model.bfloat16()),
        "PyTorch dynamic int8": quantised,
    }
    told = {}
    for name, make in peers.items():
        (stream,) = streams.make(make(MusicLM.load(MINI)))
        stream.advance(4)
        told[name] = step_ms([stream], 40, 3)
    beside = ", ".join(f"{name} {value:.1f}" for name, value in told.items())
    engines = {p: make_engine(MusicLM.load(MINI), p, threads) for p in ("int8", "bfloat16")}  # type: ignore[arg-type]
    for precision, engine in engines.items():
        assert isinstance(engine, NativeEngine)
        (stream,) = streams.make(engine)
        stream.advance(600)  # the window is full
        took = step_ms([stream], 500)
        limit = {"at_most": 2.0} if precision == "int8" else {}
        report.add(f"mini, {precision}, one step with guidance, ms", took, beside, **limit)
        moved = engine.bytes_read([stream._state])
        speed = read_speed(moved)
        report.add(
            f"— {moved / 2**20:.1f} MiB a step: share of what memory allows", moved / speed / (took / 1e3),
            f"{1e3 * moved / speed:.2f} ms at {speed / 1e9:.0f} GB/s", form="{:.0%}",
        )  # fmt: skip
    return engines["int8"]


def parts(report: Report, streams: Streams, engine: Engine) -> None:
    """Where the time of a step goes, told by leaving parts out."""
    (full,) = streams.make(engine)
    full.advance(600)
    whole = step_ms([full], 250)
    known = full.advance(500)[0]
    (read,) = streams.make(engine)
    read.advance(600)
    read._prompt, read._end = torch.zeros(len(known), read._position + 2000, dtype=torch.long), None
    unsampled = step_ms([read], 250)
    (plain,) = streams.make(engine, sampling=Sampling(guidance=1.0))
    plain.advance(600)
    early = []
    for _ in range(5):
        (fresh,) = streams.make(engine)
        early.append(step_ms([fresh], 20, 1) * 20 / 27)  # positions, the delays of the first frames included
    report.add("— of it heads and sampling, ms", whole - unsampled)
    report.add("— of it attention over a full window, ms", whole - median(early))
    report.add("— without guidance, ms", step_ms([plain], 250))


def batches(report: Report, streams: Streams, engine: Engine) -> None:
    """Codes alone, of many streams with full windows."""
    for count in (4, 16, 32):
        together = streams.make(engine, count)
        advance_together(together, 560)
        took = step_ms(together, 50)
        report.add(f"codes of {count} streams, ms a step", took, f"{count * 40 / took:.0f} × real time in sum")


def hour(report: Report, streams: Streams, engine: Engine) -> None:
    """Does a stream slow down?"""
    (stream,) = streams.make(engine)
    stream.advance(600)
    times = [step_ms([stream], 500, 1) for _ in range(178)]
    report.add("an hour of codes: last minutes over first, time a step", median(times[-9:]) / median(times[:9]))


def rendered(report: Report, generator: Generator, count: int, seconds: float) -> None:
    """Whole clips through the scheduler, the codec's share included."""

    def asked() -> Iterator[Request]:
        for number in range(count):
            yield generator.request(PROMPTS[number % len(PROMPTS)], seconds, number)

    began = time.perf_counter()
    made = sum(audio.seconds for _, audio in Scheduler(generator, running=count).play(list(asked())))
    speed = made / (time.perf_counter() - began)
    report.add(
        f"{count} prompts at once, audio, × real time in sum",
        speed,
        f"{seconds:g} s each",
        at_least=40.0,
        form="{:.0f}",
    )


def main(
    threads: Annotated[int, typer.Option(help="of the kernel and of PyTorch")] = 2,
    json: Annotated[Path | None, typer.Option(help="save the table")] = None,
) -> None:
    """Print the table of the engine."""
    two_cores()
    torch.set_num_threads(threads)
    generator = Generator.from_pretrained("mini")
    report = Report(f"The engine, mini, {threads} threads, CPU only")
    streams = Streams(generator)
    engine = single(report, streams, threads)
    parts(report, streams, engine)
    one = make_engine(copy.deepcopy(MusicLM.load(MINI)), "int8", 1)
    (alone,) = streams.make(one)
    alone.advance(600)
    report.add("mini, int8, one thread, ms a step", step_ms([alone], 250))
    batches(report, streams, engine)
    rendered(report, generator, 16, 30.0)
    hour(report, streams, engine)
    report.finish(json)


if __name__ == "__main__":
    typer.run(main)
