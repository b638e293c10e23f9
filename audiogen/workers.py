"""One task over many items on all cores, each process with one thread: results do not depend on how many there are."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")
Found = TypeVar("Found")


def spread(
    task: Callable[[Item], Found], items: Sequence[Item], jobs: int, start: Callable[..., None] | None = None,
    *given: Any,
) -> Iterator[tuple[Item, Found]]:  # fmt: skip
    """Each item with what `task` makes of it, as they are done, from `jobs` processes, 0 for one a core.

    `task` and items travel to other processes; what a task keeps between items (`functools.cache`) is each process's.
    `start(*given)` is called first in each process. Workers leave Ctrl-C to this process, and end when it ends.
    """
    workers = min(jobs or len(os.sched_getaffinity(0)), len(items))
    if workers < 2:
        with one_thread():
            if start:
                start(*given)
            for item in items:
                yield item, task(item)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start_worker, (start, given)) as pool:
        pending = {pool.submit(task, item): item for item in items}
        try:
            for future in as_completed(pending):
                yield pending[future], future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums in one order, however many processes measure."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _start_worker(start: Callable[..., None] | None, given: tuple[Any, ...]) -> None:
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    if start:
        start(*given)


def _end_with_parent() -> None:
    """A parent that is killed takes nobody with it: its pool would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
