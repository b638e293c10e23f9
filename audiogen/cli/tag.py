"""`audiogen tag` and `audiogen similar`: what a recording is, and what sounds like it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audiogen.cli.app import app, progress_bar
from audiogen.interfaces import AudiogenError

if TYPE_CHECKING:
    import numpy as np

    from audiogen.data.manifest import Track
    from audiogen.data.similar import Index, Updated
    from audiogen.style.tagger import Tags

_BLOCKS = "▁▂▃▄▅▆▇█"
_COLUMNS = 48
_PROBLEMS_SHOWN = 3
AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".aiff", ".aif", ".m4a", ".aac", ".wma", ".w64", ".au")


@app.command("tag")
def tag_command(
    files: Annotated[list[Path], typer.Argument(help="recordings of 3 s or more")],
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
) -> None:
    """Tell style, moods, instruments, tempo, key, metre and energy of recordings. Example: audiogen tag *.wav --json"""
    from audiogen.style.tagger import shipped_tagger

    tagger, failed = shipped_tagger(), 0
    for path in files:
        try:
            with progress_bar(path.name) as progress:
                tags = tagger.file(path, progress)
        except AudiogenError as error:
            if len(files) == 1:
                raise
            failed += 1
            print(f"error: {error}", file=sys.stderr)
            continue
        if as_json:
            print(json.dumps({"file": str(path), **tags.to_json()}, ensure_ascii=False), flush=True)
        else:
            print(table(path, tags), flush=True)
    if failed:
        raise AudiogenError(f"{failed} of {len(files)} files could not be tagged")


def table(path: Path, tags: Tags) -> str:
    """What was heard, for people; chances in per cent."""
    from audiogen.interfaces import STYLES

    styles = sorted(zip(STYLES, tags.style, strict=True), key=lambda item: -item[1])[:3]
    lines = {
        "style": [f"{name} {share:.0%}" for name, share in styles if share >= 0.05] or [f"{styles[0][0]}"],
        "moods": [f"{name} {share:.0%}" for name, share in tags.likely("moods").items()] or ["none is likely"],
        "instruments": [f"{name} {share:.0%}" for name, share in tags.likely("instruments").items()]
        or ["none is likely"],
        "tempo": [f"{tags.tempo_bpm:.1f} bpm {tags.tempo_sure:.0%}"],
        "key": [f"{tags.key_name} {tags.key.max():.0%}"],
        "metre": [f"{tags.beats_per_bar} beats a bar {tags.metre.max():.0%}"],
        "energy": [curve(tags.energy[:, 1])],
    }
    minutes, seconds = divmod(round(tags.seconds), 60)
    return "\n".join(
        [f"{path}  {minutes}:{seconds:02d}", *(f"  {name:<12} {', '.join(said)}" for name, said in lines.items())]
    )


def curve(values: np.ndarray) -> str:
    """A line of up to 48 blocks, each the mean of its part: `▁` for 0, `█` for 1."""
    import numpy as np

    parts = np.array_split(values, min(_COLUMNS, len(values)))
    return "".join(_BLOCKS[int(np.clip(part.mean() * len(_BLOCKS), 0, len(_BLOCKS) - 1))] for part in parts)


@app.command("similar")
def similar_command(
    query: Annotated[
        str, typer.Argument(metavar="FILE|PROMPT", help='a recording, or words such as "calm folk, harp"')
    ],
    manifest: Annotated[Path, typer.Option("--in", help="the manifest of the catalogue")],
    root: Annotated[Path | None, typer.Option(help="folder of the audio; else the manifest's own")] = None,
    count: Annotated[int, typer.Option(help="how many tracks")] = 10,
    walk: Annotated[int | None, typer.Option(help="a playlist: so many times on to the nearest unplayed track")] = None,
    index_path: Annotated[Path | None, typer.Option("--index", help="where the index is kept; else beside it")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
) -> None:
    """Find the tracks that sound most like a recording, or fit words best.

    Examples:

      audiogen similar song.wav --in data/starter/manifest.jsonl

      audiogen similar "dark techno, 130 bpm" --in data/starter/manifest.jsonl --walk 12
    """
    from audiogen.data.manifest import read_manifest
    from audiogen.data.similar import best, update_index
    from audiogen.files import sha256_file
    from audiogen.style.parse import explain, parse
    from audiogen.style.tagger import shipped_tagger

    for name, value in (("--count", count), ("--walk", walk)):
        if value is not None and value < 1:
            raise AudiogenError(f"{name} {value}: expected 1 or more")
    file = Path(query) if is_file_name(query) else None
    if file is not None and not file.is_file():
        raise AudiogenError(f"{file}: there is no such file")
    prompt = parse(query) if file is None else None
    tagger, tracks = shipped_tagger(), read_manifest(manifest)
    kept = index_path or manifest.with_suffix(".similar.safetensors")
    with progress_bar("listening") as progress:
        updated = update_index(kept, tracks, root or manifest.parent, tagger, progress)
    _tell(updated, kept)
    index, number = updated.index, walk or count
    if prompt is not None:
        print(explain(prompt), file=sys.stderr)
        found = best(index.fit(prompt), min(number, len(index.digests)))
        if walk is not None:
            first = found[0]
            found = [first, *index.walk(index.rows["embedding"][first[0]], number - 1, [first[0]])]
    else:
        assert file is not None
        own = index.row_of.get(sha256_file(file))
        vector = index.rows["embedding"][own] if own is not None else tagger.file(file).embedding
        skip = [] if own is None else [own]
        found = index.walk(vector, number, skip) if walk is not None else index.nearest(vector, number, skip)
    _print(found, index, {track.sha256: track for track in tracks}, as_json)


def is_file_name(query: str) -> bool:
    """Whether words mean a file: there is one of that name, or it ends as audio files do, or leads into a folder."""
    path = Path(query)
    try:
        return path.is_file() or path.suffix.lower() in AUDIO_SUFFIXES or query.startswith(("/", "./", "../", "~"))
    except OSError:  # longer than names may be
        return False


def _tell(updated: Updated, path: Path) -> None:
    """What became of the index, on standard error."""
    if updated.other_tagger:
        print(f"{path}: was made by another tagger; made anew", file=sys.stderr)
    for problem in updated.problems[:_PROBLEMS_SHOWN]:
        print(f"left out: {problem}", file=sys.stderr)
    if len(updated.problems) > _PROBLEMS_SHOWN:
        print(f"left out: {len(updated.problems) - _PROBLEMS_SHOWN} more tracks", file=sys.stderr)
    if updated.added:
        print(f"{path}: {updated.added} tracks added", file=sys.stderr)


def _print(found: list[tuple[int, float]], index: Index, tracks: dict[str, Track], as_json: bool) -> None:
    """A line for each track: how near, where it lies, and what it is as far as it was heard."""
    from audiogen.interfaces import STYLES

    for row, score in found:
        track, style = tracks[index.digests[row]], STYLES[int(index.rows["style"][row].argmax())]
        if as_json:
            told = {"path": track.path, "score": round(score, 4), "style": style, "sha256": track.sha256}
            print(json.dumps(told, ensure_ascii=False))
        else:
            print(f"{score:6.3f}  {track.path}  ({style})")
