from __future__ import annotations

import signal
import threading

import pytest

from audiogen.training.interruption import Interruption, Terminated

STOPS = [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)]


@pytest.mark.parametrize("number, raised", STOPS)
def test_alone_it_is_raised_at_once_but_after_what_is_held(number: int, raised: type[BaseException]) -> None:
    before = signal.getsignal(number)
    done = []
    with pytest.raises(raised), Interruption(alone=True) as signals:
        with signals.held():
            with signals.held():
                signal.raise_signal(number)
            done.append("inner")
            assert signals.asked == number
            done.append("held")
        done.append("never")
    assert done == ["inner", "held"] and signal.getsignal(number) is before
    with pytest.raises(raised), Interruption(alone=True):
        signal.raise_signal(number)
        done.append("never")
    assert len(done) == 2


@pytest.mark.parametrize("number, raised", STOPS)
def test_among_several_it_is_noted_until_all_leave(number: int, raised: type[BaseException]) -> None:
    with pytest.raises(raised), Interruption(alone=False) as signals:
        with signals.held():
            signal.raise_signal(number)
        assert signals.asked == number
        signals.leave(number)


def test_one_that_nobody_answered_is_given_to_whom_it_belongs() -> None:
    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with Interruption(alone=False):
            signal.raise_signal(signal.SIGTERM)
            assert not heard
        assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work() -> None:
        with Interruption(alone=True) as signals, signals.held():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
