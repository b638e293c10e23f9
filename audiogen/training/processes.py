"""The processes of a run, as Accelerate sets them up from `accelerate launch` or its environment variables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

from audiogen.interfaces import AudiogenError
from audiogen.training.task import TrainerConfig


def make_accelerator(config: TrainerConfig, run: str | Path) -> Accelerator:
    """One process, several that each hold all weights (DDP), or several that share them (FSDP2).

    Raises AudiogenError when FSDP of version 1 is asked for, and for a tracker that is unknown or not installed.
    """
    _check_trackers(config.trackers)
    spread = os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("1", "true")
    if spread:
        os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"  # every process builds the same weights
    made = Accelerator(
        mixed_precision=config.mixed_precision or "no", log_with=list(config.trackers) or None, project_dir=str(run)
    )
    if spread and made.distributed_type == DistributedType.MULTI_CPU:
        # Accelerate spreads on GPUs only, and elsewhere does DDP without a word; gloo can do it too.
        made.state.fsdp_plugin = FullyShardedDataParallelPlugin()
        made.state.distributed_type = PartialState().distributed_type = DistributedType.FSDP
    if made.distributed_type == DistributedType.FSDP and not made.is_fsdp2:
        raise AudiogenError("FSDP of version 1 is asked for: set fsdp_version: 2 in the configuration of Accelerate")
    if made.is_fsdp2:
        # Its own policy would round weights, loss and all between to bf16. Autocast makes the run that of one process;
        # weights travel in float32 then, twice the bytes.
        made.state.fsdp_plugin.mixed_precision_policy = None
    return made


def flat(values: dict[str, Any], above: str = "") -> dict[str, str | float]:
    """Nested settings under dotted names, as all trackers take them; lists and None as text."""
    found: dict[str, str | float] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= flat(value, f"{above}{name}.")
        else:
            found[above + name] = value if isinstance(value, str | int | float) else str(value)
    return found


def _check_trackers(names: tuple[str, ...]) -> None:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    known = sorted(LOGGER_TYPE_TO_CLASS)
    installed = [kind.value for kind in get_available_trackers()]
    for name in names:
        if name not in known:
            raise AudiogenError(f"trainer.trackers: {name!r} is none of {', '.join(known)}")
        if name not in installed:
            raise AudiogenError(f"trainer.trackers: {name} is not installed; pip install {name}")
