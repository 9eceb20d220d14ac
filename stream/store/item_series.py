"""Reading live items, or inputs, from Redis: what changed since the last time, or all there is.

Needs neither torch nor Faust.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

import redis

from stream.store.item_rows import HEADER_FIELDS, ItemsHeader, parse_header
from stream.store.keys import ItemKeys

Rows = TypeVar("Rows")

#: Chunks and deltas of one round trip.
KEYS_PER_TRIP = 64
#: How often reading begins anew because what is read was replaced meanwhile.
ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Read(Generic[Rows]):
    """What was read: the header, and the rows of each snapshot, in the order in which they count.

    is_whole: these are all rows; else they are what changed.
    """

    header: ItemsHeader
    parts: list[tuple[int, Rows]]
    is_whole: bool

    @property
    def rows(self) -> list[Rows]:
        """Return the rows alone."""
        return [rows for _, rows in self.parts]


@dataclass(frozen=True, slots=True)
class Kept(Generic[Rows]):
    """All that Redis keeps: the header, and chunks, in their order, and deltas, each with its snapshot."""

    header: ItemsHeader
    chunks: list[tuple[int, Rows]]
    deltas: list[tuple[int, Rows]]


class ItemSeries(Generic[Rows]):
    """The live items, or inputs, of one model. Every method raises redis.RedisError."""

    def __init__(
        self,
        client: "redis.Redis",
        keys: ItemKeys,
        known: int,
        rows_of: Callable[[bytes], tuple[int, Rows]],
    ) -> None:
        """known: how many items the model has; rows_of: returns the snapshot and the rows of a value."""
        self._client, self._keys, self._known, self._rows_of = client, keys, known, rows_of

    def read(self, held: ItemsHeader | None) -> Read[Rows] | str:
        """Return what is new since a header, None for none; or why there is nothing to be used."""
        for _ in range(ATTEMPTS):
            header = self._read_header()
            if header is None:
                return "no item learner has run for this model"
            if header.stopped:
                return f"the item learner has stopped: {header.stopped}"
            if header.known != self._known:
                return f"they are of another model: it has {header.known} items"
            if (read := self._changes(held, header)) is not None:
                return read
            if (kept := self._kept(header)) is not None:
                # In the order of snapshots, each row's last value is its newest, be it of a chunk or a delta.
                parts = sorted([*kept.chunks, *kept.deltas], key=lambda part: part[0])
                return Read(kept.header, parts, True)
        return "they are not whole in Redis at the moment"

    def kept(self) -> Kept[Rows] | None:
        """Return all there is, deltas too that the chunks know by now; None where nothing is there whole."""
        for _ in range(ATTEMPTS):
            header = self._read_header()
            found = self._kept(header) if header else None
            if found is not None:
                return self._with_older(found)
        return None

    def _with_older(self, kept: Kept[Rows]) -> Kept[Rows]:
        first, older = kept.header.oldest, []
        while first > 1 and (found := self._deltas(kept.header, first - 1, first)):
            older.append(found[0])
            first -= 1
        return Kept(kept.header, kept.chunks, [*older[::-1], *kept.deltas])

    def _read_header(self) -> ItemsHeader | None:
        found = self._client.hmget(self._keys.header, HEADER_FIELDS)
        return parse_header(cast(list[bytes | None], found))

    def _changes(self, held: ItemsHeader | None, header: ItemsHeader) -> Read[Rows] | None:
        """Return what changed since a header; None where everything has to be read."""
        if held is None or held.run != header.run or held.snapshot > header.snapshot:
            return None
        deltas = self._deltas(header, held.snapshot + 1, header.snapshot + 1)
        return None if deltas is None else Read(header, deltas, False)

    def _kept(self, header: ItemsHeader) -> Kept[Rows] | None:
        """Return the chunks, and the deltas that they lack; None where some were replaced meanwhile."""
        keys = [self._keys.chunk(header.run, number) for number in range(header.chunks)]
        values = self._values(keys)
        if None in values:
            return None
        chunks = [self._rows_of(value) for value in values if value is not None]
        newest = max((snapshot for snapshot, _ in chunks), default=0)
        if newest > header.snapshot:  # written after the header was read
            later = self._read_header()
            if later is None or later.run != header.run or later.snapshot < newest:
                return None
            header = later
        deltas = self._deltas(header, header.oldest, header.snapshot + 1)
        return None if deltas is None else Kept(header, chunks, deltas)

    def _deltas(self, header: ItemsHeader, first: int, end: int) -> list[tuple[int, Rows]] | None:
        """Return the deltas from one snapshot to before another; None where one is gone."""
        numbers = range(first, end)
        values = self._values([self._keys.delta(header.run, number) for number in numbers])
        found = [self._rows_of(value) for value in values if value is not None]
        return found if len(found) == len(numbers) else None

    def _values(self, keys: list[str]) -> list[bytes | None]:
        values: list[bytes | None] = []
        for start in range(0, len(keys), KEYS_PER_TRIP):
            some = keys[start : start + KEYS_PER_TRIP]
            values += cast(list[bytes | None], self._client.mget(some))
        return values
