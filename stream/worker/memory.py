"""Memory that batches leave behind: holes between the windows that stay, kept few and given back."""

import ctypes
import os

#: Seconds between two times.
TRIM_EVERY_S = 10.0


#: glibc's number of `mallopt` for how many heaps there may be, and how many are enough.
_M_ARENA_MAX, ARENAS = -8, 2


def share_heaps() -> None:
    """Have all threads share a few heaps; to be called before they start.

    glibc gives every thread one of its own, eight for each core, and what a batch leaves free in the heap of
    the thread that made it, no other thread takes.
    """
    if not os.environ.get("MALLOC_ARENA_MAX"):  # somebody knows better
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt:
            mallopt(_M_ARENA_MAX, ARENAS)


def trim() -> None:
    """Have glibc give the operating system back what it holds free; other C libraries do so by themselves."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim:
        malloc_trim(0)
