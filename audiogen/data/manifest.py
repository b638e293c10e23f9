"""Manifests: JSON Lines, packed where named `.gz`, one recording (`Track`) a line, its audio under a root folder given
apart.

A `Track` that exists is well formed: names, times, chords and sections are checked when it is built. What needs the
other tracks or the audio itself is checked by `validate`.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, Field, FiniteFloat, field_validator, model_validator

from audiogen.config import Config
from audiogen.files import sha256_file, write_text
from audiogen.interfaces import SECTIONS, Attributes, AudiogenError, Chord, Key, Score

Split = Literal["train", "validation", "test"]
Seconds = Annotated[FiniteFloat, Field(ge=0), AfterValidator(lambda value: round(value, 4))]
Text = Annotated[str, Field(min_length=1)]

_END_TOLERANCE_SECONDS = 0.01


def _relative(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or "\\" in path or "\0" in path or path.startswith("/") or ".." in parts or parts[0].endswith(":"):
        raise ValueError(f"{path!r} must be a relative path inside the root, with forward slashes and no '..'")
    return path


def _key(name: str) -> str:
    return str(Key.parse(name))


class Track(Config):
    """One recording and its labels. Times are seconds from its start, rounded to 1e-4; empty or None: not known."""

    path: Annotated[str, AfterValidator(_relative)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    sample_rate: Annotated[int, Field(gt=0)]
    channels: Annotated[int, Field(gt=0)]
    samples: Annotated[int, Field(gt=0)]
    split: Split
    licence: Text
    rights_holder: Text
    composition: Text
    captions: tuple[Text, ...] = ()
    style: Text | None = None
    moods: tuple[Text, ...] = ()
    instruments: tuple[Text, ...] = ()
    tags: tuple[Text, ...] = ()
    tempo_bpm: Annotated[FiniteFloat, Field(gt=0)] | None = None
    key: Annotated[str, AfterValidator(_key)] | None = None
    beats_per_bar: Annotated[int, Field(gt=0)] | None = None
    beats_seconds: tuple[Seconds, ...] = ()
    downbeats_seconds: tuple[Seconds, ...] = ()
    chords: tuple[tuple[Seconds, str], ...] = ()
    sections: tuple[tuple[Seconds, str], ...] = ()
    energy: tuple[tuple[Seconds, Annotated[FiniteFloat, Field(ge=0, le=1)]], ...] = ()
    parts: tuple[tuple[Seconds, tuple[Text, ...]], ...] = ()
    """which of `instruments` play from then until the next"""

    @field_validator("chords")
    @classmethod
    def _known_chords(cls, chords: tuple[tuple[float, str], ...]) -> tuple[tuple[float, str], ...]:
        for start_seconds, symbol in chords:
            Chord.parse(start_seconds, symbol)
        return chords

    @field_validator("sections")
    @classmethod
    def _known_sections(cls, sections: tuple[tuple[float, str], ...]) -> tuple[tuple[float, str], ...]:
        for _, label in sections:
            if label not in SECTIONS:
                raise ValueError(f"{label!r} is no section: must be one of {', '.join(SECTIONS)}")
        return sections

    @model_validator(mode="after")
    def _only_its_instruments(self) -> Track:
        for start_seconds, names in self.parts:
            for name in names:
                if name not in self.instruments:
                    raise ValueError(f"parts: {name!r} at {start_seconds} s is not among the track's instruments")
        return self

    @model_validator(mode="after")
    def _times_in_order(self) -> Track:
        for name in ("beats_seconds", "downbeats_seconds", "chords", "sections", "energy", "parts"):
            times = [item[0] if isinstance(item, tuple) else item for item in getattr(self, name)]
            for earlier, later in pairwise(times):
                if later <= earlier:
                    raise ValueError(f"{name}: times must ascend, but {later} follows {earlier}")
            if times and times[-1] > self.seconds + _END_TOLERANCE_SECONDS:
                raise ValueError(f"{name}: {times[-1]} s lies past the end of the track at {self.seconds:.4f} s")
        return self

    @property
    def seconds(self) -> float:
        return self.samples / self.sample_rate

    def score(self) -> Score:
        """What happens when, as the language model is told it."""
        return Score(
            seconds=self.seconds,
            beats_seconds=np.asarray(self.beats_seconds, dtype=np.float64),
            downbeats_seconds=np.asarray(self.downbeats_seconds, dtype=np.float64),
            chords=tuple(Chord.parse(start_seconds, symbol) for start_seconds, symbol in self.chords),
            sections=self.sections,
            energy=self.energy,
            parts=self.parts,
        )

    def attributes(self) -> Attributes:
        """What a prompt could say of this track. `energy` is the mean of the curve over the whole track."""
        energy = None
        if self.energy:
            times, values = zip(*self.energy, strict=True)
            grid = np.linspace(0, self.seconds, 1024)
            energy = float(np.interp(grid, times, values).mean())
        return Attributes(
            style=self.style,
            moods=self.moods,
            instruments=self.instruments,
            tempo_bpm=self.tempo_bpm,
            key=Key.parse(self.key) if self.key else None,
            beats_per_bar=self.beats_per_bar,
            seconds=self.seconds,
            energy=energy,
        )


def read_manifest(path: str | Path) -> list[Track]:
    """Read every track. Raises AudiogenError for a missing, damaged or empty file and names the first broken line by
    number."""
    tracks = []
    for _, result in _lines(path):
        if isinstance(result, AudiogenError):
            raise result
        tracks.append(result)
    if not tracks:
        raise AudiogenError(f"{path}: the manifest holds no tracks")
    return tracks


def write_manifest(path: str | Path, tracks: Iterable[Track]) -> None:
    """Write one JSON object a line, whole or not at all; fields at their defaults are left out."""
    write_text(path, "".join(track.model_dump_json(exclude_defaults=True) + "\n" for track in tracks))


def resolve(root: str | Path, track: Track) -> Path:
    """Where the audio of `track` lies under `root`.

    Raises AudiogenError for a path that is absolute, climbs out of the root, or passes a link to outside of it.
    """
    base = Path(root).resolve()
    if (base / track.path).resolve().is_relative_to(base):
        return base / track.path
    raise AudiogenError(f"{track.path}: leads out of the root {root}; only files inside the root are read")


def validate(manifest_path: str | Path, root: str | Path, check_audio: bool = True) -> list[str]:
    """Every problem of a manifest, one line of text each; an empty list when it is sound.

    `check_audio` also reads each file: its hash, and its header against the manifest. Raises AudiogenError only when
    the manifest itself cannot be read.
    """
    problems: list[str] = []
    lines_of: dict[str, list[int]] = defaultdict(list)
    splits_of: dict[tuple[str, str], set[str]] = defaultdict(set)
    for number, result in _lines(manifest_path):
        if isinstance(result, AudiogenError):
            problems.append(str(result))
            continue
        lines_of[result.path].append(number)
        splits_of["composition", result.composition].add(result.split)
        splits_of["audio with sha256", result.sha256].add(result.split)
        problems += [f"{manifest_path}:{number}: {text}" for text in _file_problems(root, result, check_audio)]
    for path, numbers in lines_of.items():
        if len(numbers) > 1:
            problems.append(f"{manifest_path}: {path!r} is listed on the lines {', '.join(map(str, numbers))}")
    for (kind, name), splits in splits_of.items():
        if len(splits) > 1:
            problems.append(f"{manifest_path}: the {kind} {name!r} is in several splits: {', '.join(sorted(splits))}")
    if not lines_of and not problems:
        problems.append(f"{manifest_path}: the manifest holds no tracks")
    return problems


def summarise(tracks: Iterable[Track]) -> dict[str, Any]:
    """Counts and hours, ready for JSON: in all, and by split, style, key, licence, instrument, and tempo range."""
    tracks = list(tracks)
    hours: dict[str, dict[str, float]] = {name: defaultdict(float) for name in ("split", "style", "licence")}
    for track in tracks:
        for name, sums in hours.items():
            sums[getattr(track, name) or "unknown"] += track.seconds / 3600
    tempos = [track.tempo_bpm for track in tracks if track.tempo_bpm]
    return {
        "tracks": len(tracks),
        "compositions": len({track.composition for track in tracks}),
        "hours": round(sum(track.seconds for track in tracks) / 3600, 3),
        **{f"hours_by_{name}": {key: round(value, 3) for key, value in sorted(hours[name].items())} for name in hours},
        "tracks_by_split": dict(sorted(Counter(track.split for track in tracks).items())),
        "tracks_by_key": dict(sorted(Counter(track.key or "unknown" for track in tracks).items())),
        "tracks_by_instrument": dict(sorted(Counter(name for track in tracks for name in track.instruments).items())),
        "tempo_bpm": {"lowest": min(tempos), "highest": max(tempos)} if tempos else None,
    }


def _lines(path: str | Path) -> Iterator[tuple[int, Track | AudiogenError]]:
    packed = Path(path).suffix == ".gz"
    try:
        with gzip.open(path, "rb") if packed else open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, _parse(line, f"{path}:{number}")
    except (OSError, EOFError, zlib.error) as error:
        raise AudiogenError(f"{path}: cannot read the manifest: {getattr(error, 'strerror', None) or error}") from None


def _parse(line: bytes, source: str) -> Track | AudiogenError:
    try:
        values = json.loads(line)
    except ValueError as error:  # bad JSON, bad UTF-8
        return AudiogenError(f"{source}: not valid JSON: {error}")
    try:
        return Track.build(values, source)
    except AudiogenError as error:
        _, *fields = str(error).splitlines()
        return AudiogenError(f"{source}: bad track: " + "; ".join(field.strip() for field in fields))


def _file_problems(root: str | Path, track: Track, check_audio: bool) -> Iterator[str]:
    try:
        path = resolve(root, track)
    except AudiogenError as error:
        yield str(error)
        return
    if not path.is_file():
        yield f"{track.path}: there is no such file under {root}"
    elif check_audio:
        from audiogen.audio.io import read_header

        if sha256_file(path) != track.sha256:
            yield f"{track.path}: the file is not the one described (its sha256 differs)"
        try:
            header = read_header(path)
        except AudiogenError as error:
            yield str(error)
            return
        for name in ("sample_rate", "channels", "samples"):
            if getattr(header, name) != getattr(track, name):
                yield f"{track.path}: {name} is {getattr(header, name)}, the manifest says {getattr(track, name)}"
