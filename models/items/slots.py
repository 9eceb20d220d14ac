"""Places for what is known by 64 bits, in the order of its last use, as compiled loops keep them.

Open addressing, at most half full; a doubly linked list from the newest to the oldest. Rows that stand in no
list, as those of a model's own items (`tables.fill_known`), are never taken for others.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.arrays import Ints, Words
from models.compiled import compiled

Places = npt.NDArray[np.int32]

#: The numbers in `Slots.ends`.
NEWEST, OLDEST, USED, FREE = 0, 1, 2, 3
NOBODY = np.int32(-1)


class Slots(NamedTuple):
    """N rows: table (a power of two) of rows, -1 where free; hashes (N,); newer, older (N,) rows or -1.

    ends (4,): the newest and the oldest row, how many rows were ever used, and the first free one below that
    (the next is its `older`).
    """

    table: Places
    hashes: Words
    newer: Places
    older: Places
    ends: Ints


def make_slots(capacity: int) -> Slots:
    """Return rows that nothing uses."""
    nobody = np.full(capacity, NOBODY, np.int32)
    table = np.full(1 << max(2 * capacity - 1, 1).bit_length(), NOBODY, np.int32)
    ends = np.array([NOBODY, NOBODY, 0, NOBODY], np.int64)
    return Slots(table, np.zeros(capacity, np.uint64), nobody, nobody.copy(), ends)


def grown(slots: Slots, capacity: int, is_used: npt.NDArray[np.bool_]) -> Slots:
    """Return the same rows and places for more; is_used (USED,) says which rows are not free."""
    wider = make_slots(capacity)
    for name in ("hashes", "newer", "older"):
        old = getattr(slots, name)
        getattr(wider, name)[: len(old)] = old
    wider.ends[:] = slots.ends
    refill(wider, np.flatnonzero(is_used))
    return wider


@compiled
def refill(slots: Slots, rows: Ints) -> None:
    """Write rows, whose hashes are known, into an empty table."""
    mask = len(slots.table) - 1
    for row in rows:
        place = np.int64(slots.hashes[row] & np.uint64(mask))
        while slots.table[place] >= 0:
            place = (place + 1) & mask
        slots.table[place] = row


@compiled
def find(slots: Slots, bits: np.uint64) -> int:
    """Return the row that has these bits, -1 where none has."""
    mask = len(slots.table) - 1
    place = np.int64(bits & np.uint64(mask))
    while slots.table[place] >= 0:
        row = slots.table[place]
        if slots.hashes[row] == bits:
            return int(row)
        place = (place + 1) & mask
    return -1


@compiled
def find_all(slots: Slots, bits: Words, found: Ints) -> None:
    """Write the row (n,) of each of these bits (n,), as `find` does."""
    for each in range(len(bits)):
        found[each] = find(slots, bits[each])


@compiled
def take(slots: Slots, bits: np.uint64, limit: int) -> int:
    """Return a row for new bits, as the newest: a free one, or that of the oldest where `limit` are used."""
    if slots.ends[FREE] < 0 and slots.ends[USED] >= limit:
        release(slots, slots.ends[OLDEST])
    if slots.ends[FREE] >= 0:
        row = slots.ends[FREE]
        slots.ends[FREE] = slots.older[row]
    else:
        row = slots.ends[USED]
        slots.ends[USED] += 1
    slots.hashes[row] = bits
    mask = len(slots.table) - 1
    place = np.int64(bits & np.uint64(mask))
    while slots.table[place] >= 0:
        place = (place + 1) & mask
    slots.table[place] = row
    _put_first(slots, row)
    return int(row)


@compiled
def touch(slots: Slots, row: int) -> None:
    """Make a row that stands in the list the newest."""
    if slots.ends[NEWEST] != row:
        _take_out(slots, row)
        _put_first(slots, row)


@compiled
def release(slots: Slots, row: int) -> None:
    """Free a row that stands in the list."""
    _take_out(slots, row)
    forget(slots, row)
    slots.older[row] = slots.ends[FREE]
    slots.ends[FREE] = row


@compiled
def forget(slots: Slots, row: int) -> None:
    """Have the table know a row no more."""
    table, mask = slots.table, len(slots.table) - 1
    place = np.int64(slots.hashes[row] & np.uint64(mask))
    while table[place] != row:
        place = (place + 1) & mask
    # Rows behind the gap move into it, as far as they are then still found (Knuth, volume 3, 6.4, R).
    gap, table[place] = place, NOBODY
    while True:
        place = (place + 1) & mask
        if table[place] < 0:
            return
        home = np.int64(slots.hashes[table[place]] & np.uint64(mask))
        if ((place - home) & mask) >= ((place - gap) & mask):
            table[gap], table[place] = table[place], NOBODY
            gap = place


@compiled
def _put_first(slots: Slots, row: int) -> None:
    first = slots.ends[NEWEST]
    slots.newer[row], slots.older[row] = NOBODY, first
    if first >= 0:
        slots.newer[first] = row
    else:
        slots.ends[OLDEST] = row
    slots.ends[NEWEST] = row


@compiled
def _take_out(slots: Slots, row: int) -> None:
    newer, older = slots.newer[row], slots.older[row]
    if newer >= 0:
        slots.older[newer] = older
    else:
        slots.ends[NEWEST] = older
    if older >= 0:
        slots.newer[older] = newer
    else:
        slots.ends[OLDEST] = newer
