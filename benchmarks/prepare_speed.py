"""How fast codes are prepared, and whether memory stays flat.

python benchmarks/prepare_speed.py --minutes 60 --json runs/prepare_speed.json
"""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path
from typing import Annotated

import typer
from report import CODEC, STARTER, Report, plain_errors, two_cores

from audiogen.data.manifest import Track, read_manifest
from audiogen.data.prepare import prepare_codes


class Memory(threading.Thread):
    """Resident bytes of this process's children, read ten times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.read: list[tuple[float, int]] = []
        self._stop_it = threading.Event()

    def run(self) -> None:
        while not self._stop_it.wait(0.1):
            self.read.append((time.monotonic(), sum(map(_resident, _children()))))

    def stop(self) -> None:
        self._stop_it.set()
        self.join()


def _children() -> list[Path]:
    found = []
    for task in Path("/proc/self/task").glob("*/children"):
        found += [Path("/proc") / pid for pid in task.read_text(encoding="utf-8").split()]
    return found


def _resident(process: Path) -> int:
    try:
        return int((process / "statm").read_text(encoding="utf-8").split()[1]) * 4096
    except (OSError, IndexError):
        return 0  # it has ended


def enough(tracks: list[Track], minutes: float) -> list[Track]:
    """The first tracks of so many minutes."""
    kept: list[Track] = []
    for track in tracks:
        if sum(each.seconds for each in kept) >= 60 * minutes:
            break
        kept.append(track)
    return kept


def measure(manifest: Path, root: Path, codec: Path, minutes: float, jobs: int, unlabelled: bool) -> Report:
    """The table."""
    tracks = enough(read_manifest(manifest), minutes)
    if unlabelled:
        tracks = [track.model_copy(update={"beats_seconds": (), "downbeats_seconds": ()}) for track in tracks]
    seconds = sum(track.seconds for track in tracks)
    memory = Memory()
    memory.start()
    with tempfile.TemporaryDirectory() as name:
        began = first = time.monotonic()
        for done, _ in prepare_codes(codec, tracks, root, Path(name) / "codes", jobs, shard_seconds=seconds / 12):
            first = time.monotonic() if first == began and done else first
        took = time.monotonic() - began
    memory.stop()
    third = (time.monotonic() - first) / 2
    early = max((held for when, held in memory.read if first <= when < first + third), default=0)
    late = max((held for when, held in memory.read if when >= first + third), default=0)
    listened = ", beats and bars heard" if unlabelled else ""
    report = Report(f"preparing codes of {seconds / 60:.0f} minutes of music{listened}, {jobs} processes")
    report.add("× real time", seconds / took, f"{took:.0f} s, processes started", at_least=50, form="{:.0f}")
    grown = late / early if early and late else float("nan")  # too short to tell
    report.add("peak memory of the second half, of the first's", grown, at_most=1.1)
    report.add("peak memory of all processes, GiB", max(early, late) / 2**30)
    return report


def main(
    manifest: Annotated[Path, typer.Option()] = STARTER / "manifest.jsonl",
    root: Annotated[Path | None, typer.Option(help="folder of the audio; else the manifest's own")] = None,
    codec: Annotated[Path, typer.Option()] = CODEC,
    minutes: Annotated[float, typer.Option(min=1)] = 60.0,
    jobs: Annotated[int, typer.Option(min=1)] = 2,
    unlabelled: Annotated[bool, typer.Option("--unlabelled", help="as if the manifest told no beats")] = False,
    json: Annotated[Path | None, typer.Option(help="save the table")] = None,
) -> None:
    """Print the table."""
    two_cores()
    with plain_errors():
        report = measure(manifest, root or manifest.parent, codec, minutes, jobs, unlabelled)
    report.finish(json)


if __name__ == "__main__":
    typer.run(main)
