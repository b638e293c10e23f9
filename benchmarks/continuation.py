"""Recordings continued: is the seam to be heard, is the beat found, does it go on.

Held-out pieces are cut off at a random place and continued. Each seam stands beside all moments within 20 s: where
nothing shows, its steps of level and spectrum are as a random moment's are, 95 % of them below the 95th percentile.

python benchmarks/continuation.py --json runs/continuation.json
"""

from __future__ import annotations

from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import torch
import typer
from report import STARTER, Report, two_cores

from audiogen import Generator
from audiogen.audio.beatgrid import BeatGrid
from audiogen.audio.defects import find_defects
from audiogen.audio.features import tempo_bpm
from audiogen.audio.io import read, write
from audiogen.audio.measured import tempo_met
from audiogen.audio.seams import Seam, seam
from audiogen.data.manifest import Track, read_manifest, resolve
from audiogen.generation.continuation import continue_recording
from audiogen.interfaces import Waveform

UNSEEN = 0.95


def off_beats(grid: BeatGrid | None, times: list[float], shift_seconds: float, seconds: float) -> float:
    """Share of a beat by which the labelled `times` within the last 20 s lie off the grid, median; NaN without one."""
    near = [time - shift_seconds for time in times if seconds - 20 < time < seconds]
    if grid is None or len(near) < 4:
        return float("nan")
    beats = (np.array(near) - grid.downbeat_seconds) * grid.tempo_bpm / 60
    return float(np.median(np.abs(beats - np.rint(beats))))


def main(
    pieces: Annotated[int, typer.Option(help="of the test split")] = 20,
    seconds: Annotated[float, typer.Option(help="of what follows")] = 20.0,
    seed: int = 1,
    keep: Annotated[Path | None, typer.Option(help="a folder for the clips")] = None,
    json: Annotated[Path | None, typer.Option(help="save the table")] = None,
) -> None:
    """Print the table."""
    two_cores()
    generator, dice = Generator.from_pretrained("mini"), np.random.default_rng(seed)
    tracks = [
        t for t in read_manifest(STARTER / "manifest.jsonl") if t.split == "test" and t.samples > 60 * t.sample_rate
    ]
    chosen = [tracks[index] for index in dice.permutation(len(tracks))[:pieces]]
    rows: list[tuple[Track, Seam, bool, float, bool, float]] = []
    for number, track in enumerate(chosen, 1):
        cut = float(dice.uniform(25, 45))
        with TemporaryDirectory() as folder:
            path = Path(folder) / "cut.wav"
            write(path, read(resolve(STARTER, track), seconds=cut))
            made = continue_recording(generator, path, None, seconds, seed)
            clip = Waveform(torch.cat([c.samples for c in made.play(generator, 50)], 1), generator.sample_rate)
        join = made.recording.seconds
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            write(keep / f"{number:02d}-{Path(track.path).stem}-{join:.2f}.wav", clip)
        after = Waveform(clip.samples[:, round(join * clip.sample_rate) :], clip.sample_rate)
        stuck = find_defects(lambda start, length, sound=after: _part(sound, start, length), after.seconds)
        found = made.grid.tempo_bpm if made.grid else None
        right = bool(track.tempo_bpm and tempo_met(track.tempo_bpm, found))
        shift = join - made.context_samples / clip.sample_rate
        off = off_beats(made.grid, list(track.beats_seconds or ()), shift, join)
        runs_on = bool(track.tempo_bpm and tempo_met(track.tempo_bpm, tempo_bpm(after), "octave and 3:2"))
        rows.append((track, seam(clip, join), right, off, runs_on, stuck.silence_seconds + stuck.stuck_seconds))
        typer.echo(f"{number}/{len(chosen)} {track.path}", err=True)
    report = Report(f"{len(rows)} held-out pieces cut off and continued for {seconds:g} s")
    for name, ranks, steps in (
        ("level", [row[1].level_rank for row in rows], [row[1].level_db for row in rows]),
        ("spectrum", [row[1].spectrum_rank for row in rows], [row[1].spectrum_db for row in rows]),
    ):
        share = float(np.mean([rank <= UNSEEN for rank in ranks]))
        what = f"seams whose step of {name} is below the 95th percentile around them"
        report.add(what, share, f"a random moment: {UNSEEN}", at_least=0.9)
        report.add(f"rank of the step of {name} among those around it, median", median(ranks), "a random moment: 0.5")
        report.add(f"step of {name}, dB, median", median(steps))
    report.add("tempo of the recording found, octaves allowed", float(np.mean([row[2] for row in rows])))
    offs = [row[3] for row in rows if row[2] and np.isfinite(row[3])]
    report.add("beats off, share of a beat, median (where found)", median(offs) if offs else float("nan"))
    report.add("tempo heard in what follows is the recording's", float(np.mean([row[4] for row in rows])))
    report.add("silence or stuck loops in what follows, seconds, worst", max(row[5] for row in rows))
    header = ("piece", "level dB", "rank", "spectrum dB", "rank", "tempo", "beats off", "runs on")
    report.table(
        "Pieces", header,
        [
            (track.path, f"{s.level_db:.1f}", f"{s.level_rank:.2f}", f"{s.spectrum_db:.1f}", f"{s.spectrum_rank:.2f}",
             "yes" if right else "no", f"{off:.2f}", "yes" if runs_on else "no")
            for track, s, right, off, runs_on, _ in rows
        ],
    )  # fmt: skip
    report.finish(json)


def _part(waveform: Waveform, start: float, length: float) -> Waveform:
    first, last = (round(time * waveform.sample_rate) for time in (start, start + length))
    return Waveform(waveform.samples[:, first:last], waveform.sample_rate)


if __name__ == "__main__":
    typer.run(main)
