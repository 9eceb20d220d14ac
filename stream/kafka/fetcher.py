"""Fetching records of some partitions as columns: by librdkafka's C interface, without an object for any.

Where the interface is not there, confluent-kafka makes an object of each record, and these become columns.
"""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from confluent_kafka import Consumer, KafkaError, Message

from models.arrays import Ints
from models.librdkafka_loops import (
    KEY,
    KEY_LENGTH,
    LENGTH,
    OFFSET,
    PARTITION,
    PAYLOAD,
    compile_loops,
    payloads_at,
)
from models.payloads import Payloads
from stream.kafka.assigned_consumer import SourceError, fetch, raise_unless_retried
from stream.kafka.librdkafka import Messages, NoLibraryError, Queue
from stream.kafka.records import EachRecord, Record, Records, records_of

logger = logging.getLogger(__name__)


class Fetcher(Protocol):
    """Fetches what a consumer is assigned."""

    def fetch(self, at_most: int, timeout_s: float, most_bytes: int) -> dict[int, Records]:
        """Return what is at hand by partition, at most so many records; wait for the first if there is none.

        No more once values have so many bytes, but for PORTION records. A partition whose end is told is
        there without a record, too. Raises SourceError where a partition cannot be read any more.
        """

    def close(self) -> None:
        """Let the consumer be closed: what was fetched can be looked at no more, but for its columns."""


def fetcher_of(consumer: Consumer, topic: str) -> Fetcher:
    """Return the fastest way to fetch what a consumer, new and without an assignment, gets of a topic."""
    try:
        queue = Queue(consumer)
    except NoLibraryError as error:
        logger.warning("librdkafka is read by confluent-kafka alone, which takes more CPU: %s", error)
        return MessageFetcher(consumer, topic)
    compile_loops()
    queue.empty()
    return ColumnFetcher(queue, topic)


class MessageFetcher:
    """Fetches messages of confluent-kafka."""

    def __init__(self, consumer: Consumer, topic: str) -> None:
        self._consumer, self._topic = consumer, topic

    def fetch(self, at_most: int, timeout_s: float, most_bytes: int) -> dict[int, Records]:
        """Return what is at hand, as Fetcher says."""
        records: dict[int, list[Message]] = defaultdict(list)
        ends: dict[int, int] = {}
        for message in fetch(self._consumer, at_most, timeout_s, most_bytes):
            error, partition = message.error(), message.partition()
            if error is None:
                records[partition].append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                ends[partition] = message.offset()
            else:
                raise_unless_retried(error, self._topic)
        return {
            partition: records_of(records[partition], ends.get(partition, -1))
            for partition in {**records, **ends}
        }

    def close(self) -> None:
        """Do nothing: the messages are objects of their own."""


class ColumnFetcher:
    """Fetches messages of librdkafka, and copies what they hold into columns."""

    def __init__(self, queue: Queue, topic: str) -> None:
        self._queue, self._topic = queue, topic

    def fetch(self, at_most: int, timeout_s: float, most_bytes: int) -> dict[int, Records]:
        """Return what is at hand, as Fetcher says."""
        if words := self._queue.fatal_error():
            raise SourceError(f"topic {self._topic} cannot be read: {words}")
        messages = self._queue.take(at_most, timeout_s, most_bytes)
        ends = self._ends(messages)
        partitions = messages.words[:, PARTITION]
        return {
            partition: _records(messages, np.flatnonzero(partitions == partition), ends.get(partition, -1))
            for partition in {*np.unique(partitions).tolist(), *ends}
        }

    def close(self) -> None:
        """Let the consumer be closed, as Fetcher says."""
        self._queue.give_back()

    def _ends(self, messages: Messages) -> dict[int, int]:
        """Return which partitions have ended, and where. Raises SourceError for any other error."""
        ends = {}
        for code, words, partition, offset in messages.errors:
            if code == KafkaError._PARTITION_EOF:
                ends[partition] = offset
            elif code:
                raise_unless_retried(KafkaError(code, words), self._topic)
        return ends


@dataclass(frozen=True, slots=True)
class FetchedRecord:
    """A record by itself, with copies of all that it has."""

    _key: bytes | None
    _value: bytes | None
    _offset: int
    _timestamp: tuple[int, int]
    _headers: Sequence[tuple[str, bytes]] | None

    def key(self) -> bytes | None:
        return self._key

    def value(self) -> bytes | None:
        return self._value

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return self._timestamp

    def headers(self) -> Sequence[tuple[str, bytes]] | None:
        return self._headers


@dataclass(frozen=True, slots=True)
class _Each(EachRecord):
    """The records at some places (R,) of messages, each made when it is asked for."""

    messages: Messages
    places: Ints
    keys: Payloads
    values: Payloads

    def __len__(self) -> int:
        return len(self.places)

    def record(self, place: int) -> Record:
        """Return the record at a place, with copies of all that it has."""
        at = int(self.places[place])
        offset = int(self.messages.words[at, OFFSET])
        about = self.messages.timestamp(at), self.messages.headers(at)
        return FetchedRecord(self.keys[place], self.values[place], offset, *about)

    def last_headers(self, name: str, places: Ints) -> Payloads:
        """Return the last header of a name that some of the records have."""
        return self.messages.last_headers(name, self.places[places])

    def timestamps(self) -> Ints:
        """Return the timestamps of all (R,)."""
        return self.messages.timestamps(self.places)


def _records(messages: Messages, places: Ints, end: int) -> Records:
    """Return messages of a partition as columns; `end`: where that ends, if it was told."""
    words = messages.words[places]
    offsets = words[:, OFFSET].copy()
    keys, values = (
        payloads_at(words[:, what].copy(), words[:, length])
        for what, length in ((KEY, KEY_LENGTH), (PAYLOAD, LENGTH))
    )
    behind = int(offsets.max(initial=-1)) + 1
    each = _Each(messages, places, keys, values)
    about = max(end, behind), end >= behind, messages.addresses(places)
    return Records(keys, values, offsets, each, each.last_headers, each.timestamps, *about)
