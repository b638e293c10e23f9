"""What is asked for: a fixed list of 240 prompts that comes with the package, or a list of one's own.

Each line of the file is a JSON object: `id`, `kind`, `prompt`, `seconds`, and `asked`, what a listener would say that
the prompt asks for. It is written down, not parsed, so that a parser's mistakes count as mistakes. 120 prompts use the
vocabulary, 60 plain words, 20 are Chinese, 20 ask for what their style does not do, 20 last three minutes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, FiniteFloat

from audiogen.config import Config
from audiogen.interfaces import INSTRUMENTS, MOODS, STYLES, AudiogenError, Key

SHIPPED = Path(__file__).parent / "prompts.jsonl"
TAKES = 2
"""clips of each prompt, each with a seed of its own"""


def _among(names: Sequence[str]) -> AfterValidator:
    def check(name: str) -> str:
        if name not in names:
            raise ValueError(f"{name!r} is none of {', '.join(names)}")
        return name

    return AfterValidator(check)


class Asked(Config):
    """What a prompt asks for; None or empty: nothing."""

    style: Annotated[str, _among(STYLES)] | None = None
    moods: tuple[Annotated[str, _among(MOODS)], ...] = ()
    instruments: tuple[Annotated[str, _among(INSTRUMENTS)], ...] = ()
    absent: tuple[Annotated[str, _among(INSTRUMENTS)], ...] = ()
    tempo_bpm: Annotated[FiniteFloat, Field(gt=0)] | None = None
    key: Annotated[str, AfterValidator(lambda name: str(Key.parse(name)))] | None = None
    beats_per_bar: Annotated[int, Field(ge=2, le=12)] | None = None
    energy: Annotated[FiniteFloat, Field(ge=0, le=1)] | None = None


class EvaluationPrompt(Config):
    """One line of the list. Clips are files named `ID-1.wav`, `ID-2.wav`."""

    id: Annotated[str, Field(pattern=r"^\w[\w.-]{0,63}$")]
    kind: Annotated[str, Field(pattern=r"^\w[\w-]{0,31}$")] = "own"
    prompt: Annotated[str, Field(min_length=1, max_length=2000)]
    seconds: Annotated[FiniteFloat, Field(ge=5, le=3600)] = 30.0
    asked: Asked = Asked()

    def file(self, take: int) -> str:
        """Name of the `take`-th clip, from 1 on."""
        return f"{self.id}-{take}.wav"

    def seed(self, take: int) -> int:
        """The seed of a take: of the name alone, so that a list may grow without other clips changing."""
        import hashlib

        return int.from_bytes(hashlib.blake2b(self.file(take).encode(), digest_size=4).digest()) >> 1


def read_prompts(path: str | Path) -> tuple[EvaluationPrompt, ...]:
    """The prompts of a JSONL file. Raises AudiogenError naming the line that is broken or repeats an id."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise AudiogenError(f"{path}: cannot be read as text: {error}") from None
    prompts: dict[str, EvaluationPrompt] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            told = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise AudiogenError(f"{where}: not a JSON object: {error}") from None
        if not isinstance(told, dict):
            raise AudiogenError(f"{where}: expected a JSON object with id, prompt and asked, got {line[:40]!r}")
        prompt = EvaluationPrompt.build(told, where)
        if prompt.id in prompts or (re.search(r"-\d+$", prompt.id) and prompt.id.rsplit("-", 1)[0] in prompts):
            raise AudiogenError(f"{where}: the id {prompt.id!r} is used already, or its files would be another's")
        prompts[prompt.id] = prompt
    if not prompts:
        raise AudiogenError(f"{path}: holds no prompts")
    return tuple(prompts.values())


@cache
def shipped_prompts() -> tuple[EvaluationPrompt, ...]:
    """The list that comes with audiogen."""
    return read_prompts(SHIPPED)


def quick(prompts: Sequence[EvaluationPrompt], count: int = 24) -> tuple[EvaluationPrompt, ...]:
    """A few of each kind but the long ones, spread evenly."""
    short = [prompt for prompt in prompts if prompt.seconds <= 60] or list(prompts)
    step = max(1, len(short) // count)
    return tuple(short[step // 2 :: step][:count])
