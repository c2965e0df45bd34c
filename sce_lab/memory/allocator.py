"""What the C library does with memory that is freed."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # the names of glibc's `mallopt`
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Keep what this process frees for its own next allocation, in place of giving it back; returns whether it could.

    glibc gives large blocks back at once, and each step of a training that takes them again faults in their pages: up
    to half of a step, more or less of it with what else the machine has done. Only glibc can be told (Linux); the
    process then stays as large as it once was.
    """
    if sys.platform != "linux":
        return False
    tune = getattr(ctypes.CDLL(None), "mallopt", None)
    return tune is not None and all([tune(_MMAP_MAX, 0), tune(_TRIM_THRESHOLD, _NEVER)])
