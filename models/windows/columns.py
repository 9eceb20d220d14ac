"""Windows' binary values -> columns of numbers, a whole batch at once and outside the interpreter lock."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from models.ids.id_table import READ_AHEAD
from models.ids.vocabulary import Vocabulary
from models.windows.window import HEADER, WINDOW_FORMAT, WindowError, read_header

Ints = npt.NDArray[np.int64]

HEADER_BYTES = HEADER.size


class WindowColumns(NamedTuple):
    """The E events of B windows, one window after the other, each oldest first.

    item, category (E,) indices of the vocabulary; behaviour (E,) uint8; time_ms (E,); starts (B+1,): the
    events of window b are starts[b] to starts[b+1].
    """

    item: Ints
    category: Ints
    behaviour: npt.NDArray[np.uint8]
    time_ms: Ints
    starts: Ints


def read_windows(values: Sequence[bytes], vocabulary: Vocabulary) -> WindowColumns:
    """Return what the windows hold; a known item has its own category, whatever its event names.

    Raises WindowError where a value is not a window of this format.
    """
    value_starts = np.zeros(len(values) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, values), np.int64, len(values)), out=value_starts[1:])
    joined = np.frombuffer(b"".join([*values, READ_AHEAD]), np.uint8)
    joined = joined[: len(joined) // 8 * 8]  # a damaged value may be of any length
    starts = np.zeros(len(values) + 1, np.int64)
    damaged = _count(joined, value_starts, starts)
    if damaged >= 0:
        read_header(values[damaged])  # says what is wrong with it
        raise WindowError("a stored window is damaged")
    count = int(starts[-1])
    behaviour, time_ms = np.empty(count, np.uint8), np.empty(count, np.int64)
    places = np.empty((4, count), np.int64)
    _read(joined, value_starts, starts, behaviour, time_ms, places)
    item, category = vocabulary.indices_at(joined.view(np.uint64), places)
    return WindowColumns(item, category, behaviour, time_ms, starts)


@njit(cache=True, nogil=True)
def _count(joined, value_starts, starts):  # type: ignore[no-untyped-def]
    """Add up the windows' events; return the first window that is damaged, -1 where none is."""
    joined16, joined32 = joined.view(np.uint16), joined.view(np.int32)
    for window in range(len(starts) - 1):
        value, size = value_starts[window], value_starts[window + 1] - value_starts[window]
        if size < HEADER_BYTES or joined[value] != WINDOW_FORMAT:
            return window
        topic_bytes, edges, events = joined[value + 1], joined16[value // 2 + 1], joined32[value // 4 + 1]
        id_bytes = joined32[value // 4 + 3] + joined32[value // 4 + 4]
        if size != (HEADER_BYTES + 21 * events + 8 * edges + id_bytes + topic_bytes + 7) // 8 * 8:
            return window
        starts[window + 1] = starts[window] + events
    return -1


@njit(cache=True, nogil=True)
def _read(joined, value_starts, starts, behaviours, times_ms, places):  # type: ignore[no-untyped-def]
    """Write the events' behaviours, times, and (4, E) where their items and categories begin and end."""
    joined16, joined32, joined64 = joined.view(np.uint16), joined.view(np.int32), joined.view(np.int64)
    for window in range(len(starts) - 1):
        value, first, count = value_starts[window], starts[window], starts[window + 1] - starts[window]
        edges, item_bytes = joined16[value // 2 + 1], joined32[value // 4 + 3]
        times = value // 8 + HEADER_BYTES // 8
        lengths = (times + 2 * count + edges) * 4
        old_behaviours = (lengths + 2 * count) * 2
        item = old_behaviours + count
        category = item + item_bytes
        for event in range(count):
            times_ms[first + event] = joined64[times + event]
            behaviours[first + event] = joined[old_behaviours + event]
            places[0, first + event], places[2, first + event] = item, category
            item += joined16[lengths + event]
            category += joined16[lengths + count + event]
            places[1, first + event], places[3, first + event] = item, category
