"""What the machine at hand needs to train well."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import time
from pathlib import Path

import torch

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_MADV_HUGEPAGE = 14


def keep_freed_memory() -> None:
    """Make glibc keep freed blocks instead of giving each large one back to the system, and in huge pages.

    A training step on the CPU frees and asks for gigabytes of activations; faulting every page in again costs a
    quarter of the step, and small pages another twelfth. Does nothing where the C library is another one.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        libc = ctypes.CDLL("libc.so.6")
        mallopt = libc.mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, -1)
    mallopt(_M_TOP_PAD, 2**28)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
    libc.free.argtypes, libc.madvise.argtypes = (ctypes.c_void_p,), (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    heap = libc.malloc(size)  # addresses only: nothing is written to them
    if heap:
        page = os.sysconf("SC_PAGE_SIZE")
        libc.madvise(-(-heap // page) * page, size - page, _MADV_HUGEPAGE)
        libc.free(heap)


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
