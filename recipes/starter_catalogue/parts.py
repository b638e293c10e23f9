"""Which instruments sound when, from the catalogue's MIDI: what the tagger's network learns instruments from.

    python recipes/starter_catalogue/parts.py --manifest data/starter/manifest.jsonl -o runs/tagger/parts.safetensors

Writes uint8 `[29, N]` for each track by its SHA-256: 1 where an instrument plays in that frame of 0.08 s.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import mido
import numpy as np
import typer
from rich.progress import track as progress

if not __package__:  # run as a script: make the folder importable as the package that it is
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    __package__ = "recipes.starter_catalogue"

from audiogen.data.manifest import Track, read_manifest
from audiogen.files import atomic_path
from audiogen.interfaces import INSTRUMENTS, AudiogenError
from audiogen.style.hearing import SEMITONE_RATE

from .patches import PATCHES

_DRUM_CHANNEL = 9
_RINGS_SECONDS = 0.25  # a stroke is heard for a while after its note ends


def labels_of(program: int, drums: bool, instruments: tuple[str, ...]) -> set[str]:
    """What the manifest calls a MIDI program in a track of these instruments; several where it could be either."""
    return {
        patch.instrument
        for name, patch in PATCHES.items()
        if patch.program == program and (name.endswith("kit") or name == "hand percussion") == drums
    } & set(instruments)


def parts_playing(midi: mido.MidiFile, instruments: tuple[str, ...], seconds: float) -> np.ndarray:
    """uint8 `[29, N]`, 12.5 a second: 1 while a note of that instrument is held, and a quarter of a second after."""
    found = np.zeros((len(INSTRUMENTS), int(seconds * SEMITONE_RATE)), np.uint8)
    tempo = next(message.tempo for message in midi.tracks[0] if message.type == "set_tempo")
    for part in midi.tracks[1:]:
        now, labels = 0.0, set[str]()
        since: dict[int, float] = {}
        for message in part:
            now += mido.tick2second(message.time, midi.ticks_per_beat, tempo)
            if message.type == "program_change":
                labels = labels_of(message.program, message.channel == _DRUM_CHANNEL, instruments)
            elif message.type == "note_on" and message.velocity:
                since.setdefault(message.note, now)
            elif message.type in ("note_on", "note_off") and message.note in since:
                first, last = since.pop(message.note), now + _RINGS_SECONDS
                span = slice(int(first * SEMITONE_RATE), int(np.ceil(last * SEMITONE_RATE)))
                for label in labels:
                    found[INSTRUMENTS.index(label), span] = 1
    return found


def midi_path(root: Path, track: Track) -> Path:
    """Where the MIDI of a track of the starter catalogue lies."""
    _, *rest = Path(track.path).parts
    return (root / "midi" / Path(*rest)).with_suffix(".mid")


def main(
    manifest: Annotated[Path, typer.Option(help="of a starter catalogue; the MIDI lies beside it")],
    output: Annotated[Path, typer.Option("-o", "--output", help="a .safetensors file")],
) -> None:
    """Read every track's MIDI and write who plays when; name the instruments that never do."""
    from safetensors.numpy import save_file

    parts: dict[str, np.ndarray] = {}
    silent: Counter[str] = Counter()
    for track in progress(read_manifest(manifest), "reading MIDI"):
        path = midi_path(manifest.parent, track)
        if not path.is_file():
            raise AudiogenError(f"{path}: there is no such file; make it with recipes/starter_catalogue/make.py")
        parts[track.sha256] = parts_playing(mido.MidiFile(path), track.instruments, track.seconds)
        heard = parts[track.sha256].any(1)
        silent.update(name for name in track.instruments if not heard[INSTRUMENTS.index(name)])
    with atomic_path(output) as temporary:
        save_file(parts, temporary)
    told = ", ".join(f"{name} in {count}" for name, count in silent.items())
    print(f"{output}: {len(parts)} tracks; listed but never played: {told or 'none'}")


if __name__ == "__main__":
    typer.run(main)
