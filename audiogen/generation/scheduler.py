"""Continuous batching: requests of any length and prompt join and leave a running batch between frames.

Each request's codes are those it would have alone (`advance_together`), so who else is playing cannot be heard.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Literal

import torch

from audiogen.generation.generator import Generator, Request
from audiogen.generation.session import Session
from audiogen.interfaces import AudiogenError, Waveform
from audiogen.lm.engine import OutOfRoomError
from audiogen.lm.stream import advance_together

_log = logging.getLogger("audiogen")


class QueueFullError(AudiogenError):
    """Too many requests are waiting: ask again later."""


@dataclass(eq=False)
class Ticket:
    """One request on its way."""

    request: Request
    state: Literal["waiting", "running", "finished", "cancelled"] = "waiting"
    seconds_done: float = 0.0
    session: Session | None = field(default=None, repr=False)

    @property
    def share_done(self) -> float:
        """0…1."""
        return min(1.0, self.seconds_done / self.request.score.seconds)


class Scheduler:
    """First come, first served; all that run play equally far in each round. `submit` and `cancel` may be called from
    other threads; `advance` from one.
    """

    def __init__(
        self, generator: Generator, running: int = 16, waiting: int = 64, frames: int = 50,
        longest_seconds: float | None = None,
    ) -> None:  # fmt: skip
        """At most `running` at once and `waiting` behind them; a round is up to `frames` frames of each."""
        for name, value in (("running", running), ("frames", frames)):
            if value < 1:
                raise AudiogenError(f"{name} {value}: expected 1 or more")
        self.generator, self.most_running, self.most_waiting = generator, running, waiting
        self._frames, self._longest = frames, longest_seconds
        self._together = running
        """streams in one batch: fewer than are running once memory did not suffice"""
        self._waiting: deque[Ticket] = deque()
        self._running: list[Ticket] = []
        self._lock = Lock()

    @property
    def idle(self) -> bool:
        """Nothing is running or waiting."""
        return not self._running and not self._waiting

    @property
    def room(self) -> int:
        """Requests that `submit` takes at present."""
        return self.most_waiting + max(0, self.most_running - len(self._running)) - len(self._waiting)

    def submit(self, request: Request) -> Ticket:
        """Queue a request. Raises QueueFullError, and AudiogenError for a clip longer than is allowed."""
        if self._longest is not None and request.score.seconds > self._longest:
            raise AudiogenError(f"{request.score.seconds:g} seconds: at most {self._longest:g} are allowed here")
        with self._lock:
            if self.room <= 0:
                raise QueueFullError(
                    f"{len(self._running)} clips are being made and {len(self._waiting)} are waiting; try again later"
                )
            self._waiting.append(Ticket(request))
            return self._waiting[-1]

    def cancel(self, ticket: Ticket) -> None:
        """Drop a request; one that is playing stops before its next frame. What has ended stays as it is."""
        with self._lock:
            if ticket.state == "waiting":
                self._waiting.remove(ticket)
            if ticket.state in ("waiting", "running"):
                ticket.state = "cancelled"

    def advance(self) -> list[tuple[Ticket, Waveform]]:
        """One round: let requests in, play all on, let those that have ended go. → the new audio of each, in the order
        in which they came."""
        self._admit()
        sessions = [(ticket, ticket.session) for ticket in self._running if ticket.session is not None]
        for frames in sessions[0][1].parts(self._frames) if sessions else ():
            going = [(ticket, session) for ticket, session in sessions if not session.finished]
            codes = self._codes([session for _, session in going], frames)
            for (ticket, session), part in zip(going, codes, strict=True):
                if ticket.state != "cancelled":  # in the meantime
                    session.send(part)
        played = []
        for ticket, session in sessions:
            if ticket.state == "cancelled":
                continue
            audio = session.receive()
            ticket.seconds_done += audio.seconds
            if session.finished:
                ticket.state, ticket.seconds_done = "finished", ticket.request.score.seconds
            played.append((ticket, audio))
        self._leave()
        return played

    def play(self, requests: Sequence[Request]) -> Iterator[tuple[int, Waveform]]:
        """Any number of requests, each as soon as there is room → (which one, its next audio)."""
        numbers: dict[int, int] = {}
        following = 0
        while following < len(requests) or not self.idle:
            while following < len(requests) and self.room > 0:
                numbers[id(self.submit(requests[following]))] = following
                following += 1
            for ticket, audio in self.advance():
                yield numbers[id(ticket)], audio

    def _admit(self) -> None:
        self._leave()
        while len(self._running) < self.most_running:
            with self._lock:
                if not self._waiting:
                    return
                ticket = self._waiting.popleft()
                ticket.state = "running"
            try:
                ticket.session = self.generator.session(ticket.request)
            except OutOfRoomError as error:
                if not self._running:
                    raise
                with self._lock:
                    if ticket.state == "running":
                        ticket.state = "waiting"
                        self._waiting.appendleft(ticket)
                self.most_running = len(self._running)
                self._warn(error, f"at most {self.most_running} clips are made at once")
                return
            self._running.append(ticket)

    def _leave(self) -> None:
        for ticket in self._running:
            if ticket.state != "running":
                ticket.session = None  # its memory goes now, whoever keeps the ticket
        self._running = [ticket for ticket in self._running if ticket.state == "running"]

    def _codes(self, sessions: Sequence[Session], frames: int) -> list[torch.Tensor]:
        made: list[torch.Tensor] = []
        while len(made) < len(sessions):
            part = sessions[len(made) : len(made) + self._together]
            try:
                wanted = [session.wanted(frames) for session in part]
                made += advance_together([session.stream for session in part], wanted)
            except OutOfRoomError as error:
                if len(part) == 1:
                    raise
                self._together = max(1, len(part) // 2)
                self._warn(error, f"{self._together} clips are stepped together")
        return made

    @staticmethod
    def _warn(error: OutOfRoomError, then: str) -> None:
        """The words alone: who keeps an error keeps every session that it came past."""
        _log.warning("%s: from now on %s", str(error), then)
