"""Records of a partition as columns: keys, values and offsets, and each record by itself for whoever asks."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, overload

import numpy as np

from models.arrays import Ints, Words
from models.payloads import Payloads, payloads_of


class Record(Protocol):
    """What is needed of a Kafka record (confluent_kafka.Message)."""

    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def offset(self) -> int: ...
    def timestamp(self) -> tuple[int, int]: ...
    def headers(self) -> Sequence[tuple[str, bytes]] | None: ...


@dataclass(frozen=True, slots=True)
class Records:
    """R records in offset order: keys and values, R of each; offsets (R,); each by itself in `each`.

    last_headers: returns the last header of a name that the records at some places (V,) have, None where one
    has none. timestamps: returns those of all (R,), epoch ms. position: the offset behind all that is read of
    the partition, ends of transactions included where the reader is told of a partition's end. is_at_end:
    that end was told, and stands behind all of them. addresses (R,): where librdkafka has each, as long as
    `each` lives; None where they came as objects.
    """

    keys: Payloads
    values: Payloads
    offsets: Ints
    each: Sequence[Record]
    last_headers: Callable[[str, Ints], Sequence[bytes | None]]
    timestamps: Callable[[], Ints]
    position: int
    is_at_end: bool = False
    addresses: Words | None = None

    def __len__(self) -> int:
        return len(self.offsets)

    def at(self, places: Ints) -> "Records":
        """Return the records at some places (P,), which ascend."""

        def last_headers(name: str, some: Ints) -> Sequence[bytes | None]:
            return self.last_headers(name, places[some])

        return Records(
            self.keys.at(places),
            self.values.at(places),
            self.offsets[places],
            _Some(self.each, places),
            last_headers,
            lambda: self.timestamps()[places],
            self.position,
            self.is_at_end,
            None if self.addresses is None else self.addresses[places],
        )


class EachRecord(Sequence[Record]):
    """Records that are made when they are asked for."""

    __slots__ = ()

    @abstractmethod
    def record(self, place: int) -> Record:
        """Return the record at a place."""

    @overload
    def __getitem__(self, place: int) -> Record: ...
    @overload
    def __getitem__(self, place: slice) -> list[Record]: ...
    def __getitem__(self, place: int | slice) -> Record | list[Record]:
        if isinstance(place, slice):
            return [self.record(each) for each in range(*place.indices(len(self)))]
        return self.record(place)


@dataclass(frozen=True, slots=True)
class _Some(EachRecord):
    """The records at some places (P,) of others."""

    each: Sequence[Record]
    places: Ints

    def __len__(self) -> int:
        return len(self.places)

    def record(self, place: int) -> Record:
        return self.each[int(self.places[place])]


def records_of(fetched: Sequence[Record], end: int = -1) -> Records:
    """Return records of a partition; `end`: where that ends, if it was told."""

    def last_headers(name: str, places: Ints) -> list[bytes | None]:
        return [dict(fetched[place].headers() or ()).get(name) for place in places.tolist()]

    behind = fetched[-1].offset() + 1 if fetched else 0
    return Records(
        payloads_of([record.key() for record in fetched]),
        payloads_of([record.value() for record in fetched]),
        np.array([record.offset() for record in fetched], np.int64),
        fetched,
        last_headers,
        lambda: np.array([record.timestamp()[1] for record in fetched], np.int64),
        max(end, behind),
        is_at_end=end >= behind,
    )
