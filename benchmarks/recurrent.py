"""An LSTM against a Transformer of equal size, or any two language models on the same codes, in one run.

python benchmarks/recurrent.py runs/lstm runs/transformer_small --json runs/recurrent.json
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import torch
import typer
from report import CODEC, ROOT, STARTER, Report, plain_errors, two_cores
from torch import Tensor, nn

from audiogen.data.manifest import Track, read_manifest
from audiogen.interfaces import AudiogenError, Prompt
from audiogen.lm.engine import EagerEngine, Engine, make_engine, settle_precision
from audiogen.lm.model import MusicLM, MusicLMConfig
from audiogen.lm.sampling import Sampling
from audiogen.lm.score import lanes
from audiogen.lm.stream import CodeStream
from audiogen.training.checkpoint import load_checkpoint, newest_checkpoint
from audiogen.training.lm_trainer import LMTask, LMTrainingConfig
from audiogen.training.machine import keep_freed_memory
from audiogen.training.optimiser import MuonAdamW
from audiogen.training.task import TrainerConfig

BATCH, SEGMENT = 6, 512
LONGER = 4


def load(path: Path) -> MusicLM:
    """The averaged weights of a run, or a model folder. Raises AudiogenError naming what is missing."""
    newest = newest_checkpoint(path / "checkpoints")
    if newest is None:
        return MusicLM.load(path / "lm")
    parts, state = load_checkpoint(newest)
    model = MusicLM(MusicLMConfig.build(state["config"]["lm"], str(newest)))
    model.load_state_dict(parts["ema"])
    return model.eval()


def name(model: MusicLM) -> str:
    """What is between embeddings and heads."""
    return "Transformer" if model.config.recurrent is None else "LSTM"


def in_turns(calls: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Median seconds of each call; they take turns, so that a busy moment hits all."""
    took: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats + 1):
        for times, call in zip(took, calls, strict=True):
            began = time.perf_counter()
            call()
            times.append(time.perf_counter() - began)
    return [median(times[1:]) for times in took]  # the first time warms


def state_bytes(value: Any) -> int:
    """Of the tensors that a stream's state holds."""
    if isinstance(value, Tensor):
        return value.nbytes
    parts = value if isinstance(value, list) else vars(value).values() if hasattr(value, "__dict__") else ()
    return sum(state_bytes(part) for part in parts)


def updates(task: LMTask, model: MusicLM, positions: range) -> Callable[[], None]:
    """One update of training, as the trainer does it, but for the learning rate, which is 0."""
    model.train().requires_grad_(True)
    optimiser = MuonAdamW(model, betas=(0.9, 0.95), weight_decay=0.0, not_matrices=task.heads)
    batch = task.batch(positions)

    def update() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            loss, _ = task.loss(model, batch, 0)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return update


def playing(engine: Engine, prefix: Tensor, track: Track, frames: int) -> Callable[[], Tensor]:
    """A stream with guidance, its window full."""
    score, rate = track.score(), engine.config.frame_rate

    def source(first: int, count: int) -> np.ndarray:
        return lanes(score, first, count, rate)

    stream = CodeStream(engine, prefix, source, Sampling(guidance=2.0), seed=1)
    stream.advance(600)
    return lambda: stream.advance(frames)


def compare(paths: Sequence[Path], manifest: Path, codes: Path, codec: Path, frames: int, repeats: int) -> Report:
    """The table; the second model is the reference."""
    models = [load(path) for path in paths]
    names, config = [name(model) for model in models], models[0].config
    books = [(model.config.num_codebooks, model.config.codebook_size, model.config.frame_rate) for model in models]
    if books[0] != books[1]:
        raise AudiogenError(f"{paths[0]} and {paths[1]} speak of different codes: {books[0]} and {books[1]}")
    report = Report(f"{names[0]} ({paths[0]}) against {names[1]} ({paths[1]})")

    def add(what: str, values: Sequence[float], form: str = "{:.2f}") -> None:
        report.add(what, values[0], f"{names[1]}: {form.format(values[1])}", form=form)

    tracks = read_manifest(manifest)
    told = {"manifest": str(manifest), "codes": str(codes), "codec": str(codec)}
    trainer = TrainerConfig(max_steps=1, batch_size=BATCH, lr=1.0)
    sizes = [sum(weight.numel() for weight in model.parameters()) / 1e6 for model in models]
    add("parameters, million", sizes)
    for longer in (1, LONGER):
        tasks = [
            LMTask(LMTrainingConfig(**told, lm=model.config, trainer=trainer, segment_frames=longer * SEGMENT))
            for model in models
        ]
        with torch.no_grad():
            found = [task.validate(model) for task, model in zip(tasks, models, strict=True)]
        seconds = longer * SEGMENT / config.frame_rate
        add(
            f"validation, excerpts of {seconds:.0f} s, bits a second",
            [each["bits_a_second"] for each in found],
            "{:.1f}",
        )
        if longer == 1:
            bits = config.num_codebooks * config.frame_rate / np.log(2)
            saved = [(each["loss_untold"] - each["loss"]) * bits for each in found]
            add("— of them saved by prompt and score", saved, "{:.1f}")
            calls = [updates(task, load(path), range(BATCH)) for task, path in zip(tasks, paths, strict=True)]
            pace = [BATCH * SEGMENT / took for took in in_turns(calls, repeats)]
            add("training, frames a second", pace, "{:.0f}")
    track = next(track for track in tracks if track.split == "validation")
    with torch.no_grad():
        prompts = [Prompt("".join(track.captions[:1]), track.attributes()), None]
        prefixes = [model.prefix.encode(prompts) for model in models]
    plain = [EagerEngine(model.bfloat16()) for model in models]
    add(
        "state of a stream, KiB",
        [state_bytes(e.begin(p)) / 1024 for e, p in zip(plain, prefixes, strict=True)],
        "{:.0f}",
    )
    settled = [settle_precision("auto", recurrent=model.config.recurrent is not None) for model in models]
    chosen = [make_engine(load(path).requires_grad_(False), one) for path, one in zip(paths, settled, strict=True)]
    for what, engines in (("PyTorch, bfloat16", plain), (f"as generate has it, {' and '.join(settled)}", chosen)):
        calls = [playing(engine, prefix, track, frames) for engine, prefix in zip(engines, prefixes, strict=True)]
        add(f"a step with guidance, ms ({what})", [1e3 * took / frames for took in in_turns(calls, repeats)])
    return report


def main(
    paths: Annotated[list[Path], typer.Argument(help="two folders, of runs or of models")],
    manifest: Annotated[Path, typer.Option()] = STARTER / "manifest.jsonl",
    codes: Annotated[Path, typer.Option()] = ROOT / "data" / "codes",
    codec: Annotated[Path, typer.Option(help="the codec of these codes")] = CODEC,
    frames: Annotated[int, typer.Option(min=1, help="a stream plays on by, each time")] = 100,
    repeats: Annotated[int, typer.Option(min=1)] = 5,
    json: Annotated[Path | None, typer.Option(help="save the table")] = None,
) -> None:
    """Print the table of two language models."""
    two_cores()
    torch.set_num_threads(2)
    keep_freed_memory()
    with plain_errors():
        if len(paths) != 2:
            raise AudiogenError(f"{len(paths)} folders given, two are compared: a run or a model folder each")
        report = compare(paths, manifest, codes, codec, frames, repeats)
    report.finish(json)


if __name__ == "__main__":
    typer.run(main)
