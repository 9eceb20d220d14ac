"""The behaviour topic as one order of events, read by one consumer, from positions that the caller keeps."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from confluent_kafka import KafkaError, Message, TopicPartition

from models.events import CANARY_PREFIX
from stream.events.decoder import Decoder
from stream.events.incoming import item_to_forget, read_records, user_to_forget
from stream.items.merge import Batch, Control, Merge, Piece, Position
from stream.kafka.assigned_consumer import assigned_consumer, fetch, raise_unless_retried
from stream.kafka.connection import KafkaConnection

#: Records taken at once, and how many events of a partition may wait before it is not read on.
FETCH_RECORDS, MAY_WAIT = 10_000, 50_000


class Source:
    """Reads all partitions of a topic. Every call raises SourceError where the topic goes away."""

    def __init__(
        self,
        kafka: KafkaConnection,
        topic: str,
        topic_id: str,
        decoder: Decoder,
        positions: Mapping[int, Position],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._topic, self._topic_id = topic, topic_id
        self._decoder, self._clock = decoder, clock
        self._merge = Merge(positions)
        self._paused: set[int] = set()
        self._consumer = assigned_consumer(kafka, tells_end=True)
        self._consumer.assign(
            [TopicPartition(topic, partition, each.offset) for partition, each in positions.items()]
        )
        #: Records that were no events.
        self.rejected = 0

    @property
    def positions(self) -> dict[int, Position]:
        """Return where each partition goes on behind what `read` has given."""
        return self._merge.positions

    def read(self, timeout_s: float) -> Iterator[Batch]:
        """Yield what has its place now, waiting so long for the first record."""
        by_partition: dict[int, list[Message]] = defaultdict(list)
        for message in fetch(self._consumer, FETCH_RECORDS, timeout_s):
            error = message.error()
            if error is None:
                by_partition[message.partition()].append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                self._add(message.partition(), by_partition.pop(message.partition(), []))
                self._merge.note_end(message.partition())
            else:
                raise_unless_retried(error, self._topic)
        for partition, records in by_partition.items():
            self._add(partition, records)
        self._pause()
        yield from self._merge.ready(self._now_ms())

    def lag(self) -> int:
        """Return how many records come after the positions, as far as is known."""
        behind = 0
        for partition, position in self.positions.items():
            place = TopicPartition(self._topic, partition)
            _, end = self._consumer.get_watermark_offsets(place, cached=True)
            behind += max(end - position.offset, 0)
        return behind

    def close(self) -> None:
        """Read no more."""
        self._consumer.close()

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    def _add(self, partition: int, records: Sequence[Message]) -> None:
        for some in _cut_at_controls(records):
            piece, rejected = self._piece(partition, some)
            self.rejected += rejected
            self._merge.add(partition, piece, self._now_ms())

    def _piece(self, partition: int, records: Sequence[Message]) -> tuple[Piece, int]:
        """Return records as a piece, and how many are no events; the canary's users teach nobody anything."""
        timestamps = np.array([record.timestamp()[1] for record in records], np.int64)
        clock = np.maximum(np.maximum.accumulate(timestamps), self._merge.newest_ms(partition))
        offsets = np.array([record.offset() for record in records], np.int64)
        after = Position(int(offsets[-1]) + 1, int(clock[-1]))
        if control := _control(records[0]):
            return Piece(clock, offsets, [], None, control, after), 0
        records = [each for each in records if not (each.key() or b"").startswith(CANARY_PREFIX.encode())]
        if not records:
            return Piece(clock[:0], offsets[:0], [], None, None, after), 0
        found = read_records(records, self._decoder, f"{self._topic_id}/{partition}")
        of_event = clock[np.searchsorted(offsets, found.events.offset)]
        piece = Piece(of_event, found.events.offset, found.user_ids, found.events, None, after)
        return piece, len(found.rejected)

    def _pause(self) -> None:
        """Read on only partitions of which not too much waits for the others."""
        full = {partition for partition, waiting in self._merge.waiting.items() if waiting > MAY_WAIT}
        if new := full - self._paused:
            self._consumer.pause([TopicPartition(self._topic, partition) for partition in new])
        if over := self._paused - full:
            self._consumer.resume([TopicPartition(self._topic, partition) for partition in over])
        self._paused = full


def _control(record: Message) -> Control | None:
    """Return what a control record says, None where it is none."""
    if record.value() is not None:
        return None
    if user_id := user_to_forget(record):
        return Control("user", user_id)
    if item_id := item_to_forget(record):
        return Control("item", item_id)
    return None


def _cut_at_controls(records: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """Yield records in their order, each control record by itself."""
    start = 0
    for place, record in enumerate(records):
        if record.value() is None and _control(record):
            if place > start:
                yield records[start:place]
            yield [record]
            start = place + 1
    if start < len(records):
        yield records[start:]
