"""Excerpts of prepared codes with their score lanes, by position, from one catalogue or from several mixed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from pydantic import Field

from audiogen.config import Config
from audiogen.data.codes import PreparedCodes, digest, find_heard_beats, wants_beats
from audiogen.data.dataset import Mixture, SegmentOrder
from audiogen.data.manifest import Split, Track, read_manifest
from audiogen.data.store import Store
from audiogen.interfaces import AudiogenError
from audiogen.lm.score import lanes

IGNORED = -100
"""a target that is none"""


class Source(Config):
    """A catalogue to learn from. A track's tags are its style, moods, instruments and `tags`."""

    manifest: str
    codes: str
    """folder or URL of prepared codes"""
    share: float = Field(default=1.0, gt=0)
    """of the training, as a part of the sum of all shares"""
    only: tuple[str, ...] = ()
    """keep the tracks that have one of these tags; all when empty"""
    without: tuple[str, ...] = ()
    """leave out the tracks that have one of these tags"""
    weights: dict[str, float] = Field(default={})
    """how often tracks of a tag are met, 1 when not told; several multiply"""

    def select(self) -> list[tuple[Track, float]]:
        """The manifest's tracks that are kept, with their weights. Raises AudiogenError for a tag that none has."""
        tracks = read_manifest(self.manifest)
        tags = [{track.style, *track.moods, *track.instruments, *track.tags} for track in tracks]
        known = set().union(*tags)
        for tag in (*self.only, *self.without, *self.weights):
            if tag not in known:
                raise AudiogenError(f"{self.manifest}: no track has the tag {tag!r}, which the configuration names")
        bad = [tag for tag, weight in self.weights.items() if not 0 <= weight < float("inf")]
        if bad:
            raise AudiogenError(f"the weight of the tag {bad[0]!r} is {self.weights[bad[0]]}: 0 or more is meant")
        kept = []
        for track, own in zip(tracks, tags, strict=True):
            if (not self.only or own & set(self.only)) and not own & set(self.without):
                kept.append((track, float(np.prod([self.weights.get(str(tag), 1.0) for tag in own]))))
        return kept


def _heard(source: Source, tracks: Sequence[Track]) -> dict[str, dict[str, tuple[float, ...]]]:
    """What was heard, when codes were prepared, of the beats of tracks whose manifest has none, by digest."""
    wanting = [digest(track) for track in tracks if wants_beats(track)]
    found = find_heard_beats(Store(source.codes)) if wanting else {}
    return {
        name: dict(zip(("beats_seconds", "downbeats_seconds"), found[name], strict=True))
        for name in wanting
        if any(found.get(name, ()))
    }


def _hashed(texts: Iterable[str]) -> str:
    return hashlib.sha256("".join(texts).encode()).hexdigest()[:16]


class Excerpts:
    """Segments of delayed codes with their lanes; which one stands at a position follows from the seed."""

    def __init__(
        self, sources: Sequence[Source], split: Split, codec_folder: str, *, frames: int, books: int, pad: int,
        rate: float, seed: int,
    ) -> None:  # fmt: skip
        """Raises AudiogenError naming what is missing: tracks, codes, tags."""
        self._frames, self._books, self._pad, self._rate = frames, books, pad, rate
        self.tracks: list[Track] = []
        self.fingerprint: dict[str, str] = {}
        self._codes: list[PreparedCodes] = []
        self._firsts: list[int] = []
        self._orders: list[SegmentOrder] = []
        shares: list[float] = []
        for number, source in enumerate(sources, 1):
            kept = source.select()
            name = "manifest" if len(sources) == 1 else f"manifest {number}"
            self.fingerprint[name] = f"{len(kept)} tracks, {_hashed(track.sha256 for track, _ in kept)}"
            heard = _heard(source, [track for track, _ in kept])
            if heard:
                self.fingerprint[f"beats of {name}"] = f"{len(heard)} heard, {_hashed(map(str, heard.items()))}"
            chosen = [
                (track.model_copy(update=heard.get(digest(track), {})), weight)
                for track, weight in kept
                if track.split == split
            ]
            if not chosen and split == "validation" and number < len(sources) + bool(self.tracks):
                continue  # another one has some
            codes = PreparedCodes(source.codes, [track for track, _ in chosen], codec_folder)
            lengths = [codes.frames(index) + books - 1 for index in range(len(codes))]
            self._firsts.append(len(self.tracks))
            self.tracks += [track for track, _ in chosen]
            self._codes.append(codes)
            shares.append(source.share)
            try:
                self._orders.append(SegmentOrder(lengths, frames, seed + number - 1, [weight for _, weight in chosen]))
            except AudiogenError as error:
                raise AudiogenError(f"{source.manifest}: {error}") from None
        self.fingerprint["codec"] = self._codes[0].fingerprint
        self._mixture = Mixture(shares, seed)
        self.size = sum(order.epoch_size for order in self._orders)
        """segments, each source's once"""

    def place(self, position: int) -> tuple[int, int, int]:
        """Position → (source, track of it, first frame)."""
        source, within = (0, position) if len(self._orders) == 1 else self._mixture[position]
        return source, *self._orders[source][within]

    def name(self, position: int) -> str:
        """Where the excerpt comes from, for a person to find it."""
        source, item, start = self.place(position)
        return f"{self.tracks[self._firsts[source] + item].path} from {start / self._rate:.1f} s"

    def __getitem__(self, position: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, Track]:
        """→ inputs, targets int64 `[K, T]`, lanes float32 `[T, N]`, track."""
        source, item, start = self.place(position)
        codes = self._codes[source][item]
        wanted = np.arange(start - 1, start + self._frames)[None] - np.arange(self._books)[:, None]  # [K, T + 1]
        inside = (wanted >= 0) & (wanted < len(codes))
        found = codes[np.clip(wanted, 0, len(codes) - 1), np.arange(self._books)[:, None]].astype(np.int64)
        inputs = np.where(inside, found, self._pad)[:, :-1]
        targets = np.where(inside, found, IGNORED)[:, 1:]
        track = self._firsts[source] + item
        within = min(self._frames, len(codes) + self._books - 1 - start)
        told = lanes(self.tracks[track].score(), start, within, self._rate)
        return inputs, targets, np.pad(told, ((0, self._frames - within), (0, 0))), self.tracks[track]
