"""Records of a replay in the order in which they are sent, and the digest that proves replays the same."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from replay.disturbances import Mark


@dataclass(frozen=True, slots=True)
class Records:
    """R records."""

    keys: list[bytes]
    values: list[bytes]
    #: (R,) timestamps, epoch ms.
    time_ms: NDArray[np.int64]
    #: (R,) when each is due (s); of event time after the first event, or after the start of the replay.
    due_s: NDArray[np.float64]
    #: (R,) what was done to each, of `Mark`.
    marks: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, order: NDArray[np.int64]) -> "Records":
        """Return the records at these places, in this order."""
        places = order.tolist()
        return Records(
            [self.keys[place] for place in places],
            [self.values[place] for place in places],
            self.time_ms[order],
            self.due_s[order],
            self.marks[order],
        )

    def part(self, rows: slice) -> "Records":
        """Return the records of a slice."""
        return Records(
            self.keys[rows], self.values[rows], self.time_ms[rows], self.due_s[rows], self.marks[rows]
        )

    def due(self, due_s: NDArray[np.float64]) -> "Records":
        """Return the records, due at other times (R,)."""
        return replace(self, due_s=due_s)


def nothing() -> Records:
    """Return no records."""
    return Records([], [], np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.uint8))


def joined(parts: Sequence[Records]) -> Records:
    """Return the records of all parts, one after another."""
    return Records(
        [key for part in parts for key in part.keys],
        [value for part in parts for value in part.values],
        np.concatenate([part.time_ms for part in parts]),
        np.concatenate([part.due_s for part in parts]),
        np.concatenate([part.marks for part in parts]),
    )


class Digest:
    """A hash of keys, values and timestamps in their order, however they are handed over."""

    def __init__(self) -> None:
        self._keys, self._values, self._times = (xxhash.xxh3_128() for _ in range(3))

    def add(self, records: Records) -> None:
        """Take in the next records."""
        for digest, texts in ((self._keys, records.keys), (self._values, records.values)):
            if texts:
                digest.update(b"\0".join(texts))
                digest.update(b"\0")
        self._times.update(np.ascontiguousarray(records.time_ms, dtype="<i8").tobytes())

    def __str__(self) -> str:
        parts = b"".join(each.digest() for each in (self._keys, self._values, self._times))
        return xxhash.xxh3_128_hexdigest(parts)


def spoil(record: tuple[bytes, bytes], defect: int) -> tuple[bytes, bytes]:
    """Return a key and a value as no worker can use them; `defect` is an index into DEFECTS."""
    return DEFECTS[defect](*record)


def _with(name: str, wrong: object) -> Callable[[bytes, bytes], tuple[bytes, bytes]]:
    """Return what gives a value something else in one of its fields."""
    return lambda key, value: (key, msgspec.json.encode(msgspec.json.decode(value) | {name: wrong}))


#: What can be wrong with a record: each ends among a worker's dead letters, for a reason of its own.
DEFECTS: tuple[Callable[[bytes, bytes], tuple[bytes, bytes]], ...] = (
    lambda key, value: (key, value[: len(value) // 2]),
    _with("item_id", ""),
    _with("behavior_type", 9),
    _with("time", -1),
    lambda key, value: (key + b"?", value),
)

#: Every mark by the name that a report gives it.
MARK_NAMES = {
    Mark.DUPLICATE: "duplicates",
    Mark.MALFORMED: "malformed",
    Mark.DISORDERED: "disordered",
    Mark.LATE: "late",
    Mark.HOT_USER: "hot_user",
}


def counts_of(marks: NDArray[np.uint8]) -> dict[str, int]:
    """Return how many records (R,) are rows of the log, and how many have each mark."""
    by_marks = np.bincount(marks, minlength=1 << len(MARK_NAMES))
    kinds = np.arange(len(by_marks))
    of_rows = kinds & (Mark.DUPLICATE | Mark.MALFORMED) == 0
    return {"rows": int(by_marks[of_rows].sum())} | {
        name: int(by_marks[kinds & int(mark) > 0].sum()) for mark, name in MARK_NAMES.items()
    }
