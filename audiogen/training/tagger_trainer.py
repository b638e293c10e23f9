"""The tagger as a training task: windows of what was heard, made other in ways whose answer is known."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from audiogen.config import Config
from audiogen.data.heard import excerpt_start, load_heard, load_parts
from audiogen.data.manifest import Track, read_manifest
from audiogen.evaluation.tagging import score_tags
from audiogen.interfaces import INSTRUMENTS, MOODS, STYLES, AudiogenError, Key
from audiogen.style.ears import METRES, STEP_FRAMES, Ears, EarsConfig, instruments_present, tempo_classes
from audiogen.style.hearing import SEMITONE_RATE, Heard
from audiogen.style.tagger import CALIBRATED, Tagger, Tags, windows
from audiogen.training.hearing_changes import UNCHANGED, Change, changed, draw_change
from audiogen.training.task import TrainerConfig

SHOWN = ("style", "instruments_map", "tempo_octave", "key", "metre", "moods_map", "energy_correlation")
_TEMPO_SPREAD = 0.7  # classes
_SMOOTHING = 0.05
_PLAYS = 1 / 6  # of a step
_TEMPERATURES = np.geomspace(0.5, 4.0, 37)


class TaggerTrainingConfig(Config):
    """`recipes/train_tagger.toml` in full."""

    manifest: str
    root: str
    """folder of the audio"""
    codes: str
    """folder of prepared codes"""
    codec: str
    """model folder of the codec that made them"""
    codebooks: int = Field(default=8, gt=0)
    """as many as the language model writes"""
    excerpt_seconds: float = Field(default=30.0, gt=3)
    """of each track that are heard through the codec"""
    heard: str
    """folder for what is heard, computed once"""
    ears: EarsConfig = EarsConfig()
    trainer: TrainerConfig
    parts: str | None = None
    """which instruments play when, by track: a .safetensors of recipes/starter_catalogue/parts.py. Without it an
    instrument of a track must be heard in one of its windows"""
    windows: int = Field(default=2, gt=0)
    """from each track"""
    window_frames: int = Field(default=128, ge=STEP_FRAMES, multiple_of=STEP_FRAMES)
    through_codec: float = Field(default=0.35, ge=0, le=1)
    """share of the tracks"""


@dataclass(frozen=True)
class Recording:
    """A track as one of its versions is heard. `loudest_db` is that of the whole track as recorded; `parts` uint8
    `[29, T]` says who plays in each frame of the whole track."""

    track: Track
    heard: Heard
    start_seconds: float
    loudest_db: float
    parts: np.ndarray | None = None


class TaggerTask:
    """Implements `audiogen.training.task.Task`."""

    heads = ("style", "moods", "instruments", "attention", "energy")
    blocks: tuple[nn.Module, ...] = ()

    def __init__(self, config: TaggerTrainingConfig) -> None:
        self.config = config
        torch.manual_seed(config.trainer.seed)
        self.module = Ears(config.ears)
        tracks = read_manifest(config.manifest)
        self._digest = hashlib.sha256("".join(track.sha256 for track in tracks).encode()).hexdigest()
        self._recorded = recordings(config, [track for track in tracks if track.split == "train"])
        self._held_out = recordings(config, [track for track in tracks if track.split == "validation"])
        if not self._recorded or not self._held_out:
            raise AudiogenError(f"{config.manifest}: no tracks to train on, or none to validate with")

        self.samples, self.frames = len(self._recorded), config.windows * config.window_frames

    def fingerprint(self) -> dict[str, str]:
        return {"manifest": self._digest}

    def weight(self, batch: dict[str, Any]) -> float:
        return float(len(batch["style"]))

    def names(self, positions: range) -> list[str]:
        return [self._track(position)[0].track.path for position in positions]

    def _track(self, position: int) -> tuple[Recording, Recording]:
        """As recorded, and through the codec."""
        epoch, index = divmod(position, len(self._recorded))
        order = np.random.default_rng([self.config.trainer.seed, 1, epoch]).permutation(len(self._recorded))
        return self._recorded[order[index]]

    def batch(self, positions: range) -> dict[str, Any]:
        """→ mel `[B · W, 64, 4 T]`, semitones `[B · W, 84, T]`, in dB, and the answers."""
        items = [self._item(position) for position in positions]
        return {name: torch.from_numpy(np.stack([item[name] for item in items])) for name in items[0]}

    def _item(self, position: int) -> dict[str, np.ndarray]:
        """W windows of one track, all changed alike, and its answers."""
        random = np.random.default_rng([self.config.trainer.seed, 2, position])
        own, coded = self._track(position)
        recording = coded if random.random() < self.config.through_codec else own
        change = draw_change(random)
        long = int(np.ceil(self.config.window_frames * change.tempo_ratio))
        room = max(0, recording.heard.frames - long)
        starts = (random.random(self.config.windows) * (room + 1)).astype(int)
        parts = [self._window(recording, int(start), change, random) for start in starts]
        return {name: np.stack([part[name] for part in parts]) for name in parts[0]} | answers(recording.track, change)

    def _window(
        self, recording: Recording, start: int, change: Change, random: np.random.Generator
    ) -> dict[str, np.ndarray]:
        frames, ratio = self.config.window_frames, change.tempo_ratio
        mel, semitones = changed(recording.heard, start, frames, recording.loudest_db, change, random)
        steps = (np.arange(frames // STEP_FRAMES) + 0.5) * STEP_FRAMES * ratio
        seconds = recording.start_seconds + (start + steps) / SEMITONE_RATE
        curve = np.array(recording.track.energy or [(0.0, 0.0)], np.float64).T
        return {
            "mel": mel,
            "semitones": semitones,
            "energy": np.interp(seconds, *curve).astype(np.float32),
            "playing": playing(recording, start, frames, ratio),
        }

    def loss(self, module: nn.Module, batch: Any, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        opinions = module(batch["mel"].flatten(0, 1), batch["semitones"].flatten(0, 1))
        count = self.config.windows

        def each(name: str) -> Tensor:
            """The answers of a track, once for each of its windows."""
            repeated: Tensor = batch[name].repeat_interleave(count, 0)
            return repeated

        logits, attention = (getattr(opinions, name).unflatten(0, (-1, count)).flatten(1, 2)
                             for name in ("instruments", "attention"))  # fmt: skip
        present = instruments_present(logits, attention).clamp(1e-4, 1 - 1e-4)
        steps = batch["playing"].flatten(1, 2)
        known = steps[:, 0, 0] >= 0
        wanted = torch.where(known[:, None], steps.amax(1), batch["instruments"])
        tempo = each("tempo")
        metre = (opinions.metre.float() * tempo[:, None]).sum(2)
        parts = {
            "style": F.cross_entropy(
                opinions.style.float(), each("style"), ignore_index=-1, label_smoothing=_SMOOTHING
            ),
            "key": F.cross_entropy(opinions.key.float(), each("key"), ignore_index=-1, label_smoothing=_SMOOTHING),
            "tempo": -(tempo * opinions.tempo.float().log_softmax(1)).sum() / tempo.sum().clamp_min(1),
            "metre": F.cross_entropy(metre, each("metre"), ignore_index=-1),
            "instruments": 4 * F.binary_cross_entropy(present, wanted),
            "steps": 4 * F.binary_cross_entropy_with_logits(logits.float()[known], steps[known]),
            "moods": F.binary_cross_entropy_with_logits(opinions.moods.float(), each("moods")),
            "energy": F.binary_cross_entropy_with_logits(opinions.energy.float(), batch["energy"].flatten(0, 1)),
        }
        parts = {name: value for name, value in parts.items() if bool(value.isfinite())}  # none of a batch has a label
        return sum(parts.values()), {f"loss_{name}": value.detach() for name, value in parts.items()}  # type: ignore[return-value]

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Figures of held-out tracks, whole as recorded, and of their excerpts through the codec."""
        tagger = Tagger(module, {})  # type: ignore[arg-type]
        found: dict[str, float] = {}
        for name, version in (("", 0), ("codec_", 1)):
            tags = tagged(tagger, [pair[version] for pair in self._held_out])
            scores = score_tags(tags, [pair[version].track for pair in self._held_out])
            found |= {f"{name}{key}": scores[key] for key in SHOWN}
        module.requires_grad_(True)
        return found

    def write_samples(self, module: nn.Module, folder: Path) -> None:
        """Nothing to listen to."""


def recordings(config: TaggerTrainingConfig, tracks: list[Track]) -> list[tuple[Recording, Recording]]:
    """Each track as recorded and through the codec."""
    parts = load_parts(config.parts) if config.parts else {}
    pairs = []
    for track in tracks:
        own, coded = load_heard(config.heard, track)
        told = (own.loudest_db(), parts.get(track.sha256))
        start = excerpt_start(track, config.excerpt_seconds)
        pairs.append((Recording(track, own, 0.0, *told), Recording(track, coded, start, *told)))
    return pairs


def playing(recording: Recording, start: int, frames: int, ratio: float) -> np.ndarray:
    """Which instruments play in each step of a window of `frames`, made of `ratio` times as many from `start` on:
    float32 `[N, 29]`; 1 if for a sixth of it or more, -1 where it is not known."""
    count = frames // STEP_FRAMES
    if recording.parts is None:
        return np.full((count, len(INSTRUMENTS)), -1, np.float32)
    first = round(recording.start_seconds * SEMITONE_RATE) + start
    edges = first + np.round(np.arange(count + 1) * STEP_FRAMES * ratio).astype(int)
    sums = np.concatenate([np.zeros((len(INSTRUMENTS), 1), int), recording.parts.cumsum(1, dtype=int)], 1)
    reached = sums[:, np.minimum(edges, sums.shape[1] - 1)]
    frames_played = np.diff(reached).T
    return (frames_played >= _PLAYS * STEP_FRAMES * ratio).astype(np.float32)


def tagged(tagger: Tagger, some: list[Recording]) -> list[Tags]:
    """What the tagger says of each; energy is timed from the beginning of the track."""
    found = []
    for recording in some:
        tags = tagger.tag(recording.heard)
        found.append(replace(tags, energy=tags.energy + np.array([recording.start_seconds, 0.0])))
    return found


def windowed(some: Iterable[Recording]) -> list[Recording]:
    """Every window of 10.24 s of each, as a recording of its own."""
    cut = []
    for recording in some:
        starts, frames = windows(recording.heard.frames)
        for start in starts:
            seconds = recording.start_seconds + start / SEMITONE_RATE
            cut.append(replace(recording, heard=recording.heard.cut(start, frames), start_seconds=seconds))
    return cut


def answers(track: Track, change: Change) -> dict[str, np.ndarray]:
    """What is right for a track so changed; -1, or zeros, where the track does not tell."""
    key = -1
    if track.key:
        told = Key.parse(track.key)
        key = (told.tonic + change.semitones) % 12 + (12 if told.mode == "minor" else 0)
    tempo = np.zeros(len(tempo_classes()), np.float32)
    if track.tempo_bpm:
        classes = tempo_classes().numpy()
        distance = np.log(classes / (track.tempo_bpm * change.tempo_ratio))
        step = np.log(classes[0] / classes[1])
        tempo = np.exp(-0.5 * (distance / step / _TEMPO_SPREAD) ** 2).astype(np.float32)
        tempo /= max(float(tempo.sum()), 1.0)
    return {
        "style": np.array(STYLES.index(track.style) if track.style in STYLES else -1),
        "moods": np.array([name in track.moods for name in MOODS], np.float32),
        "instruments": np.array([name in track.instruments for name in INSTRUMENTS], np.float32),
        "key": np.array(key),
        "tempo": tempo,
        "metre": np.array(METRES.index(track.beats_per_bar) if track.beats_per_bar in METRES else -1),
    }


def calibrated(config: TaggerTrainingConfig, ears: Ears) -> Tagger:
    """The tagger of these weights, its temperatures those that make the answers for single windows of the validation
    split likeliest (Guo et al. 2017), as recorded and through the codec."""
    tracks = [track for track in read_manifest(config.manifest) if track.split == "validation"]
    plain, found = Tagger(ears, {}), []
    for pair in recordings(config, tracks):
        right = answers(pair[0].track, UNCHANGED)
        found += [(plain.tag(one.heard, one.loudest_db), right) for one in windowed(pair)]
    return Tagger(ears, {name: _temperature(name, found) for name in CALIBRATED})


def _temperature(name: str, found: list[tuple[Tags, dict[str, np.ndarray]]]) -> float:
    logits = np.log(np.stack([getattr(tags, name) for tags, _ in found]).astype(np.float64) + 1e-12)
    classes = logits.shape[1]
    right = np.stack([answer[name] if name == "tempo" else np.arange(classes) == answer[name] for _, answer in found])
    divided = logits[None] / _TEMPERATURES[:, None, None]
    logs = divided - np.log(np.exp(divided).sum(2, keepdims=True))
    return float(_TEMPERATURES[(logs * right).sum((1, 2)).argmax()])
