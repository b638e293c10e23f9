"""From a prompt to audio: understand, plan, play."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from audiogen.audio import chroma
from audiogen.audio.io import read
from audiogen.generation.models import LoadedModel, load_model
from audiogen.generation.session import Session
from audiogen.interfaces import Attributes, AudiogenError, Prompt, Score, Waveform
from audiogen.lm.engine import Precision
from audiogen.lm.musicgen import MusicGen
from audiogen.lm.sampling import Sampling
from audiogen.style.parse import Understanding, merge, parse
from audiogen.style.patterns import check_seconds
from audiogen.style.planner import plan, resolve_attributes

DEFAULT_SECONDS = 30.0
_MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class Request:
    """One clip, fully said: the same request gives the same audio on the same kind of machine."""

    prompt: Prompt
    score: Score
    attributes: Attributes
    sampling: Sampling
    seed: int
    melody: tuple[int, ...] = ()
    """pitch classes as of `audiogen.audio.chroma`"""
    begun: torch.Tensor | None = None
    """codes `[K, n]` of the score's first frames, which are there already"""


class Generator:
    """A loaded model that makes clips. Stateless: each stream is a `Session` of its own.

    ```python
    generator = Generator.from_pretrained("mini")
    for chunk in generator.stream("calm lo-fi, 80 bpm", seconds=10, seed=7):
        ...
    ```
    """

    def __init__(self, model: LoadedModel) -> None:
        self.model = model

    @classmethod
    def from_pretrained(
        cls, name: str | Path = "mini", precision: Precision = "auto", threads: int | None = None, device: str = "auto"
    ) -> Generator:
        """A shipped model by name, a model folder, or a MusicGen, by its folder or its name on huggingface.co.

        `device` is "cpu", "cuda", "cuda:1", or "auto": a GPU where there is one. `threads` sets PyTorch's for the whole
        process. A licence that is not ours is told on standard error. Raises AudiogenError when the GPU is not there,
        or the model is missing, damaged or foreign.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        return cls(load_model(name, precision, device))

    @property
    def sample_rate(self) -> int:
        return self.model.codec.sample_rate

    @property
    def channels(self) -> int:
        return self.model.codec.channels

    def request(
        self,
        prompt: str | Prompt,
        seconds: float | None = None,
        seed: int | None = None,
        *,
        bpm: float | None = None,
        key: str | None = None,
        sampling: Sampling | None = None,
        score: tuple[Score, Attributes] | None = None,
        melody: str | Path | None = None,
    ) -> Request:
        """Settle everything that is open. A length in the text counts when `seconds` is not given, then 30 s.

        `score` is an edited plan with its attributes; it wins over the prompt. `melody` is a recording whose melody is
        followed, by a model that can. Raises AudiogenError for bad input.
        """
        self.check_request(bpm is not None or key is not None or score is not None, melody)
        if seed is None:
            seed = secrets.randbelow(2**31)
        if not 0 <= seed <= _MAX_SEED:
            raise AudiogenError(f"seed {seed}: expected a whole number from 0 to {_MAX_SEED}")
        if isinstance(prompt, str):
            understood = parse(prompt)
        elif isinstance(prompt, Understanding):
            understood = prompt
        else:
            understood = Understanding(prompt.text, prompt.attributes)
        understood = merge(understood, bpm=bpm, key=key, seconds=seconds)
        length = understood.attributes.seconds or DEFAULT_SECONDS
        if self.model.habits is None:  # it follows the words, not what we understand of them
            planned, attributes = Score(length), understood.attributes
        elif score is None:
            attributes = resolve_attributes(understood, self.model.habits, seed)
            planned = plan(understood, length, self.model.habits, seed)
        else:
            planned, attributes = score
            if seconds is not None and abs(seconds - planned.seconds) > 1e-9:
                raise AudiogenError(
                    f"--seconds {seconds:g}: the plan lasts {planned.seconds:g} s; change its 'seconds' instead"
                )
        check_seconds(planned.seconds, f"{planned.seconds:g} seconds")
        attributes = replace(attributes, seconds=planned.seconds)
        asked = understood if self.model.habits is not None else Prompt(understood.text, understood.attributes)
        followed = () if melody is None else tuple(chroma.melody(read(melody), str(melody)).tolist())
        return Request(asked, planned, attributes, sampling or self.model.sampling, seed, followed)

    def check_request(self, planned: bool, melody: str | Path | None = None) -> None:
        """Raises AudiogenError for a plan, or a part of one, or a melody, that the model does not follow."""
        model = self.model
        if planned and model.habits is None:
            raise AudiogenError(
                f"{model.name} follows its text alone, without a plan: write tempo and key into the prompt instead of "
                "--bpm, --key and --plan"
            )
        if melody is not None and not (isinstance(model.lm, MusicGen) and model.lm.config.melody_frames):
            raise AudiogenError(f"--melody {melody}: {model.name} knows no melodies; use facebook/musicgen-melody")

    def session(self, request: Request) -> Session:
        """A live stream of `request`, to advance and steer."""
        return Session(
            self.model, request.prompt, request.score, request.attributes, request.sampling, request.seed,
            request.melody, request.begun,
        )  # fmt: skip

    def play(self, request: Request, chunk_frames: int = 25) -> Iterator[Waveform]:
        """Audio of `request` in chunks `[C, S]`; the same audio whatever the chunk size."""
        session = self.session(request)
        while not session.finished:
            yield session.advance(chunk_frames)

    def stream(
        self, prompt: str | Prompt, seconds: float | None = None, seed: int | None = None, **told: Any
    ) -> Iterator[Waveform]:
        """`play` of a `request` with the same arguments."""
        yield from self.play(self.request(prompt, seconds, seed, **told))

    def generate(
        self, prompt: str | Prompt, seconds: float | None = None, seed: int | None = None, **told: Any
    ) -> Waveform:
        """The whole clip `[C, S]`: the concatenation of `stream`."""
        chunks = list(self.stream(prompt, seconds, seed, **told))
        return Waveform(torch.cat([chunk.samples for chunk in chunks], 1), self.sample_rate)
