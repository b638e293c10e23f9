"""What every benchmark prints: one table, what | ours | reference | limit | met, and the machine it ran on."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audiogen import __version__
from audiogen.files import write_json
from audiogen.interfaces import AudiogenError

ROOT = Path(__file__).resolve().parents[1]
AUDIOGEN = str(Path(sys.executable).with_name("audiogen"))  # the installed command
CODEC = ROOT / "audiogen" / "models" / "mini" / "codec"
STARTER = ROOT / "data" / "starter"


def two_cores() -> None:
    """Keep this process and those that it starts to two cores and the CPU.

    PyTorch keeps the number of threads that it was loaded with.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "2"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""


@contextmanager
def plain_errors() -> Iterator[None]:
    """A user's mistake is one line and exit code 1."""
    import typer

    try:
        yield
    except AudiogenError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None


def read_speed(size: int) -> float:
    """Bytes a second that the threads read from `size` bytes in pages such as weights lie in, the best of many."""
    import torch

    from audiogen.storage import HugePages

    buffer, best = HugePages().zeros((size // 4,), torch.float32).fill_(1.0), 0.0
    for _ in range(30):
        began = time.perf_counter()
        buffer.sum()
        best = max(best, size / (time.perf_counter() - began))
    return best


def machine() -> dict[str, Any]:
    """CPU, threads, load and versions. The load tells whether something else ran at the same time."""
    import torch

    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "audiogen": __version__,
    }


@dataclass(frozen=True)
class Row:
    """One figure. `met` is None where there is no limit."""

    what: str
    ours: float
    reference: str
    limit: str
    met: bool | None
    shown: str


@dataclass
class Report:
    """Collects rows, prints them, and saves them as JSON."""

    title: str
    rows: list[Row] = field(default_factory=list)
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(
        self,
        what: str,
        ours: float,
        reference: str = "",
        *,
        at_least: float | None = None,
        at_most: float | None = None,
        form: str = "{:.2f}",
    ) -> None:
        """One line; `form` shows `ours` and the limit. NaN meets nothing."""
        if at_least is not None:
            limit, met = f"≥ {form.format(at_least)}", bool(ours >= at_least)
        elif at_most is not None:
            limit, met = f"≤ {form.format(at_most)}", bool(ours <= at_most)
        else:
            limit, met = "", None
        self.rows.append(Row(what, float(ours), reference, limit, met, form.format(ours)))

    def table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table of its own below the main one."""
        self.tables[title] = {"header": list(header), "rows": [list(row) for row in rows]}

    def finish(self, path: Path | None) -> None:
        """Print everything, and save it at `path` if one is given."""
        from rich.console import Console

        told = machine()
        console = Console(width=None if Console().is_terminal else 120, highlight=False)
        marks = {True: "yes", False: "NO", None: ""}
        lines = [(row.what, row.shown, row.reference, row.limit, marks[row.met]) for row in self.rows]
        console.print(_table(self.title, ("what", "ours", "reference", "limit", "met"), lines))
        for title, table in self.tables.items():
            console.print(_table(title, table["header"], table["rows"]))
        for note in self.notes:
            console.print(note, markup=False)
        console.print(", ".join(f"{name} {value}" for name, value in told.items()), markup=False)
        if path is not None:
            rows = [vars(row) for row in self.rows]
            saved = {"title": self.title, "rows": rows, "tables": self.tables, "notes": self.notes, "machine": told}
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, saved)


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for index, name in enumerate(header):
        table.add_column(name, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*row)
    return table


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
