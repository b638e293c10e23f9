"""A small language model's training in processes of its own, for benchmarks that kill, count and compare them."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audiogen.codec.spectral import SpectralCodec, SpectralCodecConfig
from audiogen.data.manifest import Track, write_manifest
from audiogen.files import write_json
from audiogen.lm.model import MusicLMConfig
from audiogen.training.lm_trainer import LMTask, LMTrainingConfig
from audiogen.training.trainer import Trainer

CODEC = SpectralCodecConfig(
    sample_rate=16_000, hop_length=640, short_hop=160, long_window=1280, long_hz=2000, top_hz=8000,
    num_oscillators=84, pitch_dim=16,
    fast_dim=16, slow_dim=16, encoder_fast_depth=1, encoder_slow_depth=2, decoder_slow_depth=1, decoder_fast_depth=2,
    fast_expansion=2, slow_expansion=2, latent_dim=8, num_codebooks=4, codebook_size=32,
)  # fmt: skip
LM = MusicLMConfig.model_validate({
    "num_codebooks": 4, "codebook_size": 32, "code_dim": 8,
    "transformer": {"dim": 32, "depth": 2, "heads": 4, "kv_heads": 2, "hidden": 48, "window_frames": 32},
})  # fmt: skip
_TRACKS, _FRAMES = 12, 300

_context = multiprocessing.get_context("forkserver")


def catalogue(folder: Path) -> None:
    """`folder/manifest.jsonl`, `folder/codec` and `folder/codes`: melodies that wander and return, in codes."""
    torch.manual_seed(0)
    codec = SpectralCodec(CODEC)
    codec.save(folder / "codec", "float32")
    (folder / "codes").mkdir(parents=True, exist_ok=True)
    fingerprint = SpectralCodec.load(folder / "codec").fingerprint
    write_json(folder / "codes" / "index.json", {"codec": fingerprint, "num_codebooks": codec.num_codebooks})
    tracks = []
    for index in range(_TRACKS):
        random = np.random.default_rng(index)
        walk = np.cumsum(random.integers(-1, 2, (_FRAMES, LM.num_codebooks)), 0) % LM.codebook_size
        sha256 = f"{index:064x}"
        np.save(folder / "codes" / f"{sha256[:32]}.npy", walk.astype(np.int16))
        told = {
            "path": f"{index}.wav", "sha256": sha256, "sample_rate": CODEC.sample_rate, "channels": 2,
            "samples": _FRAMES * CODEC.hop_length, "split": "validation" if index % 4 == 3 else "train",
            "licence": "CC0-1.0", "rights_holder": "audiogen", "composition": str(index), "style": "folk",
            "tempo_bpm": 90.0 + index, "captions": ["a calm harp"] if index % 2 else ["a slow flute, far away"],
        }  # fmt: skip
        tracks.append(Track.model_validate(told))
    write_manifest(folder / "manifest.jsonl", tracks)


def settings(folder: Path, **trainer: Any) -> LMTrainingConfig:
    """A configuration for the catalogue in `folder`."""
    told = {"max_steps": 40, "batch_size": 4, "lr": 1.2e-3, "warmup_steps": 5, "mixed_precision": "no", "threads": 1}
    return LMTrainingConfig.model_validate({
        "manifest": str(folder / "manifest.jsonl"), "codes": str(folder / "codes"), "codec": str(folder / "codec"),
        "lm": LM.model_dump(), "segment_frames": 32, "trainer": told | trainer,
    })  # fmt: skip


class Noted(LMTask):
    """Notes the positions of every batch asked for in `RUN/asked-PROCESS.jsonl`; validates without sound."""

    run: Path

    def batch(self, positions: range) -> dict[str, Any]:
        path = self.run / f"asked-{os.environ.get('RANK', '0')}.jsonl"
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps([positions.start, positions.stop]) + "\n")
        return super().batch(positions)

    def write_samples(self, module: Any, folder: Path) -> None: ...


def train(config: LMTrainingConfig, run: Path, until: int | None = None) -> None:
    """Train to the end, or leave the loop after step `until`, which saves."""
    run.mkdir(parents=True, exist_ok=True)
    task = Noted(config)
    task.run = run
    trainer = Trainer(task, run, config)
    for report in trainer.steps():
        if report.global_step == until:
            break
    if hasattr(trainer, "memory"):  # not when a resumed run had nothing left to do
        (run / f"memory-{os.environ.get('RANK', '0')}.json").write_text(json.dumps(trainer.memory._asdict()))


def start(processes: int, action: Callable[..., None], *arguments: Any, **environment: str) -> list[BaseProcess]:
    """Start `action(*arguments)` in that many processes on the CPU that know each other, over gloo."""
    _context.set_forkserver_preload(["small_run", "torch._dynamo"])  # imports once, not in each
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {**environment, "ACCELERATE_USE_CPU": "true", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    made: list[BaseProcess] = []
    for rank in range(processes):
        told = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)} if processes > 1 else {}
        made.append(_context.Process(target=_begin, args=(common | told, action, arguments)))
        made[-1].start()
    return made


def held(run: Path) -> list[int]:
    """Bytes of parameters that each process of the last training in `run` held."""
    return [json.loads(path.read_text(encoding="utf-8"))["parameters"] for path in sorted(run.glob("memory-*.json"))]


def finish(processes: list[BaseProcess], seconds: float = 300.0) -> list[int | None]:
    """Wait for all; → their exit codes. One that takes longer is killed."""
    for process in processes:
        process.join(seconds)
        if process.is_alive():
            process.kill()
            process.join()
    return [process.exitcode for process in processes]


def _begin(environment: dict[str, str], action: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    action(*arguments)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
