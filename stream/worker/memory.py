"""Memory that batches leave behind: holes between the windows that stay."""

import ctypes

#: Seconds between two times.
TRIM_EVERY_S = 10.0


def trim() -> None:
    """Have glibc give the operating system back what it holds free; other C libraries do so by themselves."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim:
        malloc_trim(0)
