"""The codec as a training task: excerpts of audio in, spectral losses and commitment out."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from audiogen.audio.features import chroma, correlation, figure, semitone_bands
from audiogen.audio.io import write
from audiogen.codec.spectral import SpectralCodec, SpectralCodecConfig
from audiogen.config import Config
from audiogen.data.dataset import AudioSegments
from audiogen.data.manifest import read_manifest
from audiogen.interfaces import Waveform
from audiogen.training.losses import SpectralLoss
from audiogen.training.trainer import TrainerConfig


class CodecTrainingConfig(Config):
    """`recipes/train_codec.toml` in full."""

    manifest: str
    root: str
    codec: SpectralCodecConfig = SpectralCodecConfig()
    trainer: TrainerConfig
    segment_frames: int = Field(default=50, gt=16)
    start_codebooks_at: int = 300
    """updates without quantising, before the codebooks start from data"""
    commitment: float = 0.25
    tuning: float = 1.0
    """weight of the distance, in semitones, between the oscillators and the tones heard"""
    weighing: float = 0.5
    """the same for their amplitudes at the beginning; none from half of the training on, since long windows smear"""
    fewest_codebooks: int = 2
    full_share: float = 0.6
    """share of excerpts that use every codebook; the others use a random number of them"""


class CodecTask:
    """Implements `audiogen.training.trainer.Task`."""

    heads = ("dec_out",)

    def __init__(self, config: CodecTrainingConfig) -> None:
        self.config = config
        self.module = SpectralCodec(config.codec)
        self.spectral = SpectralLoss(config.codec.sample_rate)
        tracks = read_manifest(config.manifest)
        self._digest = hashlib.sha256("".join(track.sha256 for track in tracks).encode()).hexdigest()
        samples, rate = config.segment_frames * config.codec.hop_length, config.codec.sample_rate
        split = {name: [t for t in tracks if t.split == name] for name in ("train", "validation")}
        self._train = AudioSegments(split["train"], config.root, samples, rate, config.trainer.seed)
        held_out = AudioSegments(split["validation"], config.root, 4 * samples, rate, 0)
        count = min(10, held_out.order.epoch_size)
        self._held_out = torch.from_numpy(np.stack([held_out[position] for position in range(count)]))
        self._latents: list[Tensor] = []

    def fingerprint(self) -> dict[str, str]:
        return {"manifest": self._digest}

    def batch(self, positions: range) -> Tensor:
        """→ `[B, 2, S]` float32."""
        return torch.from_numpy(np.stack([self._train[position] for position in positions]))

    def loss(self, module: nn.Module, batch: Tensor, step: int) -> tuple[Tensor, dict[str, float | Tensor]]:
        codec: Any = module.module if hasattr(module, "module") else module
        if step >= self.config.start_codebooks_at and not bool(codec.quantizer.started):
            self._start_codebooks(codec, step)
        books, size = self.config.codec.num_codebooks, len(batch)
        drawn = torch.randint(self.config.fewest_codebooks, books + 1, (size,), device=batch.device)
        full = torch.rand(size, device=batch.device) < self.config.full_share
        made = module(batch, torch.where(full, books, drawn))
        self.spectral.to(batch.device)
        with torch.autocast(batch.device.type, enabled=False):
            spectral, parts = self.spectral(made.samples, batch[:, :, : made.samples.shape[2]])
        commitment = made.quantized.commitment
        weight = self.config.commitment if bool(codec.quantizer.started) else 0.02
        weighing = self.config.weighing * max(0.0, 1 - 2 * step / self.config.trainer.max_steps)
        loss = spectral + weight * commitment + self.config.tuning * made.mistuned + weighing * made.misweighed
        told = {"commitment": commitment, "mistuned": made.mistuned, "misweighed": made.misweighed}
        return loss, {**parts, **{name: value.detach() for name, value in told.items()}}

    @torch.no_grad()
    def _start_codebooks(self, codec: SpectralCodec, step: int) -> None:
        """K-means over latents of fresh excerpts, the same on every process."""
        need = max(8 * self.config.codec.codebook_size, 4096)
        latents: list[Tensor] = []
        position = 10_000_000
        device = next(codec.parameters()).device
        while sum(map(len, latents)) < need:
            audio = self.batch(range(position, position + 8)).to(device)
            position += 8
            latents.append(codec.encode_latents(audio, codec.encoder_state(8))[0].float().flatten(0, 1))
        codec.quantizer.start_from(torch.cat(latents))

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Spectral loss, pitch scores and codebook use on held-out excerpts, all codebooks."""
        codec: Any = module
        held_out = self._held_out.to(next(codec.parameters()).device)
        if not bool(codec.quantizer.started):
            return {}
        codes = torch.cat([codec.encode(item[None]) for item in held_out])
        output = torch.cat([codec.decode(item[None]) for item in codes])
        loss, parts = self.spectral(output, held_out)
        pairs = [
            (Waveform(a, codec.sample_rate), Waveform(b, codec.sample_rate))
            for a, b in zip(held_out.cpu(), output.cpu(), strict=True)
        ]
        rows = codes.transpose(0, 1).flatten(1)
        use = torch.stack([torch.bincount(row, minlength=codec.codebook_size) for row in rows])
        share = use / use.sum(1, keepdim=True)
        perplexity = torch.exp(-(share * (share + 1e-12).log()).sum(1))
        return {
            "loss": float(loss),
            **{name: float(value) for name, value in parts.items()},
            "chroma": float(np.mean([correlation(chroma(a), chroma(b)) for a, b in pairs])),
            "semitones": float(np.mean([correlation(semitone_bands(a), semitone_bands(b)) for a, b in pairs])),
            "perplexity_first": float(perplexity[0]),
            "perplexity_last": float(perplexity[-1]),
        }

    def write_samples(self, module: nn.Module, folder: Path) -> None:
        """Three held-out excerpts, original and decoded, each with its picture."""
        codec: Any = module
        if not bool(codec.quantizer.started):
            return
        folder.mkdir(parents=True, exist_ok=True)
        for index, item in enumerate(self._held_out[:3]):
            decoded = codec.decode(codec.encode(item[None].to(next(codec.parameters()).device)))[0].cpu()
            for name, samples in (("original", item), ("decoded", decoded)):
                waveform = Waveform(samples, codec.sample_rate)
                write(folder / f"{index}_{name}.wav", waveform)
                figure(waveform, folder / f"{index}_{name}.png", f"held-out excerpt {index}, {name}")
