"""Ctrl-C and SIGTERM: a checkpoint is of whole updates only, and a run that must leave says so and leaves."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(BaseException):
    """SIGTERM: what a scheduler sends before it takes the machine away."""


class Interruption:
    """A context in which both signals are kept off whole updates.

    Of one process they raise KeyboardInterrupt and Terminated at once, but after the block where they fall inside
    `held()`. Of several none may leave the others waiting: there a signal is only noted in `asked`, for the processes
    to agree on, and `leave` raises. One that nobody answered goes to the handler from before. Outside the main thread
    signals are left alone.
    """

    def __init__(self, alone: bool) -> None:
        self.asked: int | None = None
        self._alone, self._held, self._before = alone, 0, {}  # type: ignore[var-annotated]

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._caught) for number in _SIGNALS}
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
        if self.asked is not None:
            signal.raise_signal(self.asked)

    def _caught(self, number: int, frame: FrameType | None) -> None:
        self.asked = number
        if self._alone and not self._held:
            self.leave(number)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold a signal back until the block is done."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        if self._alone and self.asked is not None and not self._held:
            self.leave(self.asked)

    def leave(self, number: int) -> None:
        """Raise what stands for signal `number`."""
        self.asked = None
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
