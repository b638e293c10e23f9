"""What a training of a language model would take: memory, operations, bytes, days and energy, before it is begun.

    python recipes/plan.py recipes/base.toml
    python recipes/plan.py recipes/large.toml --gpus 64 256 --hours 1000000 trainer.batch_size=1024
    python recipes/plan.py recipes/train_lm.toml --against runs/lm

Prints Markdown. Needs neither data nor weights. `name=value` arguments override the configuration.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median

from audiogen.interfaces import AudiogenError
from audiogen.storage import read_json
from audiogen.training import planning
from audiogen.training.lm_trainer import LMTrainingConfig
from audiogen.training.planning import H200, Estimate, Layout, Machine
from audiogen.training.progress import run_command
from audiogen.training.scaling import rates


def table(titles: str, rows: list[list[str]]) -> str:
    """A table in Markdown; `titles` with bars between them."""
    head = [part.strip() for part in titles.split("|")]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]) + "\n"


def model(found: Estimate) -> str:
    """Sizes, operations and what drives them."""
    config, update = found.config, found.update_operations
    unseen = 3 * (found.attention - found.seen) * config.trainer.batch_size
    drivers = {
        "matrices of blocks and heads": 3 * (found.needed - found.seen) * config.trainer.batch_size,
        "attention within its window": 3 * found.seen * config.trainer.batch_size,
        "Muon": found.optimiser_operations,
    }
    lines = [
        f"{found.parameters / 1e6:.1f} M parameters, {found.in_blocks / 1e6:.1f} M of them in blocks; an update is "
        f"{config.trainer.batch_size} × {config.segment_frames} frames and reads {found.update_bytes / 1e6:.3g} MB.",
        f"{update / found.update_frames / 1e9:.4g} GFLOP a frame, {update / 1e12:.4g} TFLOP an update: "
        + ", ".join(f"{name} {value / update:.1%}" for name, value in drivers.items())
        + f". Scores of frames that do not see each other would add {unseen / update:.1%}, "
        f"computing blocks again {found.again_operations() / update:.0%}.",
    ]
    if config.lm.recurrent is None:
        rule = rates(config.lm.dim)
        lines.append(
            f"Rates: lr {config.trainer.lr:.3g}, matrix_pace {config.trainer.matrix_pace:.3g}; by the rule of width "
            f"{rule.lr:.3g} and {rule.matrix_pace:.3g}."
        )
    return "\n".join(lines) + "\n"


def memory(found: Estimate, machine: Machine, gpus: list[int]) -> str:
    """Each way to spread the training, and whether it fits."""
    rows = []
    for processes in gpus:
        for spread, again in planning.WAYS if processes > 1 else planning.WAYS[:2]:
            row = [str(processes), str(Layout(processes, 1, spread, again))]
            try:
                share, held = planning.fitted(found, machine, processes, spread, again)
            except AudiogenError as error:
                rows.append([*row, *["—"] * 7, f"does not fit: {error}"])
                continue
            exchanged = found.exchanged(Layout(processes, share.micro_batch, spread, again), share.accumulation)
            row += [f"{value / 1e9:.3g}" for value in (*held, held.total)]
            rows.append([*row, f"{share.micro_batch} × {share.accumulation}", f"{exchanged / 1e9:.3g} GB an update"])
    titles = "processes|way|weights, GB|gradients|optimiser|EMA|activations|all|segments × turns|each sends"
    return table(titles, rows)


def times(found: Estimate, machine: Machine, gpus: list[int], told: argparse.Namespace) -> str:
    """Days and energy, and what takes time beside the operations where it does not overlap with them."""
    rows = []
    for hours in told.hours:
        steps = told.passes * hours * 3600 * found.config.lm.frame_rate / found.update_frames
        for processes in gpus:
            layout = Layout(processes, 1, False, False)
            seconds = found.seconds(layout, machine, told.share)
            days = steps * seconds / 86400
            energy = days * 24 * processes * told.watts / 1e6
            sent = found.exchanged(layout, 1) / machine.link_bytes_a_second / seconds
            moved = 3 * sum(found.standing) / machine.memory_bytes_a_second / seconds
            row = [f"{hours:,.0f}", str(processes), f"{steps:,.0f}", f"{seconds:.3g}", f"{days:.3g}", f"{energy:.3g}"]
            rows.append([*row, f"{steps * found.update_bytes / 1e9:,.3g}", f"{sent:.0%}", f"{moved:.1%}"])
    return table(
        "hours|processes|updates|s an update|days|MWh|GB read|gradients sent, of the time|weights and state moved",
        rows,
    )


def against(found: Estimate, run: Path, machine: Machine) -> str:
    """The estimate beside what the metrics of `run` say."""
    try:
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        raise AudiogenError(f"{run}: no metrics.jsonl here; name the folder of a run of train_lm.py") from None
    told = [line for line in lines if line.get("frames_a_second")]
    if not told:
        raise AudiogenError(f"{run}: its metrics tell no throughput: written by an older version, or none yet")
    pace = median(line["frames_a_second"] for line in told)
    micro = found.config.trainer.batch_size // found.config.trainer.accumulation
    held = found.memory(Layout(1, micro, False, found.config.trainer.checkpoint_activations), machine).total
    counted, each = 3 * found.operations / found.config.segment_frames, found.update_operations / found.update_frames
    rows = [["frames a second", "", f"{pace:.4g}"]]
    useful = each * pace
    rows.append(
        ["GFLOP/s useful", "", f"{useful / 1e9:.4g}, {useful / machine.operations_a_second:.0%} of the peak now"]
    )
    if "operations_a_second" in told[-1]:
        said = median(line["operations_a_second"] / line["frames_a_second"] for line in told)
        most = max(line["memory_bytes"] for line in told)
        rows.append(["GFLOP a frame (estimate: of all pairs)", f"{counted / 1e9:.5g}", f"{said / 1e9:.5g}"])
        rows.append(["memory, GB (on a CPU with the libraries', about 1)", f"{held / 1e9:.3g}", f"{most / 1e9:.3g}"])
    return table(f"{run}|estimate|measured", rows)


def main(told: argparse.Namespace) -> None:
    """Print the plan."""
    if told.against:
        values = read_json(told.against / "config.json")["config"]
        config = LMTrainingConfig.build(values, f"{told.against}/config.json")
    else:
        config = LMTrainingConfig.read(told.config, told.overrides)
    found = planning.estimate(config)
    print(f"# {told.against or told.config}\n\n{model(found)}")
    here = planning.here()
    if told.against:
        print(against(found, told.against, here))
        return
    for machine, gpus in ((H200, told.gpus), (here, [1])):
        rate, size = machine.operations_a_second / 1e12, machine.memory_bytes / 1e9
        print(f"## {machine.name}: {rate:.3g} TFLOP/s, {size:.3g} GB\n")
        for processes in gpus:
            print(f"- {processes}: {planning.verdict(found, machine, processes)}")
        print(f"\n{memory(found, machine, gpus)}")
    print(f"## Time, H200 at {told.share:.0%} of the peak, {told.watts:g} W each, {told.passes:g} passes\n")
    print(times(found, H200, told.gpus, told))
    seconds = found.seconds(Layout(1, 1, False, False), here, told.share)
    print(f"On this machine alone an update would take {seconds:.3g} s at that share.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a TOML file such as recipes/base.toml")
    parser.add_argument("overrides", nargs="*", help="such as trainer.batch_size=512")
    parser.add_argument("--gpus", type=int, nargs="+", default=[8, 64, 256])
    parser.add_argument("--hours", type=float, nargs="+", default=[20_000, 1_000_000], help="of music")
    parser.add_argument("--passes", type=float, default=1, help="times that it is heard")
    parser.add_argument("--share", type=float, default=0.4, help="of the peak that is reached")
    parser.add_argument("--watts", type=float, default=1000, help="a GPU: 700 its own, the rest host, network, cooling")
    parser.add_argument("--against", type=Path, help="a run's folder: its configuration beside its metrics")
    told = parser.parse_intermixed_args()
    run_command(lambda: main(told))
