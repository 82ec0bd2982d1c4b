"""How the C library deals out memory while a network trains."""

import ctypes

MALLOC_OPTIONS = {
    -1: 2**31 - 1,  # M_TRIM_THRESHOLD: bytes free at the top before any are given back
    -2: 2**28,  # M_TOP_PAD: bytes asked for at a time
    -3: 2**25,  # M_MMAP_THRESHOLD: its largest; smaller blocks are not mapped one by one
}
"""Of glibc's malloc.h."""


def keep_freed_memory() -> None:
    """Have the C library keep what is freed for the next step, where it is glibc; on a CPU that saves page faults."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in MALLOC_OPTIONS.items():
            mallopt(option, value)
