"""One live stream: the language model's codes through the codec, to an exact length, steerable on the way."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from audiogen.audio import chroma
from audiogen.audio.mastering import Limiter
from audiogen.capture import beside
from audiogen.generation.models import LoadedModel
from audiogen.interfaces import Attributes, Prompt, Score, Waveform
from audiogen.lm.model import MusicLM
from audiogen.lm.musicgen import MusicGen
from audiogen.lm.sampling import Sampling
from audiogen.lm.score import lanes
from audiogen.lm.stream import CodeStream, PrefixSource, WindowedStream
from audiogen.style.chinese import in_english
from audiogen.style.parse import parse
from audiogen.style.planner import later, plan, resolve_attributes

_FADE_SECONDS = 0.02
_LAST_FADE_SECONDS = 1.5
"""of a piece that comes to an end, as the starter catalogue is mastered"""
_CEILING_DB, _HOLD_SECONDS = -0.3, 0.1


class Session:
    """State of one stream. `advance` until `finished`; the pieces together are the clip.

    Memory does not grow with the length, and is given back when nobody keeps the session: nothing in it points back.
    `score` and `attributes` say what is being played.
    """

    _codes: CodeStream | WindowedStream

    def __init__(
        self,
        model: LoadedModel,
        prompt: Prompt,
        score: Score,
        attributes: Attributes,
        sampling: Sampling,
        seed: int,
        melody: tuple[int, ...] = (),
        begun: torch.Tensor | None = None,
    ) -> None:
        """`melody`: pitch classes as of `audiogen.audio.chroma`, for a model that knows melodies. `begun`, codes
        `[K, n]`: the score's first n frames are there already, and the stream goes on from them."""
        self.score, self.attributes = score, attributes
        self._model, self._seed, self._melody = model, seed, torch.tensor(melody, dtype=torch.long)
        self._rate = model.codec.sample_rate / model.codec.hop_length
        self._frames_done = 0 if begun is None else begun.shape[1]
        played = self._frames_done * model.codec.hop_length
        self._samples_left = max(1, round(score.seconds * model.codec.sample_rate) - played)
        self._frames_left = -(-self._samples_left // model.codec.hop_length)
        if isinstance(model.lm, MusicGen):
            windows, frames = self._windows(model.lm, prompt), self._frames_done + self._frames_left
            self._codes = WindowedStream(model.engine, windows, sampling, seed, frames, begun)
        else:
            self._lanes = partial(lanes, score, frame_rate=self._rate)
            prefix = self._prefix(prompt, attributes)
            self._codes = CodeStream(model.engine, prefix, self._lanes, sampling, seed, begun)
        with beside(model.device):
            self._decoder = model.codec.streaming_decoder(1)
        self._sent: list[torch.Tensor] = []  # audio that `receive` has not given yet
        self._limiter = clip_limiter(model.codec.channels, model.codec.sample_rate)
        self.lead = self._decode_begun(begun) if begun is not None else None
        """what was there already as the codec plays it, but for the last samples, which the decoder holds back: they
        come first in what `advance` gives"""

    @property
    def finished(self) -> bool:
        return self._samples_left == 0

    @property
    def stream(self) -> CodeStream | WindowedStream:
        """Where the codes come from; `advance_together` may draw those of several sessions in one batch."""
        return self._codes

    def advance(self, frames: int) -> Waveform:
        """Play on by up to `frames` frames → Waveform `[C, S]`; the first is shorter by the codec's look-ahead and the
        limiter's, the last ends on the sample asked for."""
        for part in self.parts(frames):
            if not self._sent or not self.finished:
                self.send(self._codes.advance(self.wanted(part)))
        return self.receive()

    def parts(self, frames: int) -> list[int]:
        """In how many frames at a time `frames` are best sent: on a GPU the codec decodes the first half while the
        second half's codes are drawn."""
        half = frames // 2 if self._model.device.type == "cuda" else 0
        return [half, frames - half] if half else [frames]

    def wanted(self, frames: int) -> int:
        """Frames of codes that `send` takes for up to `frames` frames of audio: at the end a few more, since the
        decoder is late."""
        count = min(frames, self._frames_left)
        whole = count == self._frames_left and not isinstance(self._codes, WindowedStream)
        return count + (self._decoder.latency_frames if whole and not self.finished else 0)

    @torch.inference_mode()
    def send(self, codes: torch.Tensor) -> None:
        """Decode the next codes, int64 `[1, K, wanted(frames)]`; nobody waits for a GPU until `receive`."""
        rate = self._model.codec.sample_rate
        count = min(codes.shape[2], self._frames_left)
        self._frames_left -= count
        self._frames_done += count
        with beside(self._model.device):
            audio = self._decoder.decode(codes)
            if not self._frames_left and isinstance(self._codes, WindowedStream):
                audio = torch.cat([audio, self._decoder.flush()], 2)  # a whole clip to its authors' decoder too
            samples = audio[0, :, : self._samples_left]
            ends = bool(self.score.sections) and self.score.sections[-1][1] == "outro"
            fade = round((_LAST_FADE_SECONDS if ends else _FADE_SECONDS) * rate)
            left = self._samples_left - 1 - torch.arange(samples.shape[1], device=samples.device)
            samples = samples * (left / fade).clamp(max=1).square()
            self._samples_left -= samples.shape[1]
            self._sent.append(samples)

    def receive(self) -> Waveform:
        """The audio `[C, S]` of what was sent since the last time."""
        with torch.inference_mode(), beside(self._model.device):
            samples = torch.cat(self._sent, 1).cpu()
        self._sent = []
        return Waveform(limited(self._limiter, samples, self.finished), self._model.codec.sample_rate)

    def steer(self, text: str) -> None:
        """Another prompt from the next frame on: what follows is planned anew for the time that is left."""
        prompt, lm, habits = parse(text), self._model.lm, self._model.habits
        if isinstance(self._codes, WindowedStream):
            assert isinstance(lm, MusicGen)
            self.attributes = prompt.attributes
            self._codes.steer(self._windows(lm, prompt))
            return
        assert habits is not None
        now = self._frames_done / self._rate
        left = max(self.score.seconds - now, 1 / self._rate)
        self.attributes = resolve_attributes(prompt, habits, self._seed)
        self.score = later(plan(prompt, left, habits, self._seed), now)
        self._lanes = partial(lanes, self.score, frame_rate=self._rate)
        self._codes.steer(self._prefix(prompt, self.attributes), self._lanes)

    @torch.inference_mode()
    def _decode_begun(self, codes: torch.Tensor) -> Waveform:
        with beside(self._model.device):
            samples = self._decoder.decode(codes[None].to(self._model.device))[0].cpu()
        self._samples_left += codes.shape[1] * self._model.codec.hop_length - samples.shape[1]
        return Waveform(samples, self._model.codec.sample_rate)

    def _prefix(self, prompt: Prompt, attributes: Attributes) -> torch.Tensor:
        assert isinstance(self._model.lm, MusicLM)
        with torch.inference_mode():
            return self._model.lm.prefix.encode([Prompt(in_english(prompt.text), attributes), None])

    def _windows(self, lm: MusicGen, prompt: Prompt) -> PrefixSource:
        """The text, and the melody from where a window begins, around and around."""
        assert self._model.text is not None
        text, melody, rate = self._model.text.encode(prompt.text), self._melody, self._rate

        @torch.inference_mode()
        def prefix(first: int) -> torch.Tensor:
            if not len(melody):
                return lm.prefix(text)
            start = round(first / rate * chroma.SAMPLE_RATE / chroma.HOP_LENGTH)
            return lm.prefix(text, melody[(start + torch.arange(lm.config.melody_frames)) % len(melody)])

        return prefix


def clip_limiter(channels: int, sample_rate: int) -> Limiter:
    """What every clip passes: peaks at most 0.3 dB below full scale, held long enough for a bass to keep its wave."""
    return Limiter(channels, sample_rate, _CEILING_DB, _HOLD_SECONDS)


def limited(limiter: Limiter, samples: torch.Tensor, last: bool) -> torch.Tensor:
    """Push `[C, s]` through → what is ready `[C, n]`, with `last` all of it."""
    ready = [limiter.push(samples.T.numpy()), *([limiter.flush()] if last else [])]
    return torch.from_numpy(np.concatenate(ready).T)
