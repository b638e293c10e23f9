"""Prompt text → what it says, what of it was understood, and which words were not.

Chinese is put into English words first. Then numbers, keys, lengths and metres are found by patterns; the words that
remain are matched against `audiogen.style.vocabulary`, longest phrase first. Nothing is learned here: the embedding of
a prompt lives in `lm`.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace

from audiogen.interfaces import STYLES, Attributes, AudiogenError, Key, Prompt
from audiogen.style.chinese import in_english
from audiogen.style.patterns import (
    BEATS_PER_BAR_RANGE,
    Find,
    check_bpm,
    check_seconds,
    find_bpm,
    find_key,
    find_length,
    find_metre,
)
from audiogen.style.vocabulary import (
    LONGEST_PHRASE,
    MENDABLE,
    NEGATIONS,
    PHRASES,
    TEMPO_RANGES_BPM,
    Meaning,
)

MAX_PROMPT_LENGTH = 2000


@dataclass(frozen=True)
class Understanding(Prompt):
    """A prompt and the account of how it was read.

    `understood` holds (words, meaning) in the order of the text; `unknown` the words that say nothing to the parser;
    `excluded` the instruments asked to stay away; `notes` what the user should know, such as a conflict settled.
    """

    understood: tuple[tuple[str, str], ...] = ()
    unknown: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Token:
    start: int
    end: int
    word: str  # lower case, without apostrophes; punctuation stands for itself


_TOKEN = re.compile(r"[^\W_]+(?:['’][^\W_]+)*|[&+,;.!?]|[^\s]")


def parse(text: str) -> Understanding:
    """Read a prompt. Raises AudiogenError for text that is empty, longer than 2,000 characters, holds control
    characters, or asks for a tempo or a length that cannot be had."""
    _check_text(text)
    said = unicodedata.normalize("NFKC", " ".join(text.split()))
    text = in_english(said)
    notes: list[str] = []
    finds: list[Find] = []
    covered = text
    for pattern in (find_bpm, find_length, find_metre, find_key):
        new = list(pattern(covered, notes))
        finds += new
        for find in new:  # a gap that no later pattern and no phrase reaches across
            covered = covered[: find.start] + "\0" * (find.end - find.start) + covered[find.end :]
    words, unknown = _find_words(covered, notes)
    found = _assemble(text, sorted(finds + words, key=lambda find: find.start), unknown, notes)
    return replace(found, text=said)


def merge(
    understanding: Understanding,
    *,
    bpm: float | None = None,
    key: str | None = None,
    seconds: float | None = None,
    style: str | None = None,
    beats_per_bar: int | None = None,
) -> Understanding:
    """Explicit flags win over the text; a note says where they changed something. The result is a Prompt.

    Raises AudiogenError for a value that cannot be had, naming the flag.
    """
    values: dict[str, object] = {}
    if bpm is not None:
        values["tempo_bpm"] = check_bpm(float(bpm), f"--bpm {bpm:g}")
    if key is not None:
        try:
            values["key"] = Key.parse(key)
        except ValueError as error:
            raise AudiogenError(f"--key {key}: {error}") from None
    if seconds is not None:
        values["seconds"] = check_seconds(float(seconds), f"--seconds {seconds:g}")
    if style is not None:
        if style not in STYLES:
            raise AudiogenError(f"--style {style}: unknown, choose one of {', '.join(STYLES)}")
        values["style"] = style
    if beats_per_bar is not None:
        low, high = BEATS_PER_BAR_RANGE
        if not low <= beats_per_bar <= high:
            raise AudiogenError(f"--beats-per-bar {beats_per_bar}: expected {low} to {high}")
        values["beats_per_bar"] = beats_per_bar
    notes = list(understanding.notes)
    for name, value in values.items():
        said = getattr(understanding.attributes, name)
        if said is not None and said != value:
            notes.append(f"{_NAMES[name]}: the flag's {_show(value)} wins over the text's {_show(said)}")
    return replace(understanding, attributes=replace(understanding.attributes, **values), notes=tuple(notes))  # type: ignore[arg-type]


def explain(understanding: Understanding) -> str:
    """Lines for the user: what was understood, which words were not, and the notes."""
    meanings = [f"{words!r} → {meaning}" for words, meaning in understanding.understood]
    lines = ["understood: " + ("; ".join(meanings) if meanings else "nothing in particular")]
    if understanding.unknown:
        lines.append("not understood: " + ", ".join(understanding.unknown))
    return "\n".join([*lines, *(f"note: {note}" for note in understanding.notes)])


_NAMES = {"tempo_bpm": "tempo", "key": "key", "seconds": "length", "style": "style", "beats_per_bar": "beats a bar"}


def _show(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _check_text(text: str) -> None:
    if len(text) > MAX_PROMPT_LENGTH:
        raise AudiogenError(f"the prompt has {len(text):,} characters; the limit is {MAX_PROMPT_LENGTH:,}: shorten it")
    for position, character in enumerate(text):
        if unicodedata.category(character) in ("Cc", "Cs") and character not in "\t\n\r":
            raise AudiogenError(f"the prompt has a control character {character!r} at position {position}: remove it")
    if not text.strip():
        raise AudiogenError("the prompt is empty: say what to play, such as 'slow dub techno, 118 bpm, D minor'")


def _find_words(text: str, notes: list[str]) -> tuple[list[Find], list[str]]:
    tokens = [_Token(m.start(), m.end(), re.sub("['’]", "", m[0]).lower()) for m in _TOKEN.finditer(text)]
    tokens = [replace(token, word="and") if token.word in "&+" else token for token in tokens if token.word != "-"]
    finds: list[Find] = []
    links: list[str] = []  # how each find hangs on the one before: "", ",", "or"
    unknown: list[str] = []
    negated, link, position = False, "", 0
    negation: int | None = None  # where the word that says no stands
    while position < len(tokens):
        token = tokens[position]
        length, meanings = _match(tokens, position, notes)
        if token.word in NEGATIONS:
            negated, link, negation = True, "", token.start
        elif token.word in (",", "or", "nor", "and") and length <= 1:
            link = "or" if token.word != "," or link == "or" else ","
        elif not meanings:
            if token.word[0].isalnum():
                unknown.append(text[token.start : token.end])
            if token.word[0].isalnum() or token.word in ".;!?\0":
                negated, link, negation = False, "", None
        elif meanings[0].kind == "filler":
            if token.word in ("with", "but", "then", "plus", "just", "only"):
                negated, link, negation = False, "", None
        else:
            if link == "or" and not negated:  # "no drums, bass or piano": the whole chain is left out
                head = len(finds) - 1
                while head >= 0 and links[head] == "," and not finds[head].negated:
                    head -= 1
                if head >= 0 and finds[head].negated:
                    finds[head + 1 :] = [replace(find, negated=True) for find in finds[head + 1 :]]
                    negated = True
            start = token.start if negation is None else negation
            finds.append(Find(start, tokens[position + length - 1].end, meanings, negated))
            links.append(link)
            negated, link, negation = False, "", None
        position += length
    return finds, unknown


def _match(tokens: list[_Token], position: int, notes: list[str]) -> tuple[int, tuple[Meaning, ...]]:
    """The longest phrase at `position`: (tokens it takes, its meanings), or (1, ()) where none is known."""
    words = tuple(token.word for token in tokens[position : position + LONGEST_PHRASE])
    for length in range(len(words), 0, -1):
        for phrase in (words[:length], (*words[: length - 1], words[length - 1].removesuffix("s"))):
            if phrase in PHRASES:
                return length, PHRASES[phrase]
    mended = _mend(words[0])
    if mended:
        notes.append(f"{words[0]!r} is read as {mended!r}")
        return 1, PHRASES[(mended,)]
    return 1, ()


def _mend(word: str) -> str | None:
    """The known word that differs from `word` by one slip of the keys, if there is exactly one such meaning."""
    if len(word) < 5:
        return None
    hits = [known for known in MENDABLE if known[0] == word[0] and _is_slip(word, known)]
    return hits[0] if len({PHRASES[(hit,)] for hit in hits}) == 1 else None


def _is_slip(word: str, known: str) -> bool:
    """Two neighbours swapped or a letter doubled; in words of six letters and more also one letter missing or one too
    many, or one vowel for another. Other changes of a letter make other words ("springs", "horse")."""
    if len(word) == len(known):
        wrong = [index for index, (a, b) in enumerate(zip(word, known, strict=True)) if a != b]
        if len(wrong) == 2:
            i, j = wrong
            return j == i + 1 and word[i] == known[j] and word[j] == known[i]
        return len(wrong) == 1 and len(word) >= 6 and word[wrong[0]] in "aeiouy" and known[wrong[0]] in "aeiouy"
    longer, shorter = (word, known) if len(word) > len(known) else (known, word)
    if len(longer) - len(shorter) != 1:
        return False
    index = next((i for i, (a, b) in enumerate(zip(longer, shorter, strict=False)) if a != b), len(shorter))
    if longer[index + 1 :] != shorter[index:]:
        return False
    return longer[index] == longer[index - 1] or (min(len(known), len(word)) >= 5 and len(known) >= 6)


def _assemble(text: str, finds: list[Find], unknown: list[str], notes: list[str]) -> Understanding:
    values: dict[str, list] = {name: [] for name in ("style", "mood", "instrument", "bpm", "tempo", "energy")}
    values |= {name: [] for name in ("metre", "key", "seconds", "without")}
    understood: list[tuple[str, str]] = []
    for find in finds:
        said = text[find.start : find.end].strip(" ,")
        parts = []
        for kind, value in find.meanings:
            if find.negated:
                if kind == "instrument":
                    values["without"].append(value)
                elif kind in ("tempo", "energy"):
                    values[kind].append(0.5)
                parts.append(_NEGATED.get(kind, f"not {kind} {_show(value)}").format(value))
            elif kind != "voice":
                values[kind].append(value)
                parts.append(_meaning(kind, value))
        if parts:
            understood.append((said, ", ".join(parts)))
        elif said not in unknown:
            unknown = [*unknown, said]
            notes.append(f"{said!r}: audiogen makes no voices")
    return _settle(text, values, understood, _in_order(text, unknown), notes)


_NEGATED = {
    "instrument": "without {}", "voice": "no voices (there never are any)", "tempo": "tempo in the middle",
    "energy": "energy in the middle",
}  # fmt: skip


def _meaning(kind: str, value: str | float) -> str:
    if kind == "tempo":
        return f"tempo at {float(value):.0%} of the style's range"
    units = (
        {"bpm": f"{value:g} bpm", "seconds": f"{value:g} seconds", "metre": f"{value:g} beats a bar"}
        if isinstance(value, float)
        else {}
    )
    return units.get(kind, f"{kind} {_show(value)}")


def _in_order(text: str, words: list[str]) -> tuple[str, ...]:
    return tuple(sorted(dict.fromkeys(words), key=text.find))


def _settle(
    text: str, values: dict[str, list], understood: list[tuple[str, str]], unknown: tuple[str, ...], notes: list[str]
) -> Understanding:
    """One value an attribute: the first named wins, and a note says so."""

    def first(kind: str, name: str) -> object:
        found = list(dict.fromkeys(values[kind]))
        if len(found) > 1:
            others = ", ".join(_show(value) for value in found[1:])
            notes.append(f"more than one {name}: {_show(found[0])} is taken, {others} left")
        return found[0] if found else None

    style = first("style", "style")
    bpm = first("bpm", "tempo")
    place = first("tempo", "word for the tempo")
    if bpm is not None and place is not None:
        notes.append(f"both a tempo word and {_show(bpm)} bpm: the number is taken")
    if bpm is None and place is not None:
        low, high = TEMPO_RANGES_BPM[style]  # type: ignore[index]
        bpm = float(round(low + float(place) * (high - low)))  # type: ignore[arg-type]
    guitar = "electric guitar" if style in ("rock", "jazz", "house", "techno", "drum and bass") else "acoustic guitar"
    named = [guitar if name == "guitar" else name for name in values["instrument"]]
    excluded = [name for name in values["without"] if name != "guitar"]
    if "guitar" in values["without"]:
        excluded += ["acoustic guitar", "electric guitar", "distorted guitar"]
    metre, key = first("metre", "metre"), first("key", "key")
    attributes = Attributes(
        style=style,  # type: ignore[arg-type]
        moods=tuple(dict.fromkeys(values["mood"])),
        instruments=tuple(name for name in dict.fromkeys(named) if name not in excluded),
        tempo_bpm=bpm,  # type: ignore[arg-type]
        key=Key.parse(key) if isinstance(key, str) else None,
        beats_per_bar=int(metre) if isinstance(metre, float) else None,
        seconds=first("seconds", "length"),  # type: ignore[arg-type]
        energy=first("energy", "word for the energy"),  # type: ignore[arg-type]
    )
    return Understanding(text, attributes, tuple(understood), unknown, tuple(notes), tuple(dict.fromkeys(excluded)))
