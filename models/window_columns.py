"""Windows' binary values -> columns of numbers, a whole batch at once and outside the interpreter lock."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from models.id_table import IdTable, find
from models.window import HEADER, read_header

Ints = npt.NDArray[np.int64]

HEADER_BYTES = HEADER.size


class WindowColumns(NamedTuple):
    """The E events of B windows, one window after the other, each oldest first.

    item, category (E,) place of the id in its table, -1 where it is not there; behaviour (E,) uint8; time_ms
    (E,); starts (B+1,): the events of window b are starts[b] to starts[b+1].
    """

    item: Ints
    category: Ints
    behaviour: npt.NDArray[np.uint8]
    time_ms: Ints
    starts: Ints


def read_windows(values: Sequence[bytes], items: IdTable, categories: IdTable) -> WindowColumns:
    """Return what the windows hold, as places in these tables.

    Raises WindowError where a value is not a window of this format.
    """
    starts = np.zeros(len(values) + 1, np.int64)
    np.cumsum([read_header(value).events for value in values], out=starts[1:])
    value_starts = np.zeros(len(values) + 1, np.int64)
    np.cumsum([len(value) for value in values], out=value_starts[1:])
    joined = np.frombuffer(b"".join(values), np.uint8)
    count = int(starts[-1])
    columns = WindowColumns(
        item=np.empty(count, np.int64),
        category=np.empty(count, np.int64),
        behaviour=np.empty(count, np.uint8),
        time_ms=np.empty(count, np.int64),
        starts=starts,
    )
    _read(joined, joined.view(np.int64), value_starts, *items, *categories, *columns)
    return columns


@njit(cache=True, nogil=True)
def _read(  # type: ignore[no-untyped-def]
    joined,
    joined64,
    value_starts,
    item_slots,
    item_ids,
    item_starts,
    category_slots,
    category_ids,
    category_starts,
    items,
    categories,
    behaviours,
    times_ms,
    starts,
):
    joined16, joined32 = joined.view(np.uint16), joined.view(np.int32)
    for window in range(len(value_starts) - 1):
        value, first = value_starts[window], starts[window]
        count = starts[window + 1] - first
        edges, item_bytes = joined16[value // 2 + 1], joined32[value // 4 + 3]
        times = value // 8 + HEADER_BYTES // 8
        lengths = (times + 2 * count + edges) * 4
        old_behaviours = (lengths + 2 * count) * 2
        item = old_behaviours + count
        category = item + item_bytes
        for event in range(count):
            times_ms[first + event] = joined64[times + event]
            behaviours[first + event] = joined[old_behaviours + event]
            end = item + joined16[lengths + event]
            items[first + event] = find(item_slots, item_ids, item_starts, joined, item, end)
            item = end
            end = category + joined16[lengths + count + event]
            categories[first + event] = find(
                category_slots, category_ids, category_starts, joined, category, end
            )
            category = end
