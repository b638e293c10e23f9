"""Read this first: the values that cross between parts, the protocols, the vocabulary.

Shapes are written `[B, C, S]` (batch, channels, samples), `[B, K, T]` (batch, codebooks, frames). Names of units end
names: `_seconds`, `_frames`, `_samples`, `_hz`, `_db`, `_lufs`, `_bpm`. Nothing here is specific to one model, and
nothing here imports another part of audiogen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import torch

# --- vocabulary -----------------------------------------------------------------------------------------------------

STYLES: tuple[str, ...] = (
    "ambient", "cinematic", "classical piano", "drum and bass", "folk", "house", "jazz", "lo-fi", "rock", "techno",
)  # fmt: skip
MOODS: tuple[str, ...] = (
    "aggressive", "bright", "calm", "dark", "dreamy", "energetic", "epic", "happy", "hopeful", "melancholic",
    "mysterious", "playful", "romantic", "sad", "tense", "warm",
)  # fmt: skip
INSTRUMENTS: tuple[str, ...] = (
    "acoustic guitar", "bass", "bells", "brass", "cello", "choir", "clarinet", "distorted guitar", "double bass",
    "drum machine", "drums", "electric guitar", "electric piano", "flute", "french horn", "harp", "organ", "pad",
    "percussion", "piano", "pluck", "saxophone", "strings", "synth bass", "synth lead", "timpani", "trumpet",
    "vibraphone", "violin",
)  # fmt: skip
SECTIONS: tuple[str, ...] = ("intro", "verse", "chorus", "bridge", "build", "break", "solo", "outro")
PITCH_CLASSES: tuple[str, ...] = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
Mode = Literal["major", "minor"]

CHORD_QUALITIES: dict[str, tuple[int, ...]] = {  # Harte et al. 2005 shorthand → intervals above the root
    "maj": (0, 4, 7), "min": (0, 3, 7), "dim": (0, 3, 6), "aug": (0, 4, 8), "5": (0, 7), "sus2": (0, 2, 7),
    "sus4": (0, 5, 7), "7": (0, 4, 7, 10), "maj7": (0, 4, 7, 11), "min7": (0, 3, 7, 10), "hdim7": (0, 3, 6, 10),
    "dim7": (0, 3, 6, 9), "maj6": (0, 4, 7, 9), "min6": (0, 3, 7, 9), "9": (0, 2, 4, 7, 10),
    "maj9": (0, 2, 4, 7, 11), "min9": (0, 2, 3, 7, 10),
}  # fmt: skip

_LETTERS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


def pitch_class(name: str) -> int:
    """`"F#"`, `"Gb"`, `"b♭"` → 0…11 (C = 0). Raises ValueError for anything else."""
    match = re.fullmatch(r"([A-Ga-g])([#♯b♭]?)", name.strip())
    if match is None:
        raise ValueError(f"{name!r} is no note name: expected a letter A-G with an optional # or b, such as F# or Bb")
    shift = {"": 0, "#": 1, "♯": 1, "b": -1, "♭": -1}[match[2]]
    return (_LETTERS[match[1].upper()] + shift) % 12


@dataclass(frozen=True)
class Key:
    """Tonic as a pitch class 0…11 and a mode."""

    tonic: int
    mode: Mode

    def __str__(self) -> str:
        return f"{PITCH_CLASSES[self.tonic]} {self.mode}"

    @classmethod
    def parse(cls, text: str) -> Key:
        """`"D minor"`, `"F# major"`, `"Am"`, `"Eb"` → Key. Raises ValueError with what is allowed."""
        match = re.fullmatch(r"\s*([A-Ga-g][#♯b♭]?)\s*-?\s*(major|minor|maj|min|m|M)?\s*", text)
        if match is None:
            raise ValueError(f"{text!r} is no key: expected a note and a mode, such as 'D minor', 'F# major' or 'Am'")
        mode: Mode = "minor" if match[2] in ("minor", "min", "m") else "major"
        return cls(pitch_class(match[1]), mode)


@dataclass(frozen=True)
class Chord:
    """A chord from `start_seconds` until the next one. `root` None means no chord is sounding."""

    start_seconds: float
    root: int | None
    quality: str = "maj"

    @property
    def symbol(self) -> str:
        """Harte et al. 2005 syntax: `D:min7`, `N` for none."""
        return "N" if self.root is None else f"{PITCH_CLASSES[self.root]}:{self.quality}"

    @property
    def pitch_classes(self) -> tuple[int, ...]:
        if self.root is None:
            return ()
        return tuple((self.root + interval) % 12 for interval in CHORD_QUALITIES[self.quality])

    @classmethod
    def parse(cls, start_seconds: float, symbol: str) -> Chord:
        """Inverse of `symbol`. Raises ValueError for an unknown root or quality."""
        if symbol == "N":
            return cls(start_seconds, None)
        root, _, quality = symbol.partition(":")
        if quality not in CHORD_QUALITIES:
            raise ValueError(f"{symbol!r} is no chord: quality must be one of {', '.join(CHORD_QUALITIES)}")
        return cls(start_seconds, pitch_class(root), quality)


# --- values ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Waveform:
    """Audio that knows its rate. `samples` is float32 `[C, S]`, full scale ±1."""

    samples: torch.Tensor
    sample_rate: int

    def __post_init__(self) -> None:
        if self.samples.ndim != 2:
            raise ValueError(f"a Waveform is [channels, samples], got the shape {tuple(self.samples.shape)}")

    @property
    def channels(self) -> int:
        return int(self.samples.shape[0])

    @property
    def seconds(self) -> float:
        return self.samples.shape[1] / self.sample_rate


@dataclass(frozen=True)
class Attributes:
    """What a prompt says that can be measured. None or empty: not said."""

    style: str | None = None
    moods: tuple[str, ...] = ()
    instruments: tuple[str, ...] = ()
    tempo_bpm: float | None = None
    key: Key | None = None
    beats_per_bar: int | None = None
    seconds: float | None = None
    energy: float | None = None


@dataclass(frozen=True)
class Prompt:
    """The user's words and what was understood of them."""

    text: str
    attributes: Attributes = field(default_factory=Attributes)


def _no_times() -> np.ndarray:
    import numpy

    return numpy.zeros(0)


@dataclass(frozen=True)
class Score:
    """What happens when, in seconds: made by the planner, or read from a track's labels.

    `beats_seconds` `[N]` ascending, `downbeats_seconds` `[M]` ascending; `chords` and `sections` hold from their start
    until the next; `energy` is piecewise linear through (seconds, 0…1); `parts` says which instruments play from then
    until the next. Empty means: unknown, that lane is absent.
    """

    seconds: float
    beats_seconds: np.ndarray = field(default_factory=_no_times)
    downbeats_seconds: np.ndarray = field(default_factory=_no_times)
    chords: tuple[Chord, ...] = ()
    sections: tuple[tuple[float, str], ...] = ()
    energy: tuple[tuple[float, float], ...] = ()
    parts: tuple[tuple[float, tuple[str, ...]], ...] = ()


@dataclass(frozen=True)
class Condition:
    """What the language model is told, batch first: the prefix and the score lanes of the frames at hand.

    `prefix` `[B, L, D]`, always L tokens (what was not said has a learned token of its own); `lanes` `[B, T, N]`.
    """

    prefix: torch.Tensor
    lanes: torch.Tensor


# --- protocols ------------------------------------------------------------------------------------------------------


@runtime_checkable
class StreamingDecoder(Protocol):
    """State of one decode stream, owned by the caller. Offline decoding is the concatenation of its outputs."""

    @property
    def latency_frames(self) -> int: ...
    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """int64 `[B, K, t]` → `[B, C, s]`; s may be 0 while the look-ahead fills."""
        ...

    def flush(self) -> torch.Tensor:
        """The rest, `[B, C, s]`; the sum of all s is frames × hop_length."""
        ...


@runtime_checkable
class StreamingEncoder(Protocol):
    """State of one encode stream, owned by the caller."""

    def encode(self, samples: torch.Tensor) -> torch.Tensor:
        """`[B, C, s]`, any s → int64 `[B, K, t]`; t may be 0."""
        ...

    def flush(self) -> torch.Tensor:
        """The rest `[B, K, t]`: the last frame, padded with silence, and what look-ahead held back."""
        ...


@runtime_checkable
class Codec(Protocol):
    """Audio ⇄ codes. Stateless and shared; streams are objects of their own."""

    sample_rate: int
    channels: int
    hop_length: int
    num_codebooks: int
    codebook_size: int

    def encode(self, samples: torch.Tensor) -> torch.Tensor:
        """`[B, C, S]` → int64 `[B, K, ceil(S / hop_length)]`."""
        ...

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """int64 `[B, k, T]`, 1 ≤ k ≤ K → `[B, C, T · hop_length]`."""
        ...

    def streaming_encoder(self, batch_size: int = 1) -> StreamingEncoder: ...
    def streaming_decoder(self, batch_size: int = 1) -> StreamingDecoder: ...


@runtime_checkable
class LanguageModel(Protocol):
    """Logits over delayed codes. `step` repeated equals `forward`.

    Position t reads the delayed codes of t - 1 and the lanes of t, and predicts the delayed codes of t.
    """

    def forward(self, codes: torch.Tensor, condition: Condition) -> torch.Tensor:
        """Delayed codes `[B, K, T]`, each position holding what came before it, condition → logits `[B, K, T, V]`."""
        ...

    def init_state(self, prefix: torch.Tensor) -> Any:
        """Prefix `[B, L, D]` → the state before the first position."""
        ...

    def step(self, codes: torch.Tensor, lanes: torch.Tensor, state: Any) -> torch.Tensor:
        """Codes `[B, K, 1]`, lanes `[B, 1, N]`, state → logits `[B, K, 1, V]`; the state advances by one."""
        ...


@runtime_checkable
class StyleEncoder(Protocol):
    """Prompts → prefix."""

    def encode(self, prompts: Sequence[Prompt | None]) -> torch.Tensor:
        """→ prefix `[B, L, D]`; None stands for no prompt, as guidance needs it."""
        ...


class Sink(Protocol):
    """Where audio goes, chunk by chunk."""

    def write(self, chunk: Waveform) -> None: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class AudiogenError(Exception):
    """Bad input or an impossible request. The message is for the user: what was wrong, the value, the mend."""
