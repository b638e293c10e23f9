"""The codec as a training task: excerpts of audio in, spectral losses and the bottleneck's cost out."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from audiogen.audio.features import chroma, correlation, figure, semitone_bands
from audiogen.audio.io import write
from audiogen.codec.encodec import EncodecCodec, EncodecConfig
from audiogen.codec.gaussian import GaussianBottleneck
from audiogen.codec.latents import decode_latents, encode_latents
from audiogen.codec.quantizer import Reconstruction, ResidualVectorQuantizer, perplexity
from audiogen.codec.spectral import SpectralCodec, SpectralCodecConfig
from audiogen.config import Config
from audiogen.data.augment import LONGER, Augmentation, augmented
from audiogen.data.dataset import AudioSegments
from audiogen.data.manifest import read_manifest
from audiogen.interfaces import AudiogenError, Waveform
from audiogen.training.discriminators import AdversarialConfig, Contest, codec_of
from audiogen.training.losses import SpectralLoss, tone_distances
from audiogen.training.task import TrainerConfig


class CodecTrainingConfig(Config):
    """`recipes/train_codec.toml` in full."""

    manifest: str
    root: str
    codec: SpectralCodecConfig = SpectralCodecConfig()
    encodec: EncodecConfig | None = None
    """train an EncodecCodec instead; of a chunked one `segment_frames` is a chunk"""
    trainer: TrainerConfig
    start_from: str = ""
    """folder of a codec whose weights to begin with, where name and shape are the same; its codebooks too"""
    train_only: Literal["all", "decoder"] = "all"
    """"decoder": encoder and codebooks stay as `start_from` has them, so that its codes stay what they mean"""
    adversarial: AdversarialConfig | None = None
    """train against discriminators too"""
    augmentation: Augmentation = Augmentation()
    as_it_is: float = Field(default=0.1, ge=0, le=1)
    """share of the training, at its end, in which music is heard as it is: so most of the codebooks is its own"""
    segment_frames: int = Field(default=50, gt=16)
    start_codebooks_at: int = 300
    """updates without quantising, before the codebooks start from data"""
    commitment: float = 0.25
    tuning: float = 3.0
    """weight of the distance, in semitones, between the oscillators and the tones heard"""
    weighing: float = 0.15
    """the same for their amplitudes, in nepers"""
    mud: float = 0.1
    """weight of what else is played beside a tone, in nepers above a tenth of it"""
    kl: float = 0.002
    """weight of the divergence from a standard normal, in nats a dimension, of a Gaussian bottleneck"""
    fewest_codebooks: int = 2
    full_share: float = 0.6
    """share of excerpts that use every codebook; the others use a random number of them"""

    def model_post_init(self, context: Any, /) -> None:
        if self.train_only == "decoder" and not self.start_from:
            raise ValueError('train_only = "decoder" needs start_from: the codec whose encoder and codebooks to keep')
        if self.adversarial:
            heard_from = self.adversarial.starts_at + self.adversarial.head_start
            if heard_from >= self.trainer.max_steps:
                raise ValueError(
                    f"adversarial.starts_at and head_start, together {heard_from}, must lie below trainer.max_steps "
                    f"{self.trainer.max_steps}"
                )


class CodecTask:
    """Implements `audiogen.training.task.Task`."""

    blocks = ()

    def __init__(self, config: CodecTrainingConfig) -> None:
        self.config = config
        torch.manual_seed(config.trainer.seed)  # the same weights on every process
        codec = EncodecCodec(config.encodec) if config.encodec else SpectralCodec(config.codec)
        self._rate, self._channels = codec.sample_rate, codec.channels
        self._samples = config.segment_frames * codec.hop_length
        self.spectral = SpectralLoss(self._rate)
        late = 0 if isinstance(codec, EncodecCodec) else config.codec.late_samples
        windows = config.adversarial.windows if config.adversarial else ()
        least = math.ceil((max(self.spectral.least_samples, *windows, 0) + late) / codec.hop_length)
        if config.segment_frames < least:
            raise AudiogenError(
                f"segment_frames {config.segment_frames}: the losses' windows need excerpts of at least {least} frames"
            )
        tracks = read_manifest(config.manifest)
        self._digest = hashlib.sha256("".join(track.sha256 for track in tracks).encode()).hexdigest()
        split = {name: [t for t in tracks if t.split == name] for name in ("train", "validation")}
        longer = math.ceil(self._samples * LONGER)
        self._train = AudioSegments(split["train"], config.root, longer, self._rate, config.trainer.seed)
        self._tracks, self.samples, self.frames = split["train"], self._train.order.epoch_size, config.segment_frames
        held_out = AudioSegments(split["validation"], config.root, 4 * self._samples, self._rate, 0)
        count = min(10, held_out.order.epoch_size)
        heard = torch.from_numpy(np.stack([held_out[position] for position in range(count)]))
        self._held_out = _sides(heard, self._channels)
        if config.start_from:
            _begin(codec, Path(config.start_from), config.train_only)
        self.module: nn.Module = codec
        self.heads: tuple[str, ...] = ("dec_out",)
        if config.adversarial:
            self.module, self.heads = Contest(codec, codec.channels, config.adversarial), ("codec.dec_out",)

    def fingerprint(self) -> dict[str, str]:
        return {"manifest": self._digest}

    def names(self, positions: range) -> list[str]:
        found = [self._train.order[position] for position in positions]
        return [f"{self._tracks[item].path} from {start / self._rate:.1f} s" for item, start in found]

    def weight(self, batch: Tensor) -> float:
        return float(len(batch))

    def batch(self, positions: range) -> Tensor:
        """→ what is heard and what shall be played, `[B, 2, C, S]` float32."""
        pairs = torch.from_numpy(np.stack([self._pair(position) for position in positions]))
        return _sides(pairs, self._channels)

    def _pair(self, position: int) -> np.ndarray:
        config = self.config
        random = np.random.default_rng([config.trainer.seed, position])
        last = position >= (1 - config.as_it_is) * config.trainer.max_steps * config.trainer.batch_size
        settings = config.augmentation.model_copy(update={"changed": 0, "cut": 0}) if last else config.augmentation
        return augmented(self._train[position], self._samples, self._rate, random, settings)

    def loss(self, module: nn.Module, batch: Tensor, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        codec: Any = codec_of(module)
        config = self.config
        if step >= config.start_codebooks_at and not bool(codec.quantizer.started):
            with torch.random.fork_rng():  # the same on every process
                torch.manual_seed(config.trainer.seed)
                self._start_codebooks(codec)
        heard, wanted = batch.unbind(1)
        books, size = codec.num_codebooks, len(batch)
        drawn = torch.randint(config.fewest_codebooks, books + 1, (size,), device=batch.device)
        full = torch.rand(size, device=batch.device) < config.full_share
        told = {} if config.encodec else {"restore": (heard != wanted).flatten(1).any(1).to(heard.dtype)}
        if config.train_only == "decoder":
            codec.quantizer.eval()  # its codebooks follow nothing
        made: Reconstruction = codec(heard, torch.where(full, books, drawn), **told)
        wanted = wanted[:, :, : made.samples.shape[2]]
        if not isinstance(module, Contest):
            loss, parts = self._spectral(made.samples, wanted)
        elif config.adversarial and step >= config.adversarial.starts_at:
            loss, parts = module.loss(made.samples, wanted, self._spectral, step)
        else:
            loss, parts = self._spectral(made.samples, wanted)
            loss = loss + module.resting()
        cost = parts["bottleneck"] = made.bottled.cost
        if config.codec.bottleneck == "gaussian":
            loss = loss + config.kl * cost
        else:
            loss = loss + (config.commitment if bool(codec.quantizer.started) else 0.02) * cost
        if made.played:
            mistuned, misweighed, muddied = tone_distances(codec, made.played, made.heard)
            loss = loss + config.tuning * mistuned + config.weighing * misweighed + config.mud * muddied
            parts |= {"mistuned": mistuned, "misweighed": misweighed, "muddied": muddied}
        return loss, {name: torch.as_tensor(value).detach() for name, value in parts.items()}

    def _spectral(self, output: Tensor, wanted: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        self.spectral.to(output.device)
        with torch.autocast(output.device.type, enabled=False):
            return self.spectral(_sides(output, 2), _sides(wanted, 2))

    @torch.no_grad()
    def _start_codebooks(self, codec: SpectralCodec | EncodecCodec) -> None:
        """K-means over latents of fresh excerpts, the same on every process."""
        need = max(8 * codec.codebook_size, 4096)
        latents: list[Tensor] = []
        position = 10_000_000
        device = next(codec.parameters()).device
        while sum(map(len, latents)) < need:
            audio = self.batch(range(position, position + 8))[:, 0].to(device)
            position += 8
            latents.append(codec.latents_of(audio).float().flatten(0, 1))
        assert isinstance(codec.quantizer, ResidualVectorQuantizer)
        codec.quantizer.start_from(torch.cat(latents))

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Spectral loss, pitch scores and the bottleneck's figures on held-out excerpts, all codebooks."""
        codec: Any = codec_of(module)
        if not bool(codec.quantizer.started):
            return {}
        held_out = self._held_out.to(next(codec.parameters()).device)
        output = torch.cat([_reconstructed(codec, item[None]) for item in held_out])
        loss, parts = self._spectral(output, held_out)
        pairs = [
            (Waveform(a, codec.sample_rate), Waveform(b, codec.sample_rate))
            for a, b in zip(held_out.cpu(), output.cpu(), strict=True)
        ]
        return {
            "loss": float(loss),
            **{name: float(value) for name, value in parts.items()},
            "chroma": float(np.mean([correlation(chroma(a), chroma(b)) for a, b in pairs])),
            "semitones": float(np.mean([correlation(semitone_bands(a), semitone_bands(b)) for a, b in pairs])),
            **_told_of_bottleneck(codec, held_out),
        }

    def write_samples(self, module: nn.Module, folder: Path) -> None:
        """Three held-out excerpts, original and decoded, each with its picture."""
        codec: Any = codec_of(module)
        if not bool(codec.quantizer.started):
            return
        folder.mkdir(parents=True, exist_ok=True)
        sounds: dict[str, Tensor] = {}
        for index, item in enumerate(self._held_out[:3]):
            sounds[f"{index}_original"] = item
            sounds[f"{index}_decoded"] = _reconstructed(codec, item[None].to(next(codec.parameters()).device))[0].cpu()
        if isinstance(codec.quantizer, GaussianBottleneck):
            sounds["drawn"] = _drawn(codec, self._held_out.shape[2] // codec.hop_length)
        for name, samples in sounds.items():
            waveform = Waveform(samples, codec.sample_rate)
            write(folder / f"{name}.wav", waveform)
            figure(waveform, folder / f"{name}.png", name.replace("_", ", "))


def _begin(codec: SpectralCodec | EncodecCodec, folder: Path, train_only: str) -> None:
    """Fill `codec` with the weights in `folder` whose name and shape are its own; keep what shall not be trained."""
    own, other = codec.state_dict(), type(codec).load(folder)
    if train_only == "decoder":
        theirs, mine = other.config.model_dump(), codec.config.model_dump()
        apart = [f"{name} = {value!r}" for name, value in theirs.items() if mine[name] != value]
        if apart:
            raise AudiogenError(
                f'start_from {folder}: train_only = "decoder" keeps its codes, so the codec must be the same one: set '
                f"{', '.join(apart)}"
            )
    there = other.state_dict()
    same = {name: value for name, value in there.items() if name in own and own[name].shape == value.shape}
    if not same:
        raise AudiogenError(f"start_from {folder}: none of its weights has the name and shape of one here")
    if "quantizer.codebooks" in same:  # the averages that they follow go on from where they are
        same["quantizer.sums"] = same["quantizer.codebooks"] * same["quantizer.counts"][..., None]
    codec.load_state_dict(own | same)
    for name, weight in codec.named_parameters():
        weight.requires_grad_(train_only == "all" or name.startswith(("dec_", "decoder.")))


def _sides(audio: Tensor, channels: int) -> Tensor:
    """`[..., C, S]` → `[..., channels, S]`: one channel is the mean, two are both or the same twice."""
    if audio.shape[-2] == channels:
        return audio
    return audio.mean(-2, keepdim=True).expand(*audio.shape[:-2], channels, audio.shape[-1])


def _reconstructed(codec: SpectralCodec | EncodecCodec, samples: Tensor) -> Tensor:
    if isinstance(codec, SpectralCodec) and isinstance(codec.quantizer, GaussianBottleneck):
        return torch.cat(list(decode_latents(codec, encode_latents(codec, samples))), 2)
    return codec.decode(codec.encode(samples))


def _told_of_bottleneck(codec: SpectralCodec | EncodecCodec, held_out: Tensor) -> dict[str, float]:
    """Perplexity of the first and the last codebook, or the divergence in nats a frame."""
    if isinstance(codec, SpectralCodec) and isinstance(codec.quantizer, GaussianBottleneck):
        made = codec(held_out, torch.zeros(len(held_out), dtype=torch.long))
        return {"kl_nats_a_frame": float(made.bottled.cost) * codec.config.latent_dim}
    codes = torch.cat([codec.encode(item[None]) for item in held_out])
    use = perplexity(codes, codec.codebook_size)
    return {"perplexity_first": float(use[0]), "perplexity_last": float(use[-1])}


def _drawn(codec: SpectralCodec, frames: int) -> Tensor:
    """Audio of latents drawn from the standard normal, each dimension a wave that turns over in about a second."""
    random = torch.Generator().manual_seed(0)
    knots = torch.randn(1, codec.config.latent_dim, frames // 25 + 2, generator=random)
    latents = torch.nn.functional.interpolate(knots, size=frames, mode="linear").transpose(1, 2)
    latents = latents / latents.std((1, 2), keepdim=True)
    return torch.cat(list(decode_latents(codec, [latents.to(next(codec.parameters()).device)])), 2)[0].cpu()
