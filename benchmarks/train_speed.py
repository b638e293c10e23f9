"""How fast a language model of the `mini` shape trains, beside transformers' Trainer with its MusicGen decoder.

python benchmarks/train_speed.py --json runs/train_speed.json

Both see the same codes of the starter catalogue in bf16, in turns, on two cores. The decoder has as many layers and
weights in them, and is spared its cross-attention; its Trainer is as it comes.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import torch
import typer
from report import CODEC, ROOT, STARTER, Report, plain_errors, two_cores
from torch import Tensor
from torch.utils.data import Dataset

from audiogen.training.lm_trainer import LMTask, LMTrainingConfig
from audiogen.training.machine import matrix_peak
from audiogen.training.trainer import Trainer

_WARM = 2


class Silent(LMTask):
    """Learns, and is not asked how it sounds."""

    def validate(self, module: Any) -> dict[str, float]:
        return {}

    def write_samples(self, module: Any, folder: Path) -> None: ...


class Excerpts(Dataset[dict[str, Tensor]]):
    """The task's excerpts as transformers wants them."""

    def __init__(self, task: LMTask) -> None:
        self.task = task

    def __len__(self) -> int:
        return self.task.samples

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        batch = self.task.batch(range(index, index + 1))
        return {"input_ids": batch["inputs"][0], "labels": batch["targets"][0]}


def ours(config: LMTrainingConfig, run: Path) -> tuple[Trainer, Iterator[dict[str, float]]]:
    """The trainer, and the metrics of each of its updates."""
    trainer = Trainer(Silent(config), run, config)
    return trainer, (report.metrics for report in trainer.steps())


def plain(config: LMTrainingConfig, folder: Path) -> tuple[Any, Iterator[float]]:
    """transformers' decoder of equal shape, and the frames a second of each update of its Trainer."""
    from transformers import MusicgenForCausalLM, Trainer, TrainerCallback, TrainingArguments
    from transformers.models.musicgen.configuration_musicgen import MusicgenDecoderConfig

    shape, books = config.lm.transformer, config.lm.num_codebooks
    torch.manual_seed(0)
    decoder = MusicgenForCausalLM(MusicgenDecoderConfig(
        vocab_size=config.lm.codebook_size, num_codebooks=books, hidden_size=shape.dim,
        num_hidden_layers=shape.depth, num_attention_heads=shape.heads, ffn_dim=3 * shape.hidden // 2,
        pad_token_id=config.lm.pad, bos_token_id=config.lm.pad, max_position_embeddings=config.segment_frames,
    ))  # fmt: skip
    for layer in decoder.model.decoder.layers:
        del layer.encoder_attn, layer.encoder_attn_layer_norm  # nothing is there to attend to

    def collate(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {
            "input_ids": torch.cat([item["input_ids"] for item in items]),
            "labels": torch.stack([item["labels"].T for item in items]),
        }

    paces: list[float] = []

    class Clock(TrainerCallback):
        began = 0.0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            paces.append(config.trainer.batch_size * config.segment_frames / (time.perf_counter() - self.began))

    def run() -> Iterator[float]:
        while True:
            arguments = TrainingArguments(
                output_dir=str(folder), max_steps=_WARM + 3, per_device_train_batch_size=config.trainer.batch_size,
                bf16=True, use_cpu=True, learning_rate=config.trainer.lr, report_to=[], save_strategy="no",
                logging_strategy="no", disable_tqdm=True,
            )  # fmt: skip
            trainer = Trainer(
                model=decoder, args=arguments, train_dataset=Excerpts(Silent(config)), data_collator=collate,
                callbacks=[Clock()],
            )  # fmt: skip
            trainer.train()
            fresh = paces[_WARM:]
            paces.clear()
            yield from fresh

    return decoder, run()


def settings(manifest: Path, codes: Path, codec: Path, overrides: list[str]) -> LMTrainingConfig:
    """The shipped recipe on these data."""
    told = [f"manifest={manifest}", f"codes={codes}", f"codec={codec}", "trainer.checkpoint_every_seconds=1e9"]
    return LMTrainingConfig.read(ROOT / "recipes" / "train_lm.toml", told + overrides)


def compare(config: LMTrainingConfig, rounds: int) -> Report:
    """The table; the two take turns, three updates each."""
    report = Report("training the mini shape, bf16")
    paces: list[float] = []
    theirs: list[float] = []
    loading: list[float] = []
    shares: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        trainer, updates = ours(config, Path(name) / "run")
        decoder, other = plain(config, Path(name) / "plain")
        for _ in range(_WARM):
            next(updates)
        for _ in range(rounds):
            for _ in range(3):
                found = next(updates)
                paces.append(found["frames_a_second"])
                loading.append(found["data_share"])
                shares.append(found["peak_share"])
            theirs += [next(other) for _ in range(3)]
        sizes = [
            sum(weight.numel() for weight in layers.parameters()) / 1e6
            for layers in (trainer.task.module.trunk, decoder.model.decoder.layers)  # type: ignore[operator, union-attr]
        ]
        updates.close()  # type: ignore[attr-defined]
    peak = matrix_peak(torch.device("cpu"), torch.bfloat16) / 1e9
    report.add("frames a second", median(paces), at_least=2500, form="{:,.0f}")
    report.add("share of the measured matrix peak", median(shares), f"{peak:,.0f} GFLOP/s", at_least=0.35)
    report.add("share of the time spent waiting for data", float(np.mean(loading)), at_most=0.03, form="{:.3f}")
    reference = f"transformers: {median(theirs):,.0f} frames/s"
    report.add("times faster than transformers' Trainer", median(paces) / median(theirs), reference, at_least=1.5)
    report.add("weights in the layers, million", sizes[0], f"transformers: {sizes[1]:.1f}", form="{:.1f}")
    report.notes.append(
        f"median of {len(paces)} updates each, of {config.trainer.batch_size} × {config.segment_frames}"
    )
    return report


def main(
    manifest: Annotated[Path, typer.Option()] = STARTER / "manifest.jsonl",
    codes: Annotated[Path, typer.Option()] = ROOT / "data" / "codes",
    codec: Annotated[Path, typer.Option(help="the codec of these codes")] = CODEC,
    rounds: Annotated[int, typer.Option(min=1, help="of three updates each")] = 6,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    override: Annotated[
        list[str] | None, typer.Option("--set", help="of the recipe, such as segment_frames=64")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="save the table")] = None,
) -> None:
    """Print the table."""
    two_cores()
    torch.set_num_threads(threads)
    with plain_errors():
        report = compare(settings(manifest, codes, codec, override or []), rounds)
    report.finish(json)


if __name__ == "__main__":
    typer.run(main)
