"""Waiting until records are due, with the clock and the sleep passed in."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")

#: Records that fall due within this time are sent together (s).
SLICE_S = 0.005
#: Longest sleep, so that a signal is noticed and delivery reports are served (s).
MAX_SLEEP_S = 0.2
#: Records sent at most before the caller is asked again.
MAX_SLICE_RECORDS = 4_000
#: Blocks made before they are needed.
BLOCKS_AHEAD = 2


def paced_slices(
    due_s: NDArray[np.float64], clock: Callable[[], float], sleep: Callable[[float], None]
) -> Iterator[slice]:
    """Yield runs of records as they fall due; an empty one after each sleep in which none did.

    due_s (R,) ascending, by the clock. Behind time, runs follow each other without sleep.
    """
    record = 0
    while record < len(due_s):
        now_s = clock()
        end = int(np.searchsorted(due_s, now_s, side="right"))
        end = min(end, record + MAX_SLICE_RECORDS)
        if end <= record:
            end = record
            sleep(min(max(due_s[record] - now_s, SLICE_S), MAX_SLEEP_S))
        yield slice(record, end)
        record = end


def ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield the items, which another thread makes a few ahead, so that nothing waits for them."""
    over = object()
    with ThreadPoolExecutor(1, "ahead") as thread:
        made = deque(thread.submit(next, items, over) for _ in range(BLOCKS_AHEAD))
        try:
            while (item := made.popleft().result()) is not over:
                made.append(thread.submit(next, items, over))
                yield item  # type: ignore[misc]
        finally:
            thread.shutdown(wait=True, cancel_futures=True)
