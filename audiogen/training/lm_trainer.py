"""The language model as a training task: prepared codes, captions and score lanes in, cross-entropy out."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from audiogen.audio.features import figure
from audiogen.audio.io import write
from audiogen.codec.spectral import SpectralCodec
from audiogen.config import Config
from audiogen.data.excerpts import IGNORED, Excerpts, Source
from audiogen.data.manifest import Split, Track
from audiogen.evaluation.likelihood import divergence
from audiogen.generation.models import model_folder
from audiogen.interfaces import Attributes, AudiogenError, Condition, Prompt, Waveform
from audiogen.lm.engine import EagerEngine
from audiogen.lm.model import MusicLM, MusicLMConfig
from audiogen.lm.sampling import Sampling
from audiogen.lm.score import GROUPS, lanes
from audiogen.lm.stream import CodeStream
from audiogen.lm.transformer import Transformer
from audiogen.training.task import TrainerConfig

_VALIDATED_AT_ONCE = 8


class LMTrainingConfig(Config):
    """`recipes/train_lm.toml` in full."""

    may_change: ClassVar[frozenset[str]] = frozenset({"manifest", "codes", "codec", "reference"})
    """they say where the data lie, whose hashes tell whether they are the same, or what a run is compared with"""

    manifest: str = ""
    codes: str = ""
    """folder or URL of prepared codes"""
    sources: tuple[Source, ...] = ()
    """several catalogues mixed, in the place of `manifest` and `codes`"""
    codec: str
    """model folder of the codec that made them"""
    lm: MusicLMConfig = MusicLMConfig()
    trainer: TrainerConfig
    start_from: str | None = None
    """a model folder whose weights begin the training (fine-tuning)"""
    reference: str = ""
    """a model's name or folder; each validation tells how far the model's next codes are from what that one expects"""
    segment_frames: int = Field(default=512, gt=16)
    drop_attribute: float = Field(default=0.2, ge=0, le=1)
    """chance of each thing a prompt says to be left unsaid"""
    drop_lane: float = Field(default=0.1, ge=0, le=1)
    """chance of each lane to be absent"""
    drop_all: float = Field(default=0.1, ge=0, le=1)
    """chance of prompt and score to be absent together, as guidance needs it"""

    def model_post_init(self, context: object, /) -> None:
        if bool(self.sources) == bool(self.manifest) or bool(self.manifest) != bool(self.codes):
            raise ValueError("give a manifest and its codes, or a table [[sources]] for each catalogue")

    @property
    def catalogues(self) -> tuple[Source, ...]:
        """What to learn from."""
        return self.sources or (Source(manifest=self.manifest, codes=self.codes),)


class LMTask:
    """Implements `audiogen.training.task.Task`."""

    heads = ("heads",)

    def __init__(self, config: LMTrainingConfig) -> None:
        self.config = config
        torch.manual_seed(config.trainer.seed)  # the same weights on every process
        if config.start_from:
            self.module = MusicLM.load(config.start_from).requires_grad_(True)
            if self.module.config != config.lm:
                raise AudiogenError(
                    f"{config.start_from}: its sizes differ from the [lm] table of the configuration; "
                    f"take over {self.module.config.model_dump()}"
                )
        else:
            self.module = MusicLM(config.lm)
            self.module.start_from_codebooks(SpectralCodec.load(config.codec).codebooks)
        self._train = self._excerpts("train", config.trainer.seed)
        self._held_out = self._excerpts("validation", 0)
        self._reference = self._read_reference(config.reference) if config.reference else None
        self.samples, self.frames = self._train.size, config.segment_frames
        trunk = self.module.trunk
        self.blocks = tuple(trunk.blocks if isinstance(trunk, Transformer) else trunk.layers)

    def _excerpts(self, split: Split, seed: int) -> Excerpts:
        config, lm = self.config, self.config.lm
        return Excerpts(
            config.catalogues, split, config.codec,
            frames=config.segment_frames, books=lm.num_codebooks, pad=lm.pad, rate=lm.frame_rate, seed=seed,
        )  # fmt: skip

    def _read_reference(self, name: str) -> MusicLM:
        """The model to be compared with. Raises AudiogenError naming what keeps it from reading the same codes."""
        folder = model_folder(name)
        model, codec = MusicLM.load(folder / "lm"), SpectralCodec.load(folder / "codec")
        compared = {"codec": (codec.fingerprint, self._train.fingerprint["codec"])} | {
            size: (getattr(model.config, size), getattr(self.config.lm, size))
            for size in ("num_codebooks", "codebook_size", "frame_rate")
        }
        for what, (theirs, ours) in compared.items():
            if theirs != ours:
                raise AudiogenError(
                    f"reference = {name!r}: its {what} is {theirs}, that of this training {ours}; give a model of the "
                    "same codec and number of codebooks, or none"
                )
        return model

    def fingerprint(self) -> dict[str, str]:
        return self._train.fingerprint

    def names(self, positions: range) -> list[str]:
        return [self._train.name(position) for position in positions]

    def weight(self, batch: dict[str, Any]) -> float:
        return float((batch["targets"] != IGNORED).sum())

    def batch(self, positions: range) -> dict[str, Any]:
        """→ inputs and targets `[B, K, T]`, lanes `[B, T, N]`, prompts; with what is dropped already dropped."""
        config, seed = self.config, self.config.trainer.seed
        items = [self._train[position] for position in positions]
        prompts: list[Prompt | None] = []
        lanes_seen = []
        for position, (_, _, track_lanes, track) in zip(positions, items, strict=True):
            random = np.random.default_rng([seed, 7, position])
            prompts.append(_drop(_prompt(track, random), config.drop_attribute, random))
            kept = track_lanes.copy()
            for group in GROUPS.values():
                if random.random() < config.drop_lane:
                    kept[:, group] = 0
            chance = random.random()
            if chance < config.drop_all:
                prompts[-1] = None
                kept[:] = 0
            elif chance < 1.5 * config.drop_all:
                prompts[-1] = None
            lanes_seen.append(kept)
        return {**_stack(items), "lanes": torch.from_numpy(np.stack(lanes_seen)), "prompts": prompts}

    def loss(self, module: nn.Module, batch: Any, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy in nats, the mean over all targets: a batch's, whatever the parts in which it comes."""
        lm: Any = module
        sums, counts = self._cross_entropy(lm, batch)
        each = sums.detach() / counts.clamp_min(1)
        told = {f"codebook_{index + 1}": value for index, value in enumerate(each)}
        unsaid = sum(weight.flatten()[:1].sum() for weight in lm.prefix.parameters())  # a batch may not speak of all
        loss = sums.sum() / counts.sum().clamp_min(1) + 0.0 * unsaid
        return loss, told | {"bits_a_second": each.sum() * self.config.lm.frame_rate / math.log(2)}

    def _cross_entropy(self, lm: MusicLM, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Cross-entropy of each codebook in nats, summed, and the number of its targets, `[K]` both."""
        prefix = lm.prefix.encode(batch["prompts"])
        targets = batch["targets"]
        sums = lm.cross_entropy(batch["inputs"], Condition(prefix, batch["lanes"]), targets, IGNORED)
        return sums, (targets != IGNORED).sum((0, 2))

    def _divergence(self, lm: MusicLM, reference: MusicLM, batch: dict[str, Any]) -> Tensor:
        """Kullback-Leibler divergence of `lm` from `reference` in nats, a codebook, `[K]`, summed over targets."""
        targets = batch["targets"].transpose(1, 2).flatten(0, 1)
        logs, other = (_logits(each, batch).flatten(0, 1).float().log_softmax(-1) for each in (lm, reference))
        return divergence(logs, other, targets) * (targets != IGNORED).sum(0)

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Cross-entropy on held-out excerpts, with everything said and with nothing; divergence from the reference."""
        lm: Any = module
        device = lm.heads.weight.device
        reference = self._reference and self._reference.to(device)
        count = min(32, self._held_out.size)
        told, untold, apart = [], [], []
        for first in range(0, count, _VALIDATED_AT_ONCE):
            positions = range(first, min(first + _VALIDATED_AT_ONCE, count))
            items = [self._held_out[position] for position in positions]
            batch: dict[str, Any] = {key: value.to(device) for key, value in _stack(items).items()}
            batch["lanes"] = torch.from_numpy(np.stack([item[2] for item in items])).to(device)
            batch["prompts"] = [_prompt(item[3], np.random.default_rng(first)) for item in items]
            with torch.autocast(device.type, torch.bfloat16, enabled=self.config.trainer.mixed_precision == "bf16"):
                told.append(torch.stack(self._cross_entropy(lm, batch)))
                if reference is not None:
                    apart.append(self._divergence(lm, reference, batch))
                batch |= {"lanes": torch.zeros_like(batch["lanes"]), "prompts": [None] * len(items)}
                untold.append(torch.stack(self._cross_entropy(lm, batch)))
        (each, counts), (bare, _) = torch.stack(told).sum(0), torch.stack(untold).sum(0)
        means, bits = each / counts.clamp_min(1), self.config.lm.frame_rate / math.log(2)
        found = {
            "loss": float(each.sum() / counts.sum()),
            **{f"codebook_{index + 1}": float(value) for index, value in enumerate(means)},
            "bits_a_second": float(means.sum()) * bits,
            "loss_untold": float(bare.sum() / counts.sum()),
        }
        if reference is not None:
            reference.to("cpu")  # the memory is training's
            found["kl_bits_a_second"] = float((torch.stack(apart).sum(0) / counts.clamp_min(1)).sum()) * bits
        return found

    def write_samples(self, module: nn.Module, folder: Path) -> None:
        """Eight seconds for the prompt and score of two held-out tracks, each with its picture; played on the CPU."""
        plain: Any = copy.deepcopy(module).to("cpu")
        codec = SpectralCodec.load(self.config.codec)
        folder.mkdir(parents=True, exist_ok=True)
        rate = self.config.lm.frame_rate
        for index, track in enumerate(self._held_out.tracks[:2]):
            prompt = _prompt(track, np.random.default_rng(index))
            prefix = plain.prefix.encode([prompt, None])
            score = track.score()

            def source(first: int, frames: int, score: Any = score) -> np.ndarray:
                return lanes(score, first, frames, rate)

            codes = CodeStream(EagerEngine(plain), prefix, source, Sampling(), seed=index).advance(int(8 * rate))
            waveform = Waveform(codec.decode(codes)[0], codec.sample_rate)
            write(folder / f"{index}.wav", waveform)
            figure(waveform, folder / f"{index}.png", f"{prompt.text} ({track.tempo_bpm:g} bpm, {track.key})")


def _logits(lm: MusicLM, batch: dict[str, Any]) -> Tensor:
    """`[B, T, K, V]`, as it lies in memory."""
    prefix = lm.prefix.encode(batch["prompts"])
    return lm(batch["inputs"], Condition(prefix, batch["lanes"])).transpose(1, 2)


def _stack(items: list[Any]) -> dict[str, Tensor]:
    return {
        "inputs": torch.from_numpy(np.stack([item[0] for item in items])),
        "targets": torch.from_numpy(np.stack([item[1] for item in items])),
    }


def _prompt(track: Track, random: np.random.Generator) -> Prompt:
    captions = track.captions or (" ".join(track.tags) or (track.style or ""),)
    return Prompt(captions[int(random.integers(len(captions)))], track.attributes())


def _drop(prompt: Prompt, chance: float, random: np.random.Generator) -> Prompt:
    """Leave things unsaid, each by itself; of moods and instruments a random part stays."""
    told = prompt.attributes
    names = ("style", "moods", "instruments", "tempo_bpm", "key", "beats_per_bar", "energy")
    blank = Attributes()
    dropped: dict[str, Any] = {name: getattr(blank, name) for name in names if random.random() < chance}
    for name in ("moods", "instruments"):
        if name not in dropped:
            share = 1.0 if random.random() < 0.5 else random.random()
            dropped[name] = tuple(value for value in getattr(told, name) if random.random() < share)
    text = "" if random.random() < chance else prompt.text
    return Prompt(text, replace(told, **dropped))
