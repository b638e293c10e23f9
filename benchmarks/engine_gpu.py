"""The engine for GPUs on random weights: ms a step, bytes moved, the limit, and the share of it that is reached.

python benchmarks/engine_gpu.py --json runs/engine_gpu.json
python benchmarks/engine_gpu.py --device cpu --tiny      shows that it works; its figures mean nothing
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import torch
import typer
from report import Report

from audiogen.interfaces import AudiogenError
from audiogen.lm.engine import EagerEngine, Engine, settle_device
from audiogen.lm.graphed import GraphedEngine
from audiogen.lm.model import MusicLM, MusicLMConfig
from audiogen.lm.sampling import Sampling
from audiogen.lm.score import NUM_LANES
from audiogen.lm.stream import CodeStream, advance_together
from audiogen.lm.transformer import TransformerConfig


def sizes(dim: int, depth: int, heads: int, hidden: int, window: int = 1500) -> MusicLMConfig:
    """A model of twelve codebooks and four heads of keys and values."""
    trunk = TransformerConfig(dim=dim, depth=depth, heads=heads, kv_heads=4, hidden=hidden, window_frames=window)
    return MusicLMConfig(transformer=trunk)


ONE, MANY = sizes(2048, 32, 16, 5632), sizes(1024, 34, 16, 2816)  # 1.5 B; 0.4 B
TINY = sizes(64, 2, 8, 96, 24)


def on(device: torch.device, config: MusicLMConfig) -> MusicLM:
    """Random weights, bfloat16, made where they are used."""
    torch.manual_seed(0)
    with torch.device(device):
        return MusicLM(config).to(torch.bfloat16).eval().requires_grad_(False)


def streams(engine: Engine, model: MusicLM, count: int) -> list[CodeStream]:
    """With guidance; no score."""
    with torch.inference_mode():
        prefix = model.prefix.encode([None, None])
    return [CodeStream(engine, prefix, _no_score, Sampling(), seed) for seed in range(count)]


def _no_score(first: int, frames: int) -> np.ndarray:
    return np.zeros((frames, NUM_LANES), np.float32)


def step_ms(made: list[CodeStream], frames: int) -> float:
    """Median milliseconds of a step over five runs; a run ends when its codes are on the host."""
    took = []
    for _ in range(5):
        began = time.perf_counter()
        advance_together(made, frames)
        took.append(1e3 * (time.perf_counter() - began) / frames)
    return median(took)


def bandwidth(device: torch.device, size: int) -> float:
    """Bytes a second that a copy of `size` bytes reads and writes, the best of many."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target, best = torch.empty_like(source), 0.0
    wait: Callable[[], object] = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    for _ in range(20):
        wait()
        began = time.perf_counter()
        target.copy_(source)
        wait()
        best = max(best, 2 * size / (time.perf_counter() - began))
    return best


def measure(
    report: Report, name: str, device: torch.device, config: MusicLMConfig, count: int, frames: int, speed: float,
    share: float | None, audio: float | None,
) -> None:  # fmt: skip
    """Rows of one model with `count` streams whose windows are full."""
    model = on(device, config)
    peer = None
    if count == 1:
        alone = streams(EagerEngine(model), model, 1)
        alone[0].advance(4)
        peer = step_ms(alone, 10)
    engine = GraphedEngine(model, "bfloat16", device, streams=count)
    made = streams(engine, model, count)
    advance_together(made, config.transformer.window_frames)
    took = step_ms(made, frames)
    moved = engine.bytes_read([stream._state for stream in made])
    limit = 1e3 * moved / speed
    weights = sum(parameter.numel() for parameter in model.parameters())
    beside = "" if peer is None else f"PyTorch without graphs {peer:.2f}"
    report.add(f"{name} ({weights / 1e9:.2f} B), {count} streams: ms a step", took, beside, form="{:.3f}")
    told = f"{moved / 2**20:.0f} MiB a step, limit {limit:.3f} ms at {speed / 1e9:.0f} GB/s"
    report.add("— share of the bandwidth, %", 100 * limit / took, told, at_least=share, form="{:.0f}")
    heard = count / config.frame_rate / (took / 1e3)
    report.add("— audio-seconds a second, codes alone", heard, at_least=audio, form="{:.0f}")


def main(
    device: Annotated[str, typer.Option(help="cuda, cuda:1; cpu with --tiny")] = "cuda",
    tiny: Annotated[bool, typer.Option("--tiny", help="small models, to see it run")] = False,
    frames: Annotated[int, typer.Option(help="of each measurement")] = 200,
    json: Annotated[Path | None, typer.Option(help="save the table")] = None,
) -> None:
    """Print the table."""
    try:
        there = settle_device(device)
        if there.type != "cuda" and not tiny:
            raise AudiogenError("these sizes are for a GPU: give --tiny too to see the benchmark run on a CPU")
    except AudiogenError as error:
        raise SystemExit(str(error)) from None
    gpu = torch.cuda.get_device_name(there) if there.type == "cuda" else "no GPU: these figures mean nothing"
    report = Report(f"The engine for GPUs, bfloat16, guidance on, full windows: {gpu}")
    speed = bandwidth(there, 2**24 if tiny else 2**30)
    if tiny:
        measure(report, "tiny", there, TINY, 1, frames, speed, None, None)
        measure(report, "tiny", there, TINY, 8, frames, speed, None, None)
    else:
        measure(report, "1.5 B", there, ONE, 1, frames, speed, 60.0, None)
        measure(report, "0.4 B", there, MANY, 64, frames, speed, None, 700.0)
    report.finish(json)


if __name__ == "__main__":
    typer.run(main)
