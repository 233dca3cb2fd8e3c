"""Memory that costs the same in every run.

A large result is fresh memory, which the system hands out page by page: on a virtual machine 17 MB took 1 ms in one
process and 19 ms in the next, and code that reads scattered rows was 1.5 times slower when its pages lay unluckily. A
long-running program with a caching allocator does not pay this; nor should any contender here.
"""

from __future__ import annotations

import ctypes
import os
import sys

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3  # glibc's malloc.h


def steady() -> None:
    """Huge pages, by PyTorch's own switch, and memory kept by the process once it was used, where glibc is.

    To be called before torch is imported, which reads its switch when it first asks for memory.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    for option, value in ((MMAP_THRESHOLD, 2**31 - 1), (TRIM_THRESHOLD, 2**31 - 1), (TOP_PAD, 2**28)):
        mallopt(option, value)
