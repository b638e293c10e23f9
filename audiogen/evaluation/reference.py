"""What the same measures say of real music: held-out pieces of the starter catalogue, and those through the codec.

Made by `recipes/evaluation_reference.py`; it is the ceiling beside every figure, and the cloud of vectors that
distances are taken to.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from audiogen.files import atomic_path, write_json
from audiogen.interfaces import AudiogenError, Chord, Score
from audiogen.storage import read_json
from audiogen.style.tagger import shipped_tagger

SHIPPED = Path(__file__).parent / "reference"


@dataclass(frozen=True)
class Reference:
    """`told`: columns by name, `real` and `codec`, as `audiogen.evaluation.summary.summarise` makes them; `vectors`
    `[N, 128]` of the held-out pieces."""

    told: dict[str, Any]
    vectors: np.ndarray

    @classmethod
    def load(cls, folder: str | Path = SHIPPED) -> Reference:
        """Read a reference. Raises AudiogenError when it is missing, damaged, or was made with another tagger."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        folder = Path(folder)
        try:
            told = read_json(folder / "reference.json")
            vectors = load_file(folder / "vectors.safetensors")["vectors"]
        except (AudiogenError, OSError, SafetensorError, KeyError) as error:
            raise AudiogenError(
                f"{folder}: the reference of real music is missing or damaged ({error}); install audiogen again, or "
                "make it with recipes/evaluation_reference.py"
            ) from None
        if told.get("tagger") != shipped_tagger().fingerprint:
            raise AudiogenError(
                f"{folder}: was made with another tagger; make it anew with recipes/evaluation_reference.py"
            )
        return cls(told, vectors)

    def save(self, folder: str | Path) -> None:
        """Write `reference.json` and `vectors.safetensors`."""
        from safetensors.numpy import save

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / "vectors.safetensors") as temporary:
            temporary.write_bytes(save({"vectors": np.ascontiguousarray(self.vectors, np.float16)}))
        write_json(folder / "reference.json", self.told)


def excerpt(score: Score, start: float, seconds: float) -> Score:
    """The part of a score from `start` on: what holds at its start begins at 0."""
    stop = start + seconds

    def times(values: np.ndarray) -> np.ndarray:
        inside: np.ndarray = values[(values >= start) & (values < stop)] - start
        return inside

    def held(starts: list[float]) -> list[int]:
        return [i for i, at in enumerate(starts) if at < stop and (i + 1 == len(starts) or starts[i + 1] > start)]

    chords = [score.chords[i] for i in held([chord.start_seconds for chord in score.chords])]
    sections = [score.sections[i] for i in held([at for at, _ in score.sections])]
    parts = [score.parts[i] for i in held([at for at, _ in score.parts])]
    energy: tuple[tuple[float, float], ...] = ()
    if score.energy:
        at, values = np.array(score.energy).T
        inside = [time for time in at if start < time < stop]
        energy = tuple((float(time - start), float(np.interp(time, at, values))) for time in (start, *inside, stop))
    return Score(
        seconds,
        times(score.beats_seconds),
        times(score.downbeats_seconds),
        tuple(Chord(max(0.0, chord.start_seconds - start), chord.root, chord.quality) for chord in chords),
        tuple((max(0.0, at - start), label) for at, label in sections),
        energy,
        tuple((max(0.0, at - start), names) for at, names in parts),
    )
