"""The parts of a prompt that have a form: tempos, lengths, metres and keys, found by regular expressions.

Each finder takes the text and a list that it may add notes for the user to, and yields what it finds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from audiogen.interfaces import AudiogenError, Key
from audiogen.style.vocabulary import NUMBER_WORDS, Meaning

BPM_RANGE = (40.0, 240.0)
MAX_SECONDS = 36000.0
BEATS_PER_BAR_RANGE = (2, 12)


@dataclass(frozen=True)
class Find:
    """A stretch of the text and what it says; `negated`: what it says not to do."""

    start: int
    end: int
    meanings: tuple[Meaning, ...]
    negated: bool = False


_NUMBER = r"(\d+(?:[.,]\d+)?)"
_COUNT = rf"(\d+(?:[.,]\d+)?|{'|'.join(sorted(NUMBER_WORDS, key=len, reverse=True))})"
_BPM_UNIT = r"(?:bpm|b\.p\.m\.?|beats?[ -](?:per|a)[ -]minute)(?![a-z])"
_RANGE = rf"(?<![\d.])(?:between\s+)?{_NUMBER}\s*(?:-|–|to|and)\s*{_NUMBER}\s*{_BPM_UNIT}"
_BPM = re.compile(
    rf"{_RANGE}|(?<![\d.,]){_NUMBER}[ -]*{_BPM_UNIT}"
    rf"|\b(?:tempo|bpm)(?:\s+of|\s+is|\s*[:=])?\s*{_NUMBER}(?![\d.,/]*\d)"
    rf"|\bat\s+{_NUMBER}(?=\s*(?:$|[,;!]|\.(?!\d)|in\b|with\b|and\b))",
    re.IGNORECASE,
)
_HOURS, _MINUTES, _SECONDS = r"(?:hours?|hrs?|h)", r"(?:minutes?|mins?|min\.)", r"(?:seconds?|secs?|sec\.)"
_LENGTH = re.compile(
    rf"(?<![\w.:,])(?:(?P<clock>\d+:\d\d(?::\d\d)?(?:\.\d+)?)(?:\s*{_MINUTES}\b)?(?![\w:])"
    rf"|{_COUNT.replace('(', '(?P<h>', 1)}[ -]*{_HOURS}\b(?:\s*(?:and\s+)?(?P<hm>\d+)[ -]*(?:{_MINUTES}|m)\b)?"
    rf"|{_COUNT.replace('(', '(?P<m>', 1)}(?P<mid>\s+and\s+a\s+half)?(?:[ -]*{_MINUTES}(?![a-z])|m(?=\s?\d+\s?s\b))"
    rf"(?P<half>\s+and\s+a\s+half)?(?:[ -]*(?:and\s+)?(?P<ms>\d+)(?:[ -]*{_SECONDS}|\s?s)?(?![\w/:]))?"
    rf"|{_COUNT.replace('(', '(?P<s>', 1)}[ -]*{_SECONDS}(?![a-z])|(?P<short>\d+(?:\.\d+)?)\s?s\b)"
    r"(?:[ -]+long\b)?",
    re.IGNORECASE,
)
_METRE = re.compile(r"(?<![\d/:])(\d{1,2})\s?/\s?(2|4|8|16)(?![\d/])(?:\s+(?:time|metre|meter))?", re.IGNORECASE)
_COMPOUND = {6: 3, 9: 3, 12: 4}  # eighths a bar → beats
_SHARP = r"(?:[#♯b♭]|[ -]?(?i:sharp|flat)\b)"
_MODE = r"(?i:major|minor|maj|min)"
_KEY = re.compile(
    rf"(?<![\w#♯♭])(?P<lead>(?i:in\s+the\s+key\s+of|key\s+of|in\s+key|key|in)\s+|(?i:key)\s*[:=]\s*)?"
    rf"(?:(?P<moded>[A-Ga-g]{_SHARP}?[ -]?{_MODE})(?![\w#])"
    rf"|(?P<short>[A-G][#♯b♭]?(?:m|M)|[a-g][#♯b♭]m)(?![\w#])"
    rf"|(?P<bare>[A-G]{_SHARP}|[A-G](?=\W|$)|[a-g][#♯b♭])(?![\w#']))"
)


def check_seconds(seconds: float, source: str) -> float:
    """The length, or AudiogenError naming `source` when it is not above 0 and at most 10 hours."""
    if not (math.isfinite(seconds) and 0 < seconds <= MAX_SECONDS):
        raise AudiogenError(f"{source}: expected a length above 0 and at most {MAX_SECONDS:g} seconds (10 hours)")
    return seconds


def check_bpm(bpm: float, source: str) -> float:
    """The tempo, or AudiogenError naming `source` when it is out of 40 to 240."""
    low, high = BPM_RANGE
    if not low <= bpm <= high:
        raise AudiogenError(f"{source}: expected a tempo of {low:g} to {high:g} beats per minute")
    return bpm


def _float(text: str) -> float:
    return NUMBER_WORDS.get(text.lower()) or float(text.replace(",", "."))


def find_bpm(text: str, notes: list[str]) -> Iterator[Find]:
    """118 bpm, at 90 beats per minute, tempo 90, between 80 and 90 bpm (the middle is taken)."""
    for match in _BPM.finditer(text):
        low, high, *single = match.groups()
        values = [_float(number) for number in ([low, high] if low else single) if number]
        span = match[0].strip()
        bpm = sum(check_bpm(value, f"{span[:40]!r} in the prompt") for value in values) / len(values)
        if len(values) == 2:
            notes.append(f"{span!r}: the middle, {bpm:g} bpm, is taken")
        yield Find(match.start(), match.end(), (Meaning("bpm", bpm),))


def find_length(text: str, notes: list[str]) -> Iterator[Find]:
    """30 seconds, 3 minutes, 2:30, 2 min 30, half a minute, 1h 30m, 45s."""
    for match in _LENGTH.finditer(text):
        part = match.groupdict()
        if part["short"] and part["short"] in ("50", "60", "70", "80", "90"):
            notes.append(
                f"{match[0]!r} is read as a decade, not a length: for a length write '{part['short']} seconds'"
            )
            continue
        if part["clock"]:
            seconds = 0.0
            for number in part["clock"].split(":"):
                seconds = seconds * 60 + float(number)
        else:
            minutes = (_float(part["m"]) if part["m"] else 0.0) + (0.5 if part["half"] or part["mid"] else 0.0)
            seconds = 3600 * (_float(part["h"]) if part["h"] else 0.0) + 60 * (minutes + float(part["hm"] or 0))
            seconds += float(part["ms"] or 0) + sum(_float(part[name]) for name in ("s", "short") if part[name])
        check_seconds(seconds, f"{match[0][:40]!r} in the prompt")
        yield Find(match.start(), match.end(), (Meaning("seconds", seconds),))


def find_metre(text: str, notes: list[str]) -> Iterator[Find]:
    """3/4, 5/4: the number above the stroke is the beats of a bar; 6/8 and 9/8 count 3, 12/8 counts 4."""
    low, high = BEATS_PER_BAR_RANGE
    for match in _METRE.finditer(text):
        beats = int(match[1])
        if match[2] == "8" and beats in (6, 9, 12):
            notes.append(f"{match[0]!r} is counted as {_COMPOUND[beats]} beats a bar")
            beats = _COMPOUND[beats]
        if low <= beats <= high:
            yield Find(match.start(), match.end(), (Meaning("metre", float(beats)),))
        else:
            notes.append(f"{match[0]!r} is no metre that can be had: {low} to {high} beats a bar")


def find_key(text: str, notes: list[str]) -> Iterator[Find]:
    """D minor, A-flat major, Bbm, F#, in A."""
    for match in _KEY.finditer(text):
        words = match["moded"] or match["short"] or match["bare"]
        if match["bare"] and not match["lead"] and len(words) == 1:
            continue  # a single letter is a key only after "in" or "key"
        if re.fullmatch(r"a (?:major|minor)", words) and re.match(
            r"\s+(?:key|mode|mood|feel|tonality)", text[match.end() :]
        ):
            continue  # "in a minor key" names no tonic
        plain = re.sub(r"[ -]?sharp\b", "#", words, flags=re.IGNORECASE)
        plain = re.sub(r"[ -]?flat\b", "b", plain, flags=re.IGNORECASE)
        plain = re.sub(_MODE, lambda mode: mode[0].lower(), plain).replace("-", " ")
        yield Find(match.start(), match.end(), (Meaning("key", str(Key.parse(plain))),))
