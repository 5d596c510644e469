"""Memory that was freed is kept for the next request.

glibc gives it back to the system as soon as 128 KB lie at the end of a heap, and gets it again a page at a time, which
takes microseconds each on a virtual machine. A batch of 1,000 pictures needs some megabytes. Source: mallopt(3).
"""

from __future__ import annotations

import ctypes
import os

KEPT = 8 << 20
"""Bytes at the end of a heap that are kept, at most."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_KEPT = 2 << 20  # larger pieces go back at once


def keep_freed_memory() -> bool:
    """For this process. False where the C library has no such switch, or the environment sets it (MALLOC_...)."""
    if any(name.startswith(("MALLOC_TRIM", "MALLOC_MMAP", "GLIBC_TUNABLES")) for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc; TypeError: on Windows
        return False
    return bool(mallopt(_TRIM_THRESHOLD, KEPT) and mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT))
