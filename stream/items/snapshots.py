"""The learner's state in Kafka: arrays and source positions as one snapshot, there whole or not at all.

A compacted topic of one partition. A snapshot is a transaction: the chunks of arrays that changed since the
one before, and a manifest that says which chunks make the arrays, with their hashes, and where the source
goes on. The transactional id fences: whoever opens the topic ends what a learner before may still be writing.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import xxhash
from confluent_kafka import KafkaError, KafkaException, Producer

from models.artifact.stores import VERSION
from models.errors import TwintideError, UnreachableError
from stream.items.merge import Position
from stream.kafka.connection import KafkaConnection
from stream.kafka.producer import CLIENT_RECORD_BYTES
from stream.kafka.record_size import ensure_record_bytes
from stream.kafka.topic_reader import read_all
from stream.kafka.topics import ensure_topic

#: Bytes of a chunk, one record of the topic.
CHUNK_BYTES = 1 << 16
#: Name of the record that makes a snapshot.
MANIFEST = b"manifest"
#: What a record may be at most for the client, if the topic takes it, and what Kafka adds to one (bytes).
LARGEST_BYTES, FRAME_BYTES = 256 << 20, 1_024
#: How long Kafka has to take a snapshot (s).
TIMEOUT_S = 60.0
#: The topic's settings: what a newer snapshot has replaced goes soon.
TOPIC_SETTINGS = {
    "cleanup.policy": "compact",
    "segment.ms": "600000",
    "segment.bytes": str(64 << 20),
    "min.cleanable.dirty.ratio": "0.3",
    "delete.retention.ms": "600000",
}

Arrays = Mapping[str, np.ndarray[Any, Any]]


class FencedError(TwintideError):
    """Another learner has taken over."""


class DamagedError(TwintideError):
    """What is on the topic is no snapshot."""


class ArrayPlace(msgspec.Struct, frozen=True):
    """An array of a snapshot: its chunks are `{name}/0`, ...; `hashes` has XXH3's 64 bits of each."""

    dtype: str
    shape: list[int]
    hashes: list[int]


class Manifest(msgspec.Struct, frozen=True):
    """A snapshot: arrays, and where the source's topic goes on, [offset, clock] of each partition."""

    number: int
    settings: str
    topic_id: str
    positions: dict[int, tuple[int, int]]
    arrays: dict[str, ArrayPlace]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state of the learner and what it was made from.

    settings: of the learner, as text; a state of others is not to be resumed.
    """

    arrays: Arrays
    positions: Mapping[int, Position]
    topic_id: str
    settings: str
    number: int = 0


def snapshots_topic(app_id: str, version: str) -> str:
    """Return the topic that holds the state of a model's learner."""
    return f"{app_id}-items-{version}"


def topics_of_states(app_id: str, topics: Iterable[str]) -> dict[str, str]:
    """Return which of some topics hold states of learners, by version: a shop's own may begin alike."""
    begin = snapshots_topic(app_id, "")
    found = {topic.removeprefix(begin): topic for topic in topics if topic.startswith(begin)}
    return {version: topic for version, topic in found.items() if VERSION.fullmatch(version)}


def read_manifest(kafka: KafkaConnection, topic: str) -> Manifest | None:
    """Return the manifest of the newest snapshot, None where it is not among the last records."""
    values = [each.value() for each in read_all(kafka, topic, last=10) if each.key() == MANIFEST]
    return msgspec.json.decode(values[-1], type=Manifest) if values and values[-1] else None


class Snapshots:
    """The snapshots of one learner. Raises UnreachableError, and FencedError once another has opened them."""

    def __init__(self, kafka: KafkaConnection, topic: str, replicas: int) -> None:
        self._kafka, self._topic = kafka, topic
        ensure_topic(kafka, topic, 1, TOPIC_SETTINGS, replicas)
        self._producer = Producer(
            {
                **kafka.librdkafka(),
                "transactional.id": topic,
                "transaction.timeout.ms": int(2 * TIMEOUT_S * 1000),
                "message.max.bytes": LARGEST_BYTES,
                "compression.type": "lz4",
                "linger.ms": 5,
                "log_level": 2,
            }
        )
        self._done(self._producer.init_transactions, TIMEOUT_S)
        #: Name of array -> the hashes of its chunks, as they are on the topic.
        self._stored: dict[str, list[int]] = {}
        self._number = 0

    def load(self) -> Snapshot | None:
        """Return the newest snapshot, None where there is none. Raises DamagedError."""
        records: dict[bytes, bytes] = {}
        for message in read_all(self._kafka, self._topic):
            key, value = message.key() or b"", message.value()
            if value is None:
                records.pop(key, None)
            else:
                records[key] = value
        if MANIFEST not in records:
            return None
        try:
            manifest = msgspec.json.decode(records[MANIFEST], type=Manifest)
        except msgspec.DecodeError as error:
            raise self._damaged(f"its manifest cannot be read ({error})") from error
        arrays = {name: self._array(name, place, records) for name, place in manifest.arrays.items()}
        self._stored = {name: place.hashes for name, place in manifest.arrays.items()}
        self._number = manifest.number
        positions = {partition: Position(*each) for partition, each in manifest.positions.items()}
        return Snapshot(arrays, positions, manifest.topic_id, manifest.settings, manifest.number)

    def save(self, snapshot: Snapshot) -> int:
        """Write a snapshot; return the bytes of what had changed. It is there once this returns."""
        self._done(self._producer.begin_transaction)
        written, stored, arrays = 0, {}, {}
        for name, array in snapshot.arrays.items():
            flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            stored[name], size = self._write_chunks(name, flat)
            written += size
            arrays[name] = ArrayPlace(array.dtype.str, list(array.shape), stored[name])
        for name, hashes in self._stored.items():
            for number in range(len(stored.get(name, ())), len(hashes)):
                self._send(_key(name, number), None)
        positions = {
            partition: (each.offset, each.clock_ms) for partition, each in snapshot.positions.items()
        }
        manifest = Manifest(self._number + 1, snapshot.settings, snapshot.topic_id, positions, arrays)
        self._send(MANIFEST, self._fitting(msgspec.json.encode(manifest)))
        self._done(self._producer.commit_transaction, TIMEOUT_S)
        self._stored, self._number = stored, self._number + 1
        return written

    def _fitting(self, manifest: bytes) -> bytes:
        """Return a manifest that the topic takes: of millions of items it is larger than records are."""
        if len(manifest) > CLIENT_RECORD_BYTES - FRAME_BYTES:
            ensure_record_bytes(self._kafka, self._topic, len(manifest) + FRAME_BYTES)
        return manifest

    def _write_chunks(self, name: str, flat: "np.ndarray[Any, Any]") -> tuple[list[int], int]:
        """Send the chunks of an array that changed; return the hashes of all, and the bytes sent."""
        hashes, written, before = [], 0, self._stored.get(name, [])
        for number, chunk in enumerate(_chunks(flat)):
            hashes.append(xxhash.xxh3_64_intdigest(chunk.data))
            if number >= len(before) or before[number] != hashes[number]:
                self._send(_key(name, number), chunk.tobytes())
                written += len(chunk)
        return hashes, written

    def _send(self, key: bytes, value: bytes | None) -> None:
        while True:
            try:
                self._producer.produce(self._topic, value, key, 0)
                return
            except BufferError:  # the queue is full: let deliveries make room
                self._producer.poll(0.1)
            except KafkaException as error:
                self._done(self._producer.abort_transaction, TIMEOUT_S)  # raises why, where that is final
                raise self._failed(error) from error

    def _done(self, step: Any, *arguments: Any) -> None:
        """Take a step of a transaction. Raises FencedError, UnreachableError."""
        try:
            step(*arguments)
        except KafkaException as error:
            raise self._failed(error) from error

    def _failed(self, error: KafkaException) -> FencedError | UnreachableError:
        """Return what an error of the producer means."""
        reason: KafkaError = error.args[0]
        fenced = KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED
        if reason.code() in fenced:
            return FencedError("another item learner has taken over: this one ends")
        return UnreachableError(f"topic {self._topic} did not take a snapshot: {reason.str()}")

    def _array(self, name: str, place: ArrayPlace, records: Mapping[bytes, bytes]) -> "np.ndarray[Any, Any]":
        chunks = []
        for number, digest in enumerate(place.hashes):
            chunk = records.get(_key(name, number))
            if chunk is None or xxhash.xxh3_64_intdigest(chunk) != digest:
                raise self._damaged(f"chunk {number} of {name} is missing or another one")
            chunks.append(chunk)
        return np.frombuffer(b"".join(chunks), np.dtype(place.dtype)).reshape(place.shape).copy()

    def _damaged(self, why: str) -> DamagedError:
        return DamagedError(
            f"topic {self._topic} is damaged ({why}): delete it, and the learner begins anew from the stream"
        )


def _key(name: str, number: int) -> bytes:
    return f"{name}/{number}".encode()


def _chunks(flat: "np.ndarray[Any, Any]") -> Iterator["np.ndarray[Any, Any]"]:
    for start in range(0, len(flat), CHUNK_BYTES):
        yield flat[start : start + CHUNK_BYTES]
