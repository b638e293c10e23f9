"""audiogen: music from a style prompt, streamed. The names below are the public surface; they load when first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audiogen.audio.sinks import RawSink, WavSink
    from audiogen.generation.generator import Generator
    from audiogen.generation.session import Session
    from audiogen.interfaces import Attributes, AudiogenError, Chord, Key, Prompt, Score, Waveform

__version__ = "0.7.0"

__all__ = [
    "Attributes",
    "AudiogenError",
    "Chord",
    "Generator",
    "Key",
    "Prompt",
    "RawSink",
    "Score",
    "Session",
    "WavSink",
    "Waveform",
    "__version__",
]

_HOMES = {
    "Generator": "audiogen.generation.generator",
    "RawSink": "audiogen.audio.sinks",
    "Session": "audiogen.generation.session",
    "WavSink": "audiogen.audio.sinks",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'audiogen' has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "audiogen.interfaces")), name)


def __dir__() -> list[str]:
    return __all__
