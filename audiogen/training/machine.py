"""What the machine at hand needs to train well."""

from __future__ import annotations

import ctypes
import functools
import sys
import time
from pathlib import Path

import torch

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> None:
    """Make glibc keep freed blocks instead of giving each large one back to the system.

    A training step on the CPU frees and asks for gigabytes of activations; faulting every page in again costs a
    quarter of the step. Does nothing where the C library is another one.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_M_TOP_PAD, 2**28)


@functools.cache
def matrix_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of the fastest of some large matrix products, measured now on `device`.

    The yardstick of how much of the machine a training uses; half a second, once a process.
    """
    size = 8192 if device.type == "cuda" else 1536
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    fastest, began = float("inf"), time.perf_counter()
    while time.perf_counter() - began < 0.5:
        _finish(device)
        start = time.perf_counter()
        a @ b
        _finish(device)
        fastest = min(fastest, time.perf_counter() - start)
    return 2 * size**3 / fastest


def most_memory(device: torch.device) -> float:
    """The most bytes held at once so far: by tensors on a GPU, elsewhere by the whole process with its libraries."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    status = Path("/proc/self/status")
    if status.is_file():  # what getrusage says counts the process that started this one, too
        return 1024.0 * int(status.read_text(encoding="ascii").split("VmHWM:")[1].split()[0])
    try:
        import resource
    except ImportError:  # not a Unix system
        return float("nan")
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * (1 if sys.platform == "darwin" else 1024)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
