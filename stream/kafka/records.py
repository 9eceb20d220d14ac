"""Records of a partition as columns: keys, values and offsets, and each record by itself for whoever asks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from models.arrays import Ints
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
    has none. position: the offset behind all that is read of the partition, ends of transactions included
    where the reader is told of a partition's end.
    """

    keys: Payloads
    values: Payloads
    offsets: Ints
    each: Sequence[Record]
    last_headers: Callable[[str, Ints], Sequence[bytes | None]]
    position: int

    def __len__(self) -> int:
        return len(self.offsets)


def records_of(fetched: Sequence[Record], position: int = -1) -> Records:
    """Return records, and that so much was read, if it is more than they are."""

    def last_headers(name: str, places: Ints) -> list[bytes | None]:
        return [dict(fetched[place].headers() or ()).get(name) for place in places.tolist()]

    return Records(
        payloads_of([record.key() for record in fetched]),
        payloads_of([record.value() for record in fetched]),
        np.array([record.offset() for record in fetched], np.int64),
        fetched,
        last_headers,
        max(position, fetched[-1].offset() + 1) if fetched else position,
    )
