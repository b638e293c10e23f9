"""Seeing inside one clip: what the model was told, how sure it was of each code, and where it looked.

The clip's codes are drawn again, as its record says, and read once more with the answer known (teacher forcing), by
the rows that guidance compares: with prompt and score, and without. Both passes go block by block.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

import numpy as np
import torch
from torch import Tensor

from audiogen.files import atomic_path, write_text
from audiogen.generation.generator import Generator, Request
from audiogen.generation.session import Session
from audiogen.interfaces import AudiogenError
from audiogen.lm.attention_maps import AttentionMaps, Seen
from audiogen.lm.delay import apply_delay
from audiogen.lm.model import MusicLM
from audiogen.lm.sampling import guide

Progress = Callable[[float, float], None]
"""(seconds done, seconds in all), called after each block."""

_BLOCK_FRAMES = 128
_MOST_COLUMNS = 2000
_HEARD_SECONDS = 600.0
_NEAR_SECONDS = (1.0, 4.0)


@dataclass(frozen=True)
class Explanation:
    """What was seen of a clip, the mean of every `stride` frames a column; N columns, K codebooks, L prefix tokens.

    A code of frame t and codebook k is drawn at position t + k: the bits stand at the frame they are about, the
    attention at its position. Attention is the mean of layers and heads, of the row with prompt and score.
    """

    request: Request
    frames: int
    frame_rate: float
    stride: int
    codebook_size: int
    entropy_bits: np.ndarray
    """`[K, N]`: of the guided distribution at temperature 1, before top-k"""
    told_bits: np.ndarray
    """`[K, N]`: KL(with prompt and score ‖ without), what being told changed"""
    pushed_bits: np.ndarray
    """`[K, N]`: KL(guided ‖ with prompt and score), how much further guidance went"""
    prefix: np.ndarray
    """`[N, L]`: share of attention on each token of the prefix"""
    lags: np.ndarray
    """`[N, W]`: share on the codes 1, 2, … frames before those that are being drawn"""
    layer_prefix: np.ndarray
    """`[layers, L]`: mean over the clip"""
    layer_lags: np.ndarray
    """`[layers, W]`: mean over the clip"""

    @property
    def seconds(self) -> float:
        return self.request.score.seconds

    @property
    def column_seconds(self) -> float:
        return self.stride / self.frame_rate

    @property
    def times_seconds(self) -> np.ndarray:
        """The middles of the columns, `[N]`."""
        return (np.arange(self.prefix.shape[0]) + 0.5) * self.column_seconds

    @property
    def region_names(self) -> tuple[str, ...]:
        """The prefix, and what lies in the past, near and far."""
        near, far = _NEAR_SECONDS
        window = self.lags.shape[1] / self.frame_rate
        return "prefix", f"last {near:g} s", f"{near:g}–{far:g} s ago", f"{far:g}–{max(window, far):.0f} s ago"

    def regions(self, prefix: np.ndarray, lags: np.ndarray) -> np.ndarray:
        """Shares `[…, L]` and `[…, W]` → the share of each of `region_names`, `[…, 4]`."""
        near, far = (round(edge * self.frame_rate) for edge in _NEAR_SECONDS)
        parts = prefix, lags[..., :near], lags[..., near:far], lags[..., far:]
        return np.stack([part.sum(-1) for part in parts], -1)

    @cached_property
    def profile(self) -> np.ndarray:
        """Mean share on the codes 1, 2, … frames before, over the positions that reach so far back: `[layers, ≤ W]`.

        It ends where less than a second of the clip does.
        """
        reach = self.frames - np.arange(self.lags.shape[1])
        kept = reach >= min(self.frame_rate, self.frames)
        return self.layer_lags[:, kept] * (self.frames / reach[kept])

    @cached_property
    def musical_lags(self) -> tuple[MusicalLag, ...]:
        """Beat and bars that lie in the window and in the clip."""
        beats, bars = self.request.score.beats_seconds, self.request.score.downbeats_seconds
        if len(beats) < 2:
            return ()
        beat = float(np.median(np.diff(beats)))
        named = [("1 beat", beat)]
        if len(bars) >= 2:
            bar = float(np.median(np.diff(bars)))
            named += [(f"{count} bar{'s' * (count > 1)}", count * bar) for count in (1, 2, 4, 8)]
        profile, half = self.profile.mean(0), max(1, round(beat / 2 * self.frame_rate))
        found = []
        for name, seconds in named:
            lag = round(seconds * self.frame_rate) - 1
            if half <= lag < len(profile) - half:
                around = np.exp(np.log(np.maximum(profile[lag - half : lag + half + 1], 1e-12)).mean())
                found.append(MusicalLag(name, seconds, float(profile[lag - 1 : lag + 2].mean() / around)))
        return tuple(found)


@dataclass(frozen=True)
class MusicalLag:
    """A beat or some bars back, and how much more attention goes there than around it, half a beat to each side."""

    name: str
    seconds: float
    ratio: float


def codes_of(session: Session, frames: int, progress: Progress = lambda done, total: None) -> Tensor:
    """The codes that `session`, not yet begun, plays: int64 `[K, frames]`."""
    parts = []
    for first in range(0, frames, _BLOCK_FRAMES):
        parts.append(session.stream.advance(min(_BLOCK_FRAMES, frames - first))[0])
        progress(first + parts[-1].shape[1], frames)
    return torch.cat(parts, 1)


@torch.inference_mode()
def examine(generator: Generator, request: Request, progress: Progress = lambda done, total: None) -> Explanation:
    """Draw the codes of `request` again and read them with the weights as they are stored, in float32.

    Raises AudiogenError for a model without attention to a prefix, or one that was not loaded from a folder.
    """
    model, seconds = generator.model, request.score.seconds
    if not isinstance(model.lm, MusicLM) or model.lm.config.recurrent is not None:
        raise AudiogenError(
            f"{model.name}: explain shows where a Transformer under a prefix and a score looks, and this model is "
            "none; use one of audiogen's own, such as mini"
        )
    if model.folder is None:
        raise AudiogenError(f"{model.name}: explain reads the weights again and needs a model loaded from a folder")
    lm, session = MusicLM.load(model.folder / "lm"), generator.session(request)
    books, pad = lm.config.num_codebooks, lm.config.pad
    frames = math.ceil(max(1, round(seconds * generator.sample_rate)) / model.codec.hop_length)
    positions = frames + books - 1
    # the finer codes of the last frames were drawn knowing the coarser of the frames after
    codes = codes_of(session, positions, lambda done, total: progress(done / total * seconds / 2, seconds))
    before = apply_delay(codes[None], pad)[:, :, :positions].roll(1, 2)
    before[:, :, 0] = pad
    maps = AttentionMaps(lm, session._prefix(request.prompt, request.attributes).float().cpu())
    sums = _Sums(lm, frames, request.sampling.guidance)
    for first in range(0, positions, _BLOCK_FRAMES):
        count = min(_BLOCK_FRAMES, positions - first)
        lanes = torch.from_numpy(session._lanes(first, count))
        both = torch.stack([lanes, torch.zeros_like(lanes)])
        sums.add(first, maps.read(before[:, :, first : first + count].expand(2, -1, -1), both))
        progress((1 + (first + count) / positions) * seconds / 2, seconds)
    return sums.explanation(request, lm)


def outputs(output: str | Path) -> tuple[Path, Path]:
    """`OUT` → OUT.png and OUT.html; a suffix of either kind is left away.

    Raises AudiogenError when one is there already, or the folder is not there or not writable.
    """
    output = Path(output)
    stem = output.stem if output.suffix.lower() in (".png", ".html") else output.name
    paths = output.with_name(f"{stem}.png"), output.with_name(f"{stem}.html")
    if not output.parent.is_dir():
        raise AudiogenError(f"{output}: the folder {output.parent} does not exist; create it first")
    if not os.access(output.parent, os.W_OK):
        raise AudiogenError(f"{output}: the folder {output.parent} is not writable")
    for path in paths:
        if path.exists():
            raise AudiogenError(f"{path}: is there already; remove it or choose another name")
    return paths


def explain(
    generator: Generator, request: Request, output: str | Path, audio: Path | None, progress: Progress
) -> tuple[Path, Path]:
    """Write the picture and the page of the clip of `request` → their paths, `outputs(output)`.

    `audio`, the clip's WAV if there is one, is drawn, and linked to from the page. Raises AudiogenError for a model
    that cannot be explained, and as `outputs` does, before work starts.
    """
    from audiogen.audio.io import read
    from audiogen.generation.explain_figure import draw
    from audiogen.generation.explain_page import page

    png, html = outputs(output)
    seconds = request.score.seconds
    sound, link = None, None
    if audio is not None:
        sound = read(audio, seconds=min(seconds, _HEARD_SECONDS))
        link = quote(Path(os.path.relpath(audio.resolve(), html.parent.resolve())).as_posix())
    explanation = examine(generator, request, lambda done, total: progress(0.9 * done, total))  # drawing takes long too
    picture = draw(explanation, sound)
    text = page(explanation, picture, generator.model, link)
    with atomic_path(png) as temporary:
        temporary.write_bytes(picture.png)
    write_text(html, text)
    progress(seconds, seconds)
    return png, html


class _Sums:
    """Sums over the positions read so far: memory is that of the columns, not of the clip."""

    def __init__(self, lm: MusicLM, frames: int, guidance: float) -> None:
        sizes, length = lm.config.transformer, lm.prefix.length
        self._frames, self._guidance, self._stride = frames, guidance, math.ceil(frames / _MOST_COLUMNS)
        self._counts = torch.bincount(torch.arange(frames) // self._stride).double()
        columns = len(self._counts)
        self._bits = torch.zeros(3, lm.config.num_codebooks, columns, dtype=torch.float64)
        self._shares = torch.zeros(columns, length + sizes.window_frames, dtype=torch.float64)
        self._layers = torch.zeros(sizes.depth, length + sizes.window_frames, dtype=torch.float64)

    def add(self, first: int, seen: Seen) -> None:
        """A block of positions, the first of which is `first`; rows with prompt and without."""
        position = first + torch.arange(seen.logits.shape[2])
        logits = seen.logits.float()
        prompted, plain = logits.log_softmax(-1)
        guided = guide(logits, self._guidance)[0].log_softmax(-1)
        entropy = -(guided.exp() * guided).sum(-1)
        bits = torch.stack([entropy, _divergence(prompted, plain), _divergence(guided, prompted)]) / math.log(2)
        for book in range(bits.shape[1]):
            frame = position - book
            inside = (frame >= 0) & (frame < self._frames)
            self._bits[:, book].index_add_(1, frame[inside] // self._stride, bits[:, book, inside].double())
        inside = position < self._frames
        shares = torch.cat([seen.prefix[:, 0, inside], seen.lags[:, 0, inside]], -1).double()
        self._shares.index_add_(0, position[inside] // self._stride, shares.mean(0))
        self._layers += shares.sum(1)

    def explanation(self, request: Request, lm: MusicLM) -> Explanation:
        """The means."""
        length = lm.prefix.length
        entropy, told, pushed = (self._bits / self._counts).clamp_min(0).numpy()
        shares, layers = (self._shares / self._counts[:, None]).numpy(), (self._layers / self._frames).numpy()
        return Explanation(
            request, self._frames, lm.config.frame_rate, self._stride, lm.config.codebook_size, entropy, told, pushed,
            shares[:, :length], shares[:, length:], layers[:, :length], layers[:, length:],
        )  # fmt: skip


def _divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(p ‖ q) of log-probabilities `[…, V]`, in nats `[…]`."""
    return (p.exp() * (p - q)).sum(-1)
