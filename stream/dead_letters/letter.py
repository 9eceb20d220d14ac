"""A dead letter: a record as it came, what was wrong with it, and how often it was tried again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import msgspec
from confluent_kafka import Message

from stream.events.incoming import REDRIVEN_HEADER, Record, Rejected

#: Headers of a record; Kafka allows several of one name, and values that are null.
Headers = Sequence[tuple[str, bytes | None]]

#: The first of the headers that the worker puts behind the record's own.
_FIRST = "reason"

#: Headers with the sizes of a key, a value or headers that are cut short (bytes).
_CUT = ("key_bytes", "value_bytes", "headers_bytes")

#: Bytes that the lengths of a header's name and value take at most.
HEADER_FRAME_BYTES = 10


class Origin(msgspec.Struct, frozen=True):
    """Where a redriven record came from: a place on the dead-letter topic. Its header holds this as JSON."""

    topic: str
    partition: int
    offset: int
    #: How often the record has been driven again, this time included.
    tries: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter."""

    #: Where it stands on the dead-letter topic.
    place: tuple[int, int]
    reason: str
    #: Where the record came from that could not be read.
    topic: str
    partition: int
    offset: int
    #: When it became a dead letter (epoch ms).
    at_ms: int
    #: The record's own timestamp (epoch ms); 0: none, as of letters of before it was kept.
    timestamp_ms: int
    #: How often it had been driven again before it came here.
    tries: int
    key: bytes | None
    value: bytes | None
    #: The record's own headers.
    headers: Headers
    #: Key, value or headers are cut short, as the dead-letter topic takes no larger ones.
    is_cut: bool = False


def said_of(
    rejected: Rejected, topic: str, partition: int, cut: Mapping[str, int]
) -> list[tuple[str, bytes | None]]:
    """Return the headers that the worker puts behind the own ones of a record, in its dead letter.

    cut: the sizes that what is cut short had, by `key_bytes`, `value_bytes` and `headers_bytes`.
    """
    record = rejected.record
    origin = redriven_from(record)
    said = {
        _FIRST: rejected.reason,
        "topic": topic,
        "partition": partition,
        "offset": record.offset(),
        "timestamp": max(record.timestamp()[1], 0),
        "tries": origin.tries if origin else 0,
        **cut,
    }
    return [(name, str(value).encode()) for name, value in said.items()]


def size_of(headers: Headers) -> int:
    """Return the bytes of headers, with what Kafka needs to frame them at most."""
    return sum(len(name.encode()) + len(value or b"") + HEADER_FRAME_BYTES for name, value in headers)


def own_headers(record: Record) -> list[tuple[str, bytes | None]]:
    """Return the headers that a record had when it was first sent."""
    return [header for header in record.headers() or () if header[0] != REDRIVEN_HEADER]


def read_letter(message: Message) -> DeadLetter | None:
    """Return the dead letter that a record of the dead-letter topic is, None where it is none."""
    headers: Headers = message.headers() or ()
    start = max((place for place, (name, _) in enumerate(headers) if name == _FIRST), default=len(headers))
    said = dict(headers[start:])
    try:
        number = {name: int(said.get(name) or b"0") for name in ("partition", "offset", "timestamp", "tries")}
        reason, topic = (cast(bytes, said[name]).decode() for name in (_FIRST, "topic"))
    except (KeyError, ValueError, AttributeError):
        return None
    return DeadLetter(
        place=(int(message.partition() or 0), int(message.offset() or 0)),
        reason=reason,
        topic=topic,
        partition=number["partition"],
        offset=number["offset"],
        at_ms=message.timestamp()[1],
        timestamp_ms=number["timestamp"],
        tries=number["tries"],
        key=cast("bytes | None", message.key()),
        value=cast("bytes | None", message.value()),
        headers=headers[:start],
        is_cut=any(name in said for name in _CUT),
    )


def redriven_from(record: Record) -> Origin | None:
    """Return where a redriven record came from, None where it was not redriven."""
    for name, value in record.headers() or ():
        if name == REDRIVEN_HEADER:
            try:
                return msgspec.json.decode(value or b"", type=Origin)
            except msgspec.DecodeError:  # somebody else's header of that name
                return None
    return None
