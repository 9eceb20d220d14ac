"""Windows' binary values -> columns of numbers, a whole batch at once and outside the interpreter lock."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from models.arrays import Bytes, Ints
from models.compiled import compiled
from models.ids.hashes import hashes_at
from models.ids.id_table import READ_AHEAD
from models.ids.vocabulary import Vocabulary
from models.windows.buffer import buffer_of, find_places
from models.windows.live_inputs import LiveEvents, LiveInputs, newest_events
from models.windows.window import WindowError, read_header


class WindowColumns(NamedTuple):
    """The E events of B windows, one window after the other, each oldest first.

    item, category (E,) indices of the vocabulary; behaviour (E,) uint8; time_ms (E,); starts (B+1,): the
    events of window b are starts[b] to starts[b+1]; live: which of them read live inputs, None where there
    are none.
    """

    item: Ints
    category: Ints
    behaviour: Bytes
    time_ms: Ints
    starts: Ints
    live: LiveEvents | None


class PlacedEvents(NamedTuple):
    """The E events of B windows, one window after the other, and where their ids stand in the windows' text.

    text (bytes,) uint8: the values, one behind the other, and at least `READ_AHEAD`; behaviour, time_ms (E,);
    id_places (4, E): the bytes of the text where each event's item id begins and ends, and its category's;
    starts (B+1,): as in `WindowColumns`.
    """

    text: Bytes
    behaviour: Bytes
    time_ms: Ints
    id_places: Ints
    starts: Ints


def read_windows(
    values: Sequence[bytes], vocabulary: Vocabulary, live: LiveInputs | None = None
) -> WindowColumns:
    """Return what the windows hold; a known item has its own category, whatever its event names.

    Raises WindowError where a value is not a window of this format.
    """
    events = read_events(values)
    item, category = vocabulary.indices_at(events.text.view(np.uint64), events.id_places)
    found = _live_events(events, live) if live else None
    return WindowColumns(item, category, events.behaviour, events.time_ms, events.starts, found)


def _live_events(events: PlacedEvents, live: LiveInputs) -> LiveEvents:
    newest = newest_events(events.starts, live.reach)
    row = np.full(len(events.time_ms), -1, np.int64)
    row[newest] = live.table.find(hashes_at(events.text.view(np.uint64), *events.id_places[:2, newest]))
    return LiveEvents(live, row)


def read_events(values: Sequence[bytes]) -> PlacedEvents:
    """Return the windows' events without reading their ids; WindowError as above."""
    value_starts = np.zeros(len(values) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, values), np.int64, len(values)), out=value_starts[1:])
    joined = np.frombuffer(b"".join([*values, READ_AHEAD]), np.uint8)
    joined = joined[: len(joined) // 8 * 8]  # a damaged value may be of any length
    starts = np.zeros(len(values) + 1, np.int64)
    int64s = joined.view(np.int64)
    damaged = _count(int64s, value_starts, starts)
    if damaged >= 0:
        read_header(values[damaged])  # says what is wrong with it
        raise WindowError("a stored window is damaged")
    count = int(starts[-1])
    behaviour, time_ms = np.empty(count, np.uint8), np.empty(count, np.int64)
    id_places = np.empty((4, count), np.int64)
    _read(int64s, value_starts, starts, behaviour, time_ms, id_places)
    return PlacedEvents(joined, behaviour, time_ms, id_places, starts)


@compiled
def _count(int64s: Ints, value_starts: Ints, starts: Ints) -> int:
    """Add up the windows' events; return the first window that is damaged, -1 where none is."""
    buffer = buffer_of(int64s)
    for window in range(len(starts) - 1):
        value = value_starts[window]
        if find_places(buffer.headers, value, value_starts[window + 1] - value).end < 0:
            return window
        starts[window + 1] = starts[window] + buffer.headers[value // 8].events
    return -1


@compiled
def _read(
    int64s: Ints, value_starts: Ints, starts: Ints, behaviours: Bytes, times_ms: Ints, id_places: Ints
) -> None:
    """Write the events' behaviours, times, and (4, E) where their items and categories begin and end."""
    buffer = buffer_of(int64s)
    for window in range(len(starts) - 1):
        value = value_starts[window]
        places = find_places(buffer.headers, value, value_starts[window + 1] - value)
        times, item_lengths = places.times // 8, places.item_lengths // 2
        category_lengths = places.category_lengths // 2
        item, category = places.items, places.categories
        first = starts[window]
        for event in range(starts[window + 1] - first):
            times_ms[first + event] = buffer.int64s[times + event]
            behaviours[first + event] = buffer.uint8s[places.behaviours + event]
            id_places[0, first + event], id_places[2, first + event] = item, category
            item += buffer.uint16s[item_lengths + event]
            category += buffer.uint16s[category_lengths + event]
            id_places[1, first + event], id_places[3, first + event] = item, category
