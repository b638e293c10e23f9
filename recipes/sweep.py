"""Search over fields of a language model's training, and compare by folds of the catalogue.

    python recipes/sweep.py recipes/train_lm.toml space.toml --run runs/sweep --trials 20
    python recipes/sweep.py recipes/finetune.toml space.toml --run runs/small --trials 8 --folds 5 manifest=mine.jsonl

`space.toml` has a table for each field: `[trainer.lr]` with `low`, `high` and `log = true`, or with `choices`. A trial
is judged at every `trainer.validate_every` updates, and stopped where it is worse than half of those before. Ctrl-C
and killing lose nothing: the same command goes on. `RUN/sweep.md`, `sweep.json` and `sweep.png` tell how it stands.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from audiogen.files import atomic_path, write_json, write_text
from audiogen.training.lm_trainer import LMTrainingConfig
from audiogen.training.progress import run_command
from audiogen.training.sweep import Result, Sweep, read_space


def table(results: Sequence[Result]) -> str:
    """All trials in Markdown, the best first."""
    names = sorted({name for result in results for name in result.values})
    head = ["trial", "state", "validation loss", "folds", "updates", *names, "why"]
    lines = [head, ["---"] * len(head)]
    for result in results:
        spread = f" ± {result.spread:.4f}" if len(result.losses) > 1 else ""
        last = list(result.curve.values())[-1:]
        loss = f"{result.loss:.4f}{spread}" if result.losses else f"({last[0]:.4f})" if last else ""
        told = [_shown(result.values.get(name, "")) for name in names]
        why = " ".join(result.why.split()).replace("|", "/")
        count = str(max(result.curve, default=0))
        lines.append([str(result.number), result.state, loss, str(len(result.losses)), count, *told, why])
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def draw(results: Sequence[Result], path: Path) -> None:
    """Validation loss by update of each trial, and at the end against each field; crosses were pruned."""
    from matplotlib.figure import Figure

    names = sorted({name for result in results for name in result.values})
    figure = Figure(figsize=(4 * (1 + len(names)), 3.4), dpi=90, layout="constrained")
    first, *others = figure.subplots(1, 1 + len(names), squeeze=False)[0]
    for result in results:
        if result.curve:
            steps, losses = zip(*sorted(result.curve.items()), strict=True)
            first.plot(steps, losses, "-o" if result.state == "complete" else "-x", markersize=3, linewidth=0.8)
    first.set(xlabel="update", ylabel="validation loss")
    for name, axis in zip(names, others, strict=True):
        for result in results:
            end = result.loss if result.losses else [*result.curve.values(), math.nan][-1]
            value = result.values.get(name, math.nan)
            told = value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
            axis.errorbar([told], [end], [result.spread], fmt="o" if result.state == "complete" else "x", markersize=4)
        axis.set_xlabel(name)
    for axis in (first, *others):
        axis.grid(alpha=0.3)
        axis.tick_params(labelsize=7)
    with atomic_path(path) as temporary:
        figure.savefig(temporary)


def main(config: LMTrainingConfig, space: str, run: Path, trials: int, folds: int) -> None:
    """Search until `trials` are done; table and picture are made anew after each."""
    sweep = Sweep(config, read_space(space, config), run, folds)
    for result in sweep.go_on(trials):
        told = ", ".join(f"{name}={_shown(value)}" for name, value in result.values.items())
        print(f"trial {result.number} {result.state}: {result.loss:.4f} {told} {result.why}", flush=True)
        report(sweep.results(), run)
    best = report(sweep.results(), run)
    if best is not None:
        print("best:", " ".join(f"{name}={value}" for name, value in best.values.items()))


def report(results: Sequence[Result], run: Path) -> Result | None:
    """Write the table, its JSON and the picture → the best trial that was trained to the end."""
    write_text(run / "sweep.md", table(results))
    told = [
        {**result._asdict(), "loss": result.loss if result.losses else None, "spread": result.spread}
        for result in results
    ]
    write_json(run / "sweep.json", told)
    draw(results, run / "sweep.png")
    return next((result for result in results if result.state == "complete"), None)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a TOML file such as recipes/train_lm.toml")
    parser.add_argument("space", help="a TOML file with a table for each field to search over")
    parser.add_argument("overrides", nargs="*", help="such as trainer.max_steps=300")
    parser.add_argument("--run", required=True, type=Path, help="the sweep's folder")
    parser.add_argument("--trials", required=True, type=int, help="so many in all")
    parser.add_argument("--folds", type=int, default=1, help="of the catalogue, by composition; a trial trains on each")
    told = parser.parse_intermixed_args()  # overrides may stand anywhere
    run_command(
        lambda: main(LMTrainingConfig.read(told.config, told.overrides), told.space, told.run, told.trials, told.folds)
    )
