"""Make the starter catalogue: compose, render and label whole pieces in every style.

    python recipes/starter_catalogue/make.py --hours 10 --seed 1 -o data/starter

Writes `audio/<style>/<id>.wav`, `midi/<style>/<id>.mid`, `labels/<style>/<id>.json` and `manifest.jsonl` in the output
folder. Run again, it makes only what is missing or has changed.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if not __package__:  # run as a script: make the folder importable as the package that it is
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    __package__ = "recipes.starter_catalogue"

from audiogen.data.manifest import Track, write_manifest
from audiogen.files import sha256_file, write_text
from audiogen.interfaces import AudiogenError, Chord, Key
from audiogen.workers import spread

from .compose import compose, outline
from .form import PHRASE_BARS
from .model import Piece
from .render import SAMPLE_RATE, SOUNDFONT, check_tools, is_rendered, render

LICENCE = "CC0-1.0"
RIGHTS_HOLDER = "the audiogen project"


def pieces_for(hours: float, seed: int) -> int:
    """The smallest number of pieces that lasts at least `hours`."""
    count, seconds = 0, 0.0
    while seconds < hours * 3600:
        seconds += outline(seed, count).seconds
        count += 1
    return count


def labels(piece: Piece, seed: int, path: Path, sha256: str) -> Track:
    """The piece's line of the manifest; `path` is relative to the output folder."""
    beat, bar = piece.beat_seconds, piece.beat_seconds * piece.beats_per_bar
    energy: list[tuple[float, float]] = []
    for section in piece.sections:
        end = (section.start + section.bars) * bar
        energy += [(section.start * bar, section.energy[0]), (end - beat, section.energy[1])]
    energy.append((piece.seconds, 0.0))
    return Track(
        path=path.as_posix(),
        sha256=sha256,
        sample_rate=SAMPLE_RATE,
        channels=2,
        samples=round(piece.seconds * SAMPLE_RATE),
        split=piece.split,
        licence=LICENCE,
        rights_holder=RIGHTS_HOLDER,
        composition=f"starter-{seed}-{piece.id}",
        captions=piece.captions,
        style=piece.style,
        moods=piece.moods,
        instruments=piece.instruments,
        tags=piece.words,
        tempo_bpm=piece.tempo_bpm,
        key=str(Key(piece.tonic, piece.mode)),
        beats_per_bar=piece.beats_per_bar,
        beats_seconds=tuple(i * beat for i in range(piece.bars * piece.beats_per_bar)),
        downbeats_seconds=tuple(i * bar for i in range(piece.bars)),
        chords=tuple((c.start * beat, Chord(0.0, c.root, c.quality).symbol) for c in piece.chords),
        sections=tuple((section.start * bar, section.label) for section in piece.sections),
        energy=tuple(energy),
        parts=tuple((start * beat, names) for start, names in piece.playing(PHRASE_BARS)),
    )


def make_piece(seed: int, index: int, root: Path, soundfont: Path) -> Track:
    """Piece `index` on disk and its labels. A piece that is there already is not rendered again."""
    piece = compose(seed, index)
    folder = piece.style.replace(" ", "-")
    path = Path("audio") / folder / f"{piece.id}.wav"
    midi_path = root / "midi" / folder / f"{piece.id}.mid"
    label_path = root / "labels" / folder / f"{piece.id}.json"
    if is_rendered(piece, midi_path, root / path, soundfont) and label_path.is_file():
        sha256 = Track.model_validate_json(label_path.read_text(encoding="utf-8")).sha256
    else:
        render(piece, midi_path, root / path, soundfont)
        sha256 = sha256_file(root / path)
    track = labels(piece, seed, path, sha256)
    label_path.parent.mkdir(parents=True, exist_ok=True)
    write_text(label_path, track.model_dump_json(exclude_defaults=True) + "\n")
    return track


def make(hours: float, seed: int, root: Path, soundfont: Path, jobs: int) -> list[Track]:
    """All pieces, in order. Raises AudiogenError for a missing tool or a folder that cannot be written."""
    check_tools(soundfont)
    if not 0 < hours < 10_000:
        raise AudiogenError(f"--hours {hours}: expected a number above 0")
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AudiogenError(f"{root}: cannot make the output folder: {error.strerror}") from None
    count = pieces_for(hours, seed)
    tracks: dict[int, Track] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(elapsed_when_finished=True)) as progress:
        task = progress.add_task("pieces", total=count)
        for index, track in spread(partial(make_piece, seed, root=root, soundfont=soundfont), range(count), jobs):
            tracks[index] = track
            progress.advance(task)
    ordered = [tracks[index] for index in range(count)]
    write_manifest(root / "manifest.jsonl", ordered)
    return ordered


def main(
    output: Annotated[Path, typer.Option("-o", "--output", help="folder to write")] = Path("data/starter"),
    hours: Annotated[float, typer.Option(help="how much music")] = 10.0,
    seed: Annotated[int, typer.Option(min=0, help="another seed is another catalogue")] = 1,
    jobs: Annotated[int, typer.Option(min=1, help="processes")] = os.cpu_count() or 1,
    soundfont: Annotated[Path, typer.Option(help="a General MIDI soundfont")] = SOUNDFONT,
) -> None:
    """Compose, render and label the starter catalogue."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        tracks = make(hours, seed, output, soundfont, jobs)
    except AudiogenError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo("stopped; run again to go on", err=True)
        raise typer.Exit(130) from None
    total = sum(track.seconds for track in tracks) / 3600
    typer.echo(f"{len(tracks)} pieces, {total:.2f} hours: {output / 'manifest.jsonl'}")


if __name__ == "__main__":
    typer.run(main)
