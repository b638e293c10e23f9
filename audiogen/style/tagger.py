"""What a recording is: style, moods, instruments, tempo, key, metre and energy over time, each with a confidence; and a
vector for how it sounds. `recipes/train_tagger.py` makes the weights that come with audiogen.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from audiogen.files import atomic_path
from audiogen.interfaces import INSTRUMENTS, MOODS, STYLES, AudiogenError, Key, Waveform
from audiogen.style.hearing import LEAST_SECONDS, SEMITONE_RATE, Heard, decibels, hear, hear_file, hear_parts

if TYPE_CHECKING:
    from audiogen.style.ears import Ears

SHIPPED = Path(__file__).parent / "tagger.safetensors"
WINDOW_FRAMES = 128  # 10.24 s
LIKELY = 0.5
"""from this chance on a mood or an instrument counts as heard"""
CALIBRATED = ("style", "key", "tempo", "metre")
_KIND = "tagger 1"
_AT_ONCE = 16  # windows
_TEMPO_TOLERANCE_CLASSES = 1


@dataclass(frozen=True)
class Tags:
    """What was heard in a recording, as chances. Names in the order of `STYLES`, `MOODS`, `INSTRUMENTS`."""

    seconds: float
    style: np.ndarray
    """`[10]`, adding up to 1"""
    moods: np.ndarray
    """`[16]`, each by itself"""
    instruments: np.ndarray
    """`[29]`, each by itself: the chance that it plays somewhere"""
    key: np.ndarray
    """`[24]`, adding up to 1: C major … B major, C minor … B minor"""
    tempo: np.ndarray
    """`[58]`, adding up to 1: the classes of `tempos_bpm`"""
    metre: np.ndarray
    """`[2]`, adding up to 1: three and four beats a bar"""
    energy: np.ndarray
    """`[N, 2]`: seconds, and 0…1"""
    embeddings: np.ndarray
    """`[W, 128]` float32: how each window of up to 10.24 s sounds"""
    tempos_bpm: np.ndarray
    """`[58]`, falling"""

    @property
    def embedding(self) -> np.ndarray:
        """The mean of the windows' vectors, `[128]`."""
        return self.embeddings.mean(0)

    @property
    def styles(self) -> dict[str, float]:
        """How likely each style is, the likeliest first."""
        return {STYLES[index]: float(self.style[index]) for index in np.argsort(-self.style, kind="stable")}

    @property
    def style_name(self) -> str:
        return STYLES[int(self.style.argmax())]

    @property
    def key_name(self) -> Key:
        mode, tonic = divmod(int(self.key.argmax()), 12)
        return Key(tonic, "minor" if mode else "major")

    @property
    def tempo_bpm(self) -> float:
        """The likeliest class, moved towards its likelier neighbour: the top of a parabola through their logarithms."""
        best = int(self.tempo.argmax())
        at = np.clip(best, 1, len(self.tempo) - 2)
        below, top, above = np.log(self.tempo[at - 1 : at + 2] + 1e-9)
        bend = below - 2 * top + above
        moved = at + float(np.clip(0.5 * (below - above) / bend, -0.5, 0.5)) if bend < 0 and at == best else best
        return float(np.exp(np.interp(moved, np.arange(len(self.tempo)), np.log(self.tempos_bpm))))

    @property
    def tempo_sure(self) -> float:
        """Chance of the likeliest tempo, 3 % more or less."""
        best = int(self.tempo.argmax())
        reach = _TEMPO_TOLERANCE_CLASSES
        return float(self.tempo[max(0, best - reach) : best + reach + 1].sum())

    @property
    def beats_per_bar(self) -> int:
        return 3 + int(self.metre.argmax())

    def likely(self, what: str) -> dict[str, float]:
        """`"moods"` or `"instruments"` that are likely, the likeliest first."""
        names, chances = {"moods": (MOODS, self.moods), "instruments": (INSTRUMENTS, self.instruments)}[what]
        order = np.argsort(-chances, kind="stable")
        return {names[index]: float(chances[index]) for index in order if chances[index] >= LIKELY}

    def to_json(self) -> dict[str, Any]:
        """Everything but the vectors, ready for JSON; chances rounded to four digits."""

        def told(names: tuple[str, ...], chances: np.ndarray) -> dict[str, float]:
            return {names[index]: round(float(chances[index]), 4) for index in np.argsort(-chances, kind="stable")}

        return {
            "seconds": round(self.seconds, 2),
            "style": told(STYLES, self.style),
            "moods": told(MOODS, self.moods),
            "instruments": told(INSTRUMENTS, self.instruments),
            "tempo_bpm": {"heard": round(self.tempo_bpm, 2), "sure": round(self.tempo_sure, 4)},
            "key": {"heard": str(self.key_name), "sure": round(float(self.key.max()), 4)},
            "beats_per_bar": {"heard": self.beats_per_bar, "sure": round(float(self.metre.max()), 4)},
            "energy": [[round(float(at), 2), round(float(value), 3)] for at, value in self.energy],
        }


class Tagger:
    """Stateless and shared: a network and how far to trust it."""

    def __init__(self, ears: Ears, temperatures: dict[str, float]) -> None:
        """`temperatures` divide the logits of style, key, tempo and metre, so that chances are right as often as they
        say (Guo et al. 2017)."""
        self.ears = ears.eval().requires_grad_(False)
        self.temperatures = {name: float(temperatures.get(name, 1.0)) for name in CALIBRATED}

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with the weights."""
        from audiogen.storage import fingerprint

        return fingerprint(self.ears.state_dict().items())

    @classmethod
    def load(cls, path: str | Path = SHIPPED) -> Tagger:
        """Read a tagger, by default the one that comes with audiogen. Raises AudiogenError for a file that is missing,
        damaged or foreign."""
        from safetensors import SafetensorError, safe_open

        from audiogen.storage import fill_module
        from audiogen.style.ears import Ears, EarsConfig

        try:
            with safe_open(path, framework="pt") as file:
                told = file.metadata() or {}
                if told.get("kind") != _KIND:
                    raise AudiogenError(f"{path}: not a {_KIND}, as its metadata would say")
                config = EarsConfig.build(json.loads(told["config"]), str(path))
                temperatures = {str(name): float(value) for name, value in json.loads(told["temperatures"]).items()}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
        except (OSError, SafetensorError, KeyError, ValueError, AttributeError) as error:
            raise AudiogenError(
                f"{path}: the weights of the tagger are missing or damaged ({error}); install audiogen again, or make "
                "them with recipes/train_tagger.py"
            ) from None
        ears = Ears(config)
        tensors = {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
        fill_module(ears, tensors, path)
        return cls(ears, temperatures)

    def save(self, path: str | Path) -> None:
        """Write the tagger as safetensors in half precision, whole or not at all."""
        from safetensors.torch import save

        tensors = {
            name: value.half().contiguous() if value.is_floating_point() else value
            for name, value in self.ears.state_dict().items()
        }
        told = {
            "kind": _KIND,
            "config": self.ears.config.model_dump_json(),
            "temperatures": json.dumps(self.temperatures),
        }
        with atomic_path(path) as temporary:
            temporary.write_bytes(save(tensors, told))

    def file(self, path: str | Path, progress: Callable[[float, float], None] | None = None) -> Tags:
        """Tag a recording of any length. Raises AudiogenError naming a file that is no audio, silent, or under 3 s."""
        return self.tag(hear_file(path, progress))

    def waveform(self, waveform: Waveform, source: str = "the recording") -> Tags:
        """Tag audio at hand; `source` names it in errors."""

        def part(start: float, seconds: float) -> Waveform:
            rate = waveform.sample_rate
            return Waveform(waveform.samples[:, round(start * rate) : round((start + seconds) * rate)], rate)

        return self.tag(hear_parts(part, waveform.seconds, source))

    def excerpt(self, waveform: Waveform) -> Tags:
        """Tag a clip of up to minutes, whatever it holds, silence too; less than 3 s is heard again and again.

        Raises AudiogenError for audio without samples.
        """
        if not waveform.samples.shape[1]:
            raise AudiogenError("to tell anything takes some audio, got none")
        times = math.ceil(LEAST_SECONDS / waveform.seconds)
        return self.tag(hear(Waveform(waveform.samples.repeat(1, times), waveform.sample_rate)))

    def tag(self, heard: Heard, loudest_db: float | None = None) -> Tags:
        """Tag what was heard. `loudest_db`: what levels are told against, if not the loudest of `heard` itself."""
        import torch

        from audiogen.style.ears import STEP_FRAMES, instruments_present, tempo_classes

        starts, frames = windows(heard.frames)
        level = heard.loudest_db() if loudest_db is None else loudest_db
        parts = []
        with torch.inference_mode():
            for first in range(0, len(starts), _AT_ONCE):
                cuts = [heard.cut(start, frames) for start in starts[first : first + _AT_ONCE]]
                mel, semitones = (
                    torch.from_numpy(np.stack([decibels(getattr(cut, name)) for cut in cuts]) - np.float32(level))
                    for name in ("mel", "semitones")
                )
                parts.append(self.ears(mel, semitones))

            def whole(name: str) -> Any:
                return torch.cat([getattr(part, name) for part in parts])

            tempo = self._chances(whole("tempo"), "tempo")
            metre = whole("metre").float() @ torch.from_numpy(tempo)  # of each tempo; weighted by the tempo's chance
            present = instruments_present(*(whole(name).flatten(0, 1)[None] for name in ("instruments", "attention")))
            times = (
                np.asarray(starts)[:, None] + (np.arange(frames // STEP_FRAMES) + 0.5) * STEP_FRAMES
            ) / SEMITONE_RATE
            energy = np.stack([times.ravel(), whole("energy").float().sigmoid().numpy().ravel()], 1)
            return Tags(
                heard.seconds,
                self._chances(whole("style"), "style"),
                whole("moods").float().mean(0).sigmoid().numpy(),
                present[0].numpy(),
                self._chances(whole("key"), "key"),
                tempo,
                self._chances(metre, "metre"),
                energy[np.argsort(energy[:, 0], kind="stable")],
                whole("steps").float().mean(1).numpy(),
                tempo_classes().numpy(),
            )

    def _chances(self, logits: Any, name: str) -> np.ndarray:
        """Windows `[B, N]` → their geometric mean, `[N]`."""
        found: np.ndarray = (logits.float().log_softmax(1).mean(0) / self.temperatures[name]).softmax(0).numpy()
        return found


def windows(frames: int) -> tuple[list[int], int]:
    """Where windows begin that cover `frames`, evenly, and how long they are: 10.24 s, or less in short recordings."""
    from audiogen.style.ears import STEP_FRAMES

    length = min(WINDOW_FRAMES, frames // STEP_FRAMES * STEP_FRAMES)
    if length < STEP_FRAMES:
        raise AudiogenError(f"{frames / SEMITONE_RATE:.2f} s were heard; give at least {LEAST_SECONDS:g} s")
    count = -(-(frames - frames % STEP_FRAMES) // length)
    return [round(start) for start in np.linspace(0, frames - length, count)], length


@cache
def shipped_tagger() -> Tagger:
    """The tagger that comes with audiogen, read once."""
    return Tagger.load()
