"""What events to come will touch, fetched into the CPU's cache meanwhile; what is computed stays the same.

A step reads and writes some fifty rows of tables that are far larger than any cache: waiting for one after
the other takes longer than the step. Letters as in rows.py.
"""

from typing import Any

import numpy as np

from models.compiled import compiled_within, fetch_line
from models.ids.hashes import mixed
from models.items.rows import COUNTED, Batch, Items, Room, Stream, Users
from models.items.slots import Slots, find
from models.items.trained import Trained

#: How many events before it is needed: a place in a hash table; a row that is found there; the rows of the
#: items that a user's last events are of.
PLACES_AHEAD, ROWS_AHEAD, ITEMS_AHEAD = 8, 4, 2
#: Bytes that a CPU fetches at once.
_LINE = 64


@compiled_within
def look_ahead(
    batch: Batch,
    event: int,
    items: Items,
    item_slots: Slots,
    users: Users,
    user_slots: Slots,
    trained: Trained,
) -> None:
    """Fetch what the events behind this one will touch, as far as is known by now."""
    count = len(batch.user)
    if event + PLACES_AHEAD < count:
        to_come = event + PLACES_AHEAD
        _fetch_place(user_slots, batch.users[batch.user[to_come]])
        _fetch_place(item_slots, batch.item[to_come])
    if event + ROWS_AHEAD < count:
        to_come = event + ROWS_AHEAD
        _fetch_user(users, find(user_slots, batch.users[batch.user[to_come]]))
        _fetch_counts(items, find(item_slots, batch.item[to_come]))
    if event + ITEMS_AHEAD < count:
        to_come = event + ITEMS_AHEAD
        _fetch_inputs(items, users, find(user_slots, batch.users[batch.user[to_come]]))
        _fetch_target(items, trained, find(item_slots, batch.item[to_come]))


@compiled_within
def fetch_negatives(items: Items, stream: Stream, seed: int, room: Room) -> None:
    """Fetch the items that will be drawn beside the next event that counts: see `step._draw`."""
    held = min(stream.numbers[COUNTED], len(stream.recent))
    start = mixed(np.uint64(seed) ^ mixed(np.uint64(stream.numbers[COUNTED])))
    for each in range(1, len(room.drawn)):
        draw = mixed(start + np.uint64(each)) >> np.uint64(32)
        drawn = stream.recent[np.int64((draw * np.uint64(held)) >> np.uint64(32)), 0]
        fetch_row(items.outputs, drawn)
        fetch_row(items.generation, drawn)
        fetch_row(items.output_squares, drawn)
        fetch_row(items.revision, drawn)
        fetch_row(items.trained, drawn)


@compiled_within
def fetch_row(table: "np.ndarray[Any, Any]", row: int) -> None:
    """Fetch a row of a table (N, ...), or an element of (N,)."""
    begin = np.uint64(table.ctypes.data) + np.uint64(row * table.strides[0])
    for line in range(0, table.strides[0], _LINE):
        fetch_line(begin + np.uint64(line))


@compiled_within
def _fetch_place(slots: Slots, bits: np.uint64) -> None:
    fetch_row(slots.table, int(bits & np.uint64(len(slots.table) - 1)))


@compiled_within
def _fetch_user(users: Users, user: int) -> None:
    if user >= 0:
        fetch_row(users.item, user)
        fetch_row(users.generation, user)
        fetch_row(users.time_ms, user)
        fetch_row(users.event_hash, user)


@compiled_within
def _fetch_counts(items: Items, row: int) -> None:
    if row >= 0:
        fetch_row(items.counts, row)
        fetch_row(items.counted_ms, row)
        fetch_row(items.readers, row)
        fetch_row(items.reader_hashes, row)
        fetch_row(items.last_ms, row)
        fetch_row(items.trained, row)


@compiled_within
def _fetch_inputs(items: Items, users: Users, user: int) -> None:
    if user >= 0:
        for place in range(min(users.had[user], users.item.shape[1])):
            row = users.item[user, place]
            fetch_row(items.inputs, row)
            fetch_row(items.generation, row)
            fetch_row(items.input_squares, row)
            fetch_row(items.revision, row)


@compiled_within
def _fetch_target(items: Items, trained: Trained, row: int) -> None:
    if row >= 0:
        fetch_row(items.outputs, row)
        fetch_row(items.inputs, row)
        if items.trained[row] >= 0:
            fetch_row(trained.inputs, items.trained[row])
            fetch_row(trained.outputs, items.trained[row])
