"""MusicGen through our engine beside transformers' `generate`: the same random weights, guidance on, one run.

python benchmarks/musicgen_speed.py --json runs/musicgen_speed.json
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import torch
import typer
from report import Report, read_speed, two_cores

from audiogen.foreign import Checkpoint
from audiogen.lm.engine import make_engine
from audiogen.lm.musicgen import MusicGen, MusicGenConfig
from audiogen.lm.native import NativeEngine
from audiogen.lm.sampling import Sampling
from audiogen.lm.stream import CodeStream
from audiogen.training.machine import most_memory

SHAPES = {"12 layers x 384": (12, 384, 6, 1536), "MusicGen-small shape": (24, 1024, 16, 4096)}
LEAST = {"12 layers x 384": {"bfloat16": 4.0, "int8": None}, "MusicGen-small shape": {"bfloat16": 4.0, "int8": 7.0}}
TOKENS = 8


def theirs(shape: tuple[int, int, int, int]) -> Any:
    """transformers' own model with random weights, bfloat16, with the smallest of texts and codecs around it."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    torch.manual_seed(0)
    depth, dim, heads, hidden = shape
    config = transformers.MusicgenConfig(
        text_encoder=transformers.T5Config(vocab_size=20, d_model=64, d_kv=8, d_ff=32, num_layers=1, num_heads=2),
        audio_encoder=transformers.EncodecConfig(
            sampling_rate=800, audio_channels=1, normalize=False, use_causal_conv=False, hidden_size=12, num_filters=4,
            upsampling_ratios=[4, 2, 2], codebook_size=2048, codebook_dim=12, num_lstm_layers=1,
            target_bandwidths=[4 * 11 * 50 / 1000],
        ),
        decoder={
            "vocab_size": 2048, "hidden_size": dim, "num_hidden_layers": depth, "num_attention_heads": heads,
            "ffn_dim": hidden, "max_position_embeddings": 2048, "num_codebooks": 4, "pad_token_id": 2048,
            "bos_token_id": 2048,
        },
    )  # fmt: skip
    with torch.device("cpu"):
        torch.set_default_dtype(torch.bfloat16)
        try:
            return transformers.MusicgenForConditionalGeneration(config).eval()
        finally:
            torch.set_default_dtype(torch.float32)


def their_ms(model: Any, frames: int) -> float:
    """A step of `generate` with guidance, the first ones left out: the difference of a long and a short run."""
    ids = torch.arange(3, 3 + TOKENS)[None]
    took = []
    for count in (20, 20 + frames):
        began = time.perf_counter()
        with torch.inference_mode():
            model.generate(ids, do_sample=True, guidance_scale=3.0, max_new_tokens=count)
        took.append(time.perf_counter() - began)
    return 1e3 * (took[1] - took[0]) / frames


def load(folder: Path, dtype: torch.dtype) -> MusicGen:
    """Our model of that checkpoint."""
    checkpoint = Checkpoint(folder)
    return MusicGen.open_transformers(
        checkpoint, MusicGenConfig.from_transformers(checkpoint.config, str(folder), 50.0), dtype
    )


def stream(folder: Path, precision: Any) -> CodeStream:
    """Codes of one clip under a text, guidance 3."""
    model = load(folder, torch.bfloat16 if precision == "bfloat16" else torch.float32)
    engine = make_engine(model, precision, torch.get_num_threads())
    with torch.inference_mode():
        prefix = model.prefix(torch.randn(1, TOKENS, model.config.text_dim))
    return CodeStream(
        engine, prefix, lambda first, frames: np.zeros((frames, 0), np.float32),
        Sampling(guidance=3.0, temperature=1.0, top_k=250), 1,
    )  # fmt: skip


def our_ms(codes: CodeStream, frames: int) -> float:
    """Median of five runs that end where thirty seconds do not."""
    codes.advance(20)
    took = []
    for _ in range(5):
        began = time.perf_counter()
        codes.advance(frames)
        took.append(1e3 * (time.perf_counter() - began) / frames)
    return median(took)


@torch.inference_mode()
def memory(folder: Path) -> None:
    """In a process of its own: print the MiB that loading and 50 frames take at their highest, and those with the keys
    and values of a whole window written."""
    torch.zeros(10).sum()
    before = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    codes = stream(folder, "bfloat16")
    codes.advance(50)
    peaks = [most_memory(torch.device("cpu"))]
    for part in (part for row in codes._state.memories for part in row):
        part.bitwise_or_(0)
    peaks.append(most_memory(torch.device("cpu")))
    print(*((peak - before) / 2**20 for peak in peaks))


def main(
    frames: Annotated[int, typer.Option(help="of each measurement")] = 60,
    measure: Annotated[Path | None, typer.Option(hidden=True)] = None,
    json: Annotated[Path | None, typer.Option(help="save the table")] = None,
) -> None:
    """Print the table."""
    two_cores()
    if measure is not None:
        memory(measure)
        return
    report = Report("MusicGen on the CPU, 2 threads, guidance on, one step of codes")
    for name, shape in SHAPES.items():
        with tempfile.TemporaryDirectory() as at:
            folder = Path(at) / "model"
            model = theirs(shape)
            their = their_ms(model, frames)
            model.save_pretrained(folder)
            del model
            gc.collect()
            report.add(f"{name}: transformers generate, bfloat16, ms", their, form="{:.1f}")
            for precision in ("bfloat16", "int8"):
                codes = stream(folder, precision)
                our = our_ms(codes, frames)
                engine = codes.engine
                assert isinstance(engine, NativeEngine)
                moved = engine.bytes_read([codes._state])
                limit = 1e3 * moved / read_speed(moved)
                told = f"{moved / 2**20:.0f} MiB a step, limit {limit:.2f} ms: {limit / our:.0%} of it"
                report.add(f"— ours, {precision}, ms", our, told)
                report.add(f"— times faster, {precision}", their / our, at_least=LEAST[name][precision], form="{:.1f}")
                del codes, engine
                gc.collect()
            if name == "MusicGen-small shape":
                command = [sys.executable, __file__, "--measure", str(folder)]
                peaks = map(float, subprocess.check_output(command, text=True).split())
                weights = (folder / "model.safetensors").stat().st_size / 2**20
                limits: tuple[float | None, ...] = (1.3, None)
                for what, peak, limit in zip(("loading and 50 frames", "a full window"), peaks, limits, strict=True):
                    told = f"{peak:.0f} of {weights:.0f} MiB"
                    report.add(f"— peak memory over that of the weights, {what}", peak / weights, told, at_most=limit)
    report.finish(json)


if __name__ == "__main__":
    typer.run(main)
