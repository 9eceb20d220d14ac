"""Memory that nobody uses: garbage, what batches leave free between windows that stay, and the compiler."""

import ctypes
import gc
import os
import re
from collections.abc import Iterator
from pathlib import Path

#: Seconds between two times that memory is given back.
TRIM_EVERY_S = 10.0

#: glibc's numbers of `mallopt`: for how many heaps there may be, and how many are enough; for how many bytes
#: of an array are asked of the system by themselves, and given back when it goes.
_M_ARENA_MAX, ARENAS = -8, 2
_M_MMAP_THRESHOLD, LARGE_BYTES = -3, 1 << 20


def settle_heaps() -> None:
    """Have all threads share a few heaps, without large arrays; to be called before they start.

    glibc gives every thread one of its own, eight for each core, and what a batch leaves free in the heap of
    the thread that made it, no other thread takes. By itself it soon keeps arrays of up to 32 MB in them:
    windows, which stay, settle where one was, and the next finds no place. Arrays that are smaller than
    LARGE_BYTES come too often to ask the system for each.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt and not os.environ.get("MALLOC_ARENA_MAX"):  # somebody knows better
        mallopt(_M_ARENA_MAX, ARENAS)
    if mallopt and not os.environ.get("MALLOC_MMAP_THRESHOLD_"):
        mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)


def trim() -> None:
    """Have garbage collected, and glibc give the operating system back what it holds free.

    What is tried again, and what waits for a thread, refers to itself: some thousand objects a second, which
    Python, as it is set (start.py), would let lie for minutes. Other C libraries give back by themselves.
    """
    gc.collect()
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim:
        malloc_trim(0)


#: Numba's compiler; the kernel's number of `madvise` for what is not needed, and its list of what is mapped.
COMPILER, _MADV_DONTNEED, MAPPED = "libllvmlite", 4, Path("/proc/self/smaps")
_HEAD = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ \d+ +(\S.*)$", re.MULTILINE)
_CHANGED = re.compile(r"^Anonymous: +(\d+) kB$", re.MULTILINE)


def let_go_of_compiler() -> None:
    """Give back what is mapped of the compiler's code and constants.

    All loops are compiled, or loaded, before a worker begins; 70 MB of the library stay mapped for that. Only
    what is as its file has it is given back: whoever wants it after all reads it from there. Linux alone.
    """
    madvise = getattr(ctypes.CDLL(None), "madvise", None)
    if madvise and MAPPED.exists():
        for begin, end in list(_unchanged(COMPILER)):
            madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), _MADV_DONTNEED)


def _unchanged(library: str) -> Iterator[tuple[int, int]]:
    """Yield from where to where (addresses) a library is mapped that nobody may write, and nobody wrote."""
    for text in re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", MAPPED.read_text()):
        head, changed = _HEAD.search(text), _CHANGED.search(text)
        if head and changed and library in head[4] and "w" not in head[3] and changed[1] == "0":
            yield int(head[1], 16), int(head[2], 16)
