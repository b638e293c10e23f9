"""One task over many items on all cores, each process with one thread: results do not depend on how many there are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TypeVar

Item = TypeVar("Item")
Found = TypeVar("Found")


def spread(task: Callable[[Item], Found], items: Sequence[Item], jobs: int) -> Iterator[tuple[Item, Found]]:
    """Each item with what `task` makes of it, as they are done, from `jobs` processes, 0 for one a core.

    `task` and items travel to other processes; what a task keeps between items (`functools.cache`) is each process's.
    """
    workers = min(jobs or len(os.sched_getaffinity(0)), len(items))
    if workers < 2:
        with one_thread():
            for item in items:
                yield item, task(item)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), start_worker) as pool:
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


def start_worker() -> None:
    """A measuring process has one thread."""
    import torch

    torch.set_num_threads(1)
