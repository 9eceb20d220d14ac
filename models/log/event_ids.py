"""The id of each row's event: what stands in the row, and how many equal rows stand before it.

So a row keeps its id when others are added or mended, wherever it stands, in whatever file: what was sent
before is known when it comes again. Rows that are equal in every column are as many events.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from models.log.behaviour_log import BehaviourLog

#: An odd number half of whose bits are set, and how far a product's high bits are brought down.
FACTOR, SHIFT = np.uint64(0x9E3779B97F4A7C15), np.uint64(32)


class EventIds:
    """The ids of a log's events: 16 hexadecimal digits, and `-1` and so on for rows that are like one before.

    Parts of a log have the ids of the whole where they have all of its equal rows, or the first of them: rows
    chosen by time, user or item, or the first so many in the order of time or the log.
    """

    def __init__(self, log: BehaviourLog) -> None:
        self._hash = _hash_of(log)
        self._copy = _copies(self._hash, log.line)

    def parts(self, rows: slice | NDArray[Any]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Return what these rows' ids are made of: a hash, and how many equal rows stand before each."""
        return self._hash[rows], self._copy[rows]

    def of(self, rows: slice | NDArray[Any]) -> list[str]:
        """Return the ids of these rows' events."""
        hashed, copy = self.parts(rows)
        pairs = zip(hashed.tolist(), copy.tolist(), strict=True)
        return [f"{hashed:016x}-{copy}" if copy else f"{hashed:016x}" for hashed, copy in pairs]


def _hash_of(log: BehaviourLog) -> NDArray[np.uint64]:
    """Return a hash (R,) of all that stands in each row."""
    hashed = np.zeros(len(log), dtype=np.uint64)
    for column in (log.user, log.item, log.category, log.geohash):
        _mix(hashed, _hashes(column.values)[column.codes])
    _mix(hashed, log.behaviour)
    _mix(hashed, log.time_ms.view(np.uint64))
    return hashed


def _hashes(values: Sequence[str] | NDArray[np.object_]) -> NDArray[np.uint64]:
    found = (xxhash.xxh3_64_intdigest(text.encode()) for text in values)
    return np.fromiter(found, np.uint64, len(values))


def _mix(hashed: NDArray[np.uint64], values: NDArray[Any]) -> None:
    """Mix the next values (R,) into hashes (R,), in place."""
    hashed ^= values
    hashed *= FACTOR
    hashed ^= hashed >> SHIFT
    hashed *= FACTOR


def _copies(hashed: NDArray[np.uint64], line: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many equal rows stand before each row (R,); a line that is there twice is one row."""
    copy = np.zeros(len(hashed), dtype=np.int64)
    order = np.argsort(hashed)
    is_like_next = np.append(hashed[order[1:]] == hashed[order[:-1]], False)[: len(order)]
    rows = order[is_like_next | np.roll(is_like_next, 1)]
    if not len(rows):
        return copy
    rows = rows[np.lexsort((line[rows], hashed[rows]))]
    is_other = np.diff(hashed[rows], prepend=~hashed[rows[:1]]) != 0
    lines_before = np.cumsum(is_other | (np.diff(line[rows], prepend=-1) != 0))
    copy[rows] = lines_before - np.maximum.accumulate(np.where(is_other, lines_before, 0))
    return copy
