"""Loss against floating-point operations: Transformers of several sizes on the same excerpts in the same order.

python benchmarks/scaling.py --json runs/benchmarks/scaling.json --picture docs/images/scaling.png

Each size takes the rates of the rule of width (audiogen/training/scaling.py), twice and four times these, and stands
with its best. Ctrl-C and killing leave it resumable: the same command goes on.
"""

from __future__ import annotations

import json as json_module
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer
from report import CODEC, ROOT, STARTER, Report
from torch import Tensor, nn

from audiogen.files import atomic_path
from audiogen.interfaces import AudiogenError
from audiogen.lm.model import MusicLM, MusicLMConfig
from audiogen.lm.transformer import Attention
from audiogen.training.lm_trainer import LMTask, LMTrainingConfig
from audiogen.training.machine import keep_freed_memory
from audiogen.training.scaling import power_law, rates
from audiogen.training.trainer import Trainer

FACTORS = (1.0, 2.0, 4.0)


class Silent(LMTask):
    """Validates without sound."""

    def write_samples(self, module: nn.Module, folder: Path) -> None: ...


def configured(width: int, factor: float, updates: int, batch: int, frames: int, books: int) -> LMTrainingConfig:
    """A Transformer of `width`, depth and heads in proportion, with `factor` times the rule's rates."""
    heads = width // 32
    kv_heads = max(count for count in range(1, max(1, heads // 4) + 1) if heads % count == 0)
    rule = rates(width)
    return LMTrainingConfig.model_validate({
        "manifest": str(STARTER / "manifest.jsonl"), "codes": str(ROOT / "data" / "codes"), "codec": str(CODEC),
        "segment_frames": frames,
        "lm": MusicLMConfig.model_validate({
            "num_codebooks": books,
            "transformer": {
                "dim": width, "depth": max(1, round(width / 48)), "heads": heads, "kv_heads": kv_heads,
                "hidden": round(width / 12) * 32,
            },
        }),
        "trainer": {
            "max_steps": updates, "batch_size": batch, "lr": factor * rule.lr, "matrix_pace": rule.matrix_pace,
            "lr_end": 0.01 * factor * rule.lr, "warmup_steps": max(1, updates // 15), "weight_decay": 0.05,
            "validate_every": updates, "checkpoint_every_seconds": 60.0, "keep_checkpoints": 1, "threads": 1,
        },
    })  # fmt: skip


def train(config: LMTrainingConfig, run: Path) -> dict[str, Any]:
    """Train to the end, or find it trained → what the table and the picture need."""
    task = Silent(config)
    trainer = Trainer(task, run, config)
    for report in trainer.steps():
        if report.global_step % 20 == 0:
            print(f"{run.name}: {report.global_step}/{config.trainer.max_steps}", flush=True)
    lines = [json_module.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    update = median(line["operations_a_second"] / line["frames_a_second"] for line in lines)
    update *= config.trainer.batch_size * config.segment_frames
    scores, normaliser = extremes(task)
    found: dict[str, Any] = {name: lines[-1].get(f"validation_{name}") for name in ("loss", "bits_a_second")}
    if found["loss"] is None:  # interrupted in the last validation
        task.module.load_state_dict(trainer.ema)
        with torch.no_grad():
            found = task.validate(task.module.eval())
    return {
        "width": config.lm.dim, "depth": config.lm.transformer.depth, "lr": config.trainer.lr,
        "matrix_pace": config.trainer.matrix_pace,
        "parameters": sum(weight.numel() for weight in task.module.parameters()),
        "operations": update * config.trainer.max_steps,
        "loss": found["loss"], "bits_a_second": found["bits_a_second"],
        "largest_gradient": max(line["grad_norm"] for line in lines[len(lines) // 10 :]),
        "largest_score": scores, "normaliser": normaliser,
        "curve": [(line["global_step"] * update, line["loss"]) for line in lines],
    }  # fmt: skip


@torch.no_grad()
def extremes(task: LMTask) -> tuple[float, float]:
    """On the first batch: the largest attention score that queries and keys allow, and the mean log of the softmax's
    normaliser: what QK-norm and z-loss would keep in bounds."""
    model: MusicLM = task.module  # type: ignore[assignment]
    most: list[float] = []

    def look(layer: Attention, _: Any, out: Tensor) -> None:
        config = layer.config
        parts = out.float().unflatten(2, (-1, config.head_dim)).norm(dim=-1)  # [B, T, heads + 2 kv_heads]
        q, k = parts[..., : config.heads].amax(), parts[..., config.heads : config.heads + config.kv_heads].amax()
        most.append(float(q * k) * config.head_dim**-0.5)

    layers = [module for module in model.modules() if isinstance(module, Attention)]
    hooks = [
        layer.qkv.register_forward_hook(lambda _, args, out, layer=layer: look(layer, args, out)) for layer in layers
    ]
    heard: list[float] = []
    hooks.append(model.heads.register_forward_hook(lambda _, __, out: heard.append(_normaliser(model, out))))
    task.loss(model, task.batch(range(task.config.trainer.batch_size)), 0)
    for hook in hooks:
        hook.remove()
    return max(most), heard[0]


def _normaliser(model: MusicLM, logits: Tensor) -> float:
    return float(logits.float().unflatten(2, (model.config.num_codebooks, -1)).logsumexp(-1).abs().mean())


def best(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each width the run of the lowest loss."""
    widths = sorted({run["width"] for run in runs})
    return [min((run for run in runs if run["width"] == width), key=lambda run: run["loss"]) for width in widths]


def draw(everything: list[dict[str, Any]], path: Path) -> None:
    """Loss against operations with the law; the loss of each width against the factor of its rates."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), dpi=100, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    runs = best(everything)
    for index, run in enumerate(runs):
        size = f"{run['width']} × {run['depth']}, {run['parameters'] / 1e6:.1f} M"
        work, losses = zip(*run["curve"], strict=True)
        smooth = [sum(losses[max(0, i - 9) : i + 1]) / len(losses[max(0, i - 9) : i + 1]) for i in range(len(losses))]
        left.plot(work, smooth, color=f"C{index}", linewidth=0.8, alpha=0.7)
        left.plot(run["operations"], run["loss"], "o", color=f"C{index}", label=size)
    if len(runs) > 2:
        law = power_law([run["operations"] for run in runs], [run["loss"] for run in runs])
        ends = [runs[0]["operations"] / 2, runs[-1]["operations"] * 2]
        left.plot(ends, [law.at(end) for end in ends], "k--", linewidth=1, label=f"∝ operations^{-law.exponent:.3f}")
    left.set(xscale="log", yscale="log", xlabel="floating-point operations", ylabel="cross-entropy, nats a code")
    left.set_title("lines: training, ten updates' mean; points: validation at the end", fontsize=9)
    for width in sorted({run["width"] for run in everything}):
        factors, losses = zip(
            *sorted((run["factor"], run["loss"]) for run in everything if run["width"] == width), strict=True
        )
        right.plot(factors, losses, "o-", label=f"width {width}")
    right.set(xscale="log", xlabel="times the rule's rates", ylabel="validation, nats a code")
    for axis in (left, right):
        axis.grid(alpha=0.3, which="both")
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        figure.savefig(temporary)


def tell(everything: list[dict[str, Any]], title: str) -> Report:
    """The table of what is trained so far."""
    report, runs = Report(title), best(everything)
    header = [
        "width × depth",
        "times the rule's rates",
        "million",
        "operations",
        "loss, nats",
        "bits/s",
        "largest score",
        "normaliser",
        "gradient",
    ]
    report.table("sizes", header, [
        [f"{run['width']} × {run['depth']}", f"{run['factor']:g}", f"{run['parameters'] / 1e6:.2f}",
         f"{run['operations']:.3g}",
         f"{run['loss']:.4f}", f"{run['bits_a_second']:.0f}", f"{run['largest_score']:.1f}",
         f"{run['normaliser']:.2f}", f"{run['largest_gradient']:.2f}"]
        for run in runs
    ])  # fmt: skip
    rows = sorted((run["width"], run["factor"], run["loss"]) for run in everything)
    report.table("rates", ["width", "times the rule's", "loss"], [[f"{w}", f"{f:g}", f"{x:.4f}"] for w, f, x in rows])
    if len(runs) > 2:
        work, losses = [run["operations"] for run in runs], [run["loss"] for run in runs]
        law, before = power_law(work, losses), power_law(work[:-1], losses[:-1])
        report.add("exponent of loss against operations", -law.exponent, form="{:.4f}")
        off = max(abs(law.at(x) / y - 1) for x, y in zip(work, losses, strict=True))
        report.add("a size's distance from the law, %", 100 * off)
        report.add("the largest foretold from the others: off by, %", 100 * (before.at(work[-1]) / losses[-1] - 1))
    return report


def main(
    run: Annotated[Path, typer.Option(help="folder of the trainings")] = ROOT / "runs" / "scaling",
    widths: Annotated[str, typer.Option(help="multiples of 32, ascending")] = "96,160,256,384",
    updates: Annotated[int, typer.Option(min=30)] = 300,
    batch: Annotated[int, typer.Option(min=1, help="excerpts an update")] = 4,
    frames: Annotated[int, typer.Option(min=17, help="frames an excerpt")] = 512,
    books: Annotated[int, typer.Option(min=1, help="codebooks")] = 8,
    json: Annotated[Path | None, typer.Option(help="save the table, and the curves beside it")] = None,
    picture: Annotated[Path | None, typer.Option(help="save the picture")] = None,
) -> None:
    """Train every size, then the checks of the rates; table and picture are made anew after each."""
    keep_freed_memory()
    try:
        sizes = [int(part) for part in widths.split(",") if part]
        if not sizes or any(width % 32 or width <= 0 for width in sizes):
            raise AudiogenError(f"--widths {widths} must be multiples of 32")
        runs: list[dict[str, Any]] = []
        for width in sizes:
            for factor in FACTORS:
                config = configured(width, factor, updates, batch, frames, books)
                runs.append(train(config, run / f"{width:04d}-{factor:g}") | {"factor": factor})
            report = tell(runs, f"{updates} updates of {batch} × {frames} frames, the same for every size")
            if picture:
                draw(runs, picture)
            if json:
                json.parent.mkdir(parents=True, exist_ok=True)
                with atomic_path(json.with_suffix(".curves.json")) as temporary:
                    temporary.write_text(json_module.dumps(runs), encoding="utf-8")
        report.finish(json)
    except AudiogenError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    typer.run(main)
