"""Which tracks of a catalogue sound like a recording, or fit a prompt: the tagger's word on every track, kept on disk.

The index is one safetensors file beside the manifest; its JSON header names the tagger. Rows are keyed by the SHA-256
that the manifest gives, so tracks may move, and only those that are missing are listened to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from audiogen.data.manifest import Track, resolve
from audiogen.files import atomic_path
from audiogen.interfaces import INSTRUMENTS, MOODS, STYLES, AudiogenError
from audiogen.style.parse import Understanding
from audiogen.style.tagger import Tagger, Tags

_KIND = "similar 1"
_SAVE_EVERY_SECONDS = 30.0
_NAMES = ("embedding", "style", "moods", "instruments", "key", "tempo", "metre", "energy")
_LEAST_CHANCE = 1e-4  # nothing is ruled out for good by one answer
_ENERGY_SPREAD = 0.15
_TEMPO_REACH = 0.03


@dataclass(frozen=True)
class Index:
    """What the tagger says of N tracks: `rows[name]` float16 `[N, …]`; `digests` their SHA-256, hexadecimal."""

    tagger: str
    digests: tuple[str, ...]
    rows: dict[str, np.ndarray]

    @cached_property
    def row_of(self) -> dict[str, int]:
        return {digest: row for row, digest in enumerate(self.digests)}

    @cached_property
    def _directions(self) -> np.ndarray:
        """Vectors of length 1, float32 `[N, 128]`."""
        vectors = self.rows["embedding"].astype(np.float32)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)

    def cosines(self, vector: np.ndarray) -> np.ndarray:
        """Cosine of the angle between `vector` `[128]` and each track's, `[N]`."""
        found: np.ndarray = self._directions @ (vector / max(float(np.linalg.norm(vector)), 1e-6)).astype(np.float32)
        return found

    def nearest(self, vector: np.ndarray, count: int, skip: Sequence[int] = ()) -> list[tuple[int, float]]:
        """The `count` tracks of the largest cosine but for the rows in `skip`: (row, cosine), the nearest first."""
        cosines = self.cosines(vector)
        cosines[list(skip)] = -np.inf
        return best(cosines, min(count, len(cosines) - len(set(skip))))

    def walk(self, vector: np.ndarray, count: int, skip: Sequence[int] = ()) -> list[tuple[int, float]]:
        """A playlist: from `vector` on always to the nearest track that has not been played, `count` times, without the
        rows in `skip`: (row, cosine to the one before). Ends early when all have been played."""
        played, path = list(skip), []
        for _ in range(min(count, len(self.digests) - len(played))):
            ((row, cosine),) = self.nearest(vector, 1, played)
            path.append((row, cosine))
            played.append(row)
            vector = self._directions[row]
        return path

    def select(self, digests: Iterable[str]) -> Index:
        """Only those of `digests` that are there, in that order, each once."""
        kept = [digest for digest in dict.fromkeys(digests) if digest in self.row_of]
        rows = [self.row_of[digest] for digest in kept]
        return Index(self.tagger, tuple(kept), {name: values[rows] for name, values in self.rows.items()})

    def fit(self, prompt: Understanding) -> np.ndarray:
        """How well each track fits what a prompt says, 0…1, `[N]`: the geometric mean of the chances of its parts.

        Raises AudiogenError for a prompt of which nothing can be heard in a recording.
        """
        from audiogen.style.ears import tempo_classes

        def told(name: str, column: int | np.ndarray) -> np.ndarray:
            return self.rows[name][:, column].astype(np.float32)  # what is not asked for is not read

        asked = prompt.attributes
        parts = [told("style", STYLES.index(asked.style))] if asked.style in STYLES else []
        parts += [told("moods", MOODS.index(name)) for name in asked.moods]
        parts += [told("instruments", INSTRUMENTS.index(name)) for name in asked.instruments]
        parts += [1 - told("instruments", INSTRUMENTS.index(name)) for name in prompt.excluded]
        if asked.tempo_bpm is not None:
            near = np.abs(np.log(tempo_classes().numpy() / asked.tempo_bpm)) <= np.log1p(_TEMPO_REACH)
            parts.append(told("tempo", near).sum(1))
        if asked.key is not None:
            parts.append(told("key", asked.key.tonic + 12 * (asked.key.mode == "minor")))
        if asked.beats_per_bar in (3, 4):
            parts.append(told("metre", asked.beats_per_bar - 3))
        if asked.energy is not None:
            parts.append(np.exp(-0.5 * ((told("energy", 0) - asked.energy) / _ENERGY_SPREAD) ** 2))
        if not parts:
            raise AudiogenError(
                f"{prompt.text!r}: says nothing that can be heard in a track; name a style, a mood, instruments, a "
                "tempo or a key ('audiogen styles' lists them)"
            )
        found: np.ndarray = np.exp(np.mean([np.log(np.clip(part, _LEAST_CHANCE, 1)) for part in parts], axis=0))
        return found

    def save(self, path: str | Path) -> None:
        """Write the index, whole or not at all."""
        from safetensors.numpy import save

        digests = np.frombuffer(bytes.fromhex("".join(self.digests)), np.uint8).reshape(-1, 32)
        told = {"kind": _KIND, "tagger": self.tagger}
        with atomic_path(path) as temporary:
            temporary.write_bytes(save({"sha256": digests, **self.rows}, told))

    @classmethod
    def load(cls, path: str | Path) -> Index:
        """Raises AudiogenError for a file that is damaged or something else."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                told = file.metadata() or {}
                if told.get("kind") != _KIND:
                    raise AudiogenError(
                        f"{path}: is no index of similar tracks; remove it or name another with --index"
                    )
                digests = tuple(row.tobytes().hex() for row in file.get_tensor("sha256"))
                rows = {name: file.get_tensor(name) for name in _NAMES}
        except (OSError, SafetensorError, KeyError) as error:
            raise AudiogenError(f"{path}: the index is damaged ({error}); remove it and it is made anew") from None
        if any(len(values) != len(digests) or not np.isfinite(values).all() for values in rows.values()):
            raise AudiogenError(f"{path}: the index is damaged (its rows do not fit); remove it and it is made anew")
        return cls(told["tagger"], digests, rows)


@dataclass(frozen=True)
class Updated:
    """An index that holds the tracks of a manifest; `problems` says of each that it lacks why."""

    index: Index
    added: int
    other_tagger: bool
    """there was an index of another tagger; it was made anew"""
    problems: tuple[str, ...]


def update_index(
    path: Path, tracks: Sequence[Track], root: str | Path, tagger: Tagger, progress: Callable[[float, float], None]
) -> Updated:
    """The index of `tracks`, kept at `path`: those it lacks are listened to, others that it holds stay in the file.

    Saved every half minute and when interrupted, so that no work is lost. `progress` counts seconds of audio. Raises
    AudiogenError for a damaged index, before work starts, and when not one track can be heard.
    """
    held = Index.load(path) if path.exists() else None
    other = held is not None and held.tagger != tagger.fingerprint
    if other:
        held = None
    known = held.row_of if held is not None else {}
    missing = list({track.sha256: track for track in tracks if track.sha256 not in known}.values())
    fresh: dict[str, dict[str, np.ndarray]] = {}
    problems, done, saved = [], 0.0, time.monotonic()
    total = sum(track.seconds for track in missing)
    try:
        for track in missing:
            try:
                fresh[track.sha256] = _row(tagger.file(resolve(root, track)))
            except AudiogenError as error:
                problems.append(str(error))
            done += track.seconds
            progress(done, total)
            if fresh and time.monotonic() - saved > _SAVE_EVERY_SECONDS:
                _joined(tagger, held, fresh).save(path)
                saved = time.monotonic()
    finally:
        if fresh:
            _joined(tagger, held, fresh).save(path)
    whole = _joined(tagger, held, fresh).select(track.sha256 for track in tracks)
    if not whole.digests:
        raise AudiogenError(f"none of the {len(tracks)} tracks could be heard; the first: {problems[0]}")
    return Updated(whole, len(fresh), other, tuple(problems))


def best(scores: np.ndarray, count: int) -> list[tuple[int, float]]:
    """The `count` highest scores, the highest first, of equals the first: (row, score)."""
    if count < 1:
        return []
    top = np.argpartition(-scores, count - 1)[:count]
    order = sorted(top.tolist(), key=lambda row: (-scores[row], row))
    return [(row, float(scores[row])) for row in order]


def _row(tags: Tags) -> dict[str, np.ndarray]:
    values: dict[str, Any] = {name: getattr(tags, name) for name in _NAMES if name != "energy"}
    values["energy"] = tags.energy[:, 1].mean(keepdims=True)
    return {name: np.asarray(value, np.float16) for name, value in values.items()}


def _joined(tagger: Tagger, held: Index | None, fresh: dict[str, dict[str, np.ndarray]]) -> Index:
    """What is held and what is new; without either, no rows."""
    if not fresh:
        return held or Index(tagger.fingerprint, (), {})
    columns = {name: np.stack([row[name] for row in fresh.values()]) for name in _NAMES}
    if held is not None:
        columns = {name: np.concatenate([held.rows[name], columns[name]]) for name in _NAMES}
    return Index(tagger.fingerprint, (*(held.digests if held else ()), *fresh), columns)
