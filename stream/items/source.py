"""The behaviour topic as one order of events, read by one consumer, from positions that the caller keeps."""

import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from confluent_kafka import KafkaException, TopicPartition

from models.arrays import Ints
from models.events import CANARY_PREFIX
from stream.events.decoder import Decoder
from stream.events.incoming import item_to_forget, read_records, user_to_forget
from stream.items.merge import Batch, Control, Merge, Piece, Position
from stream.kafka.assigned_consumer import assigned_consumer
from stream.kafka.connection import KafkaConnection
from stream.kafka.fetcher import fetcher_of
from stream.kafka.records import Record, Records

#: Records, and bytes of their values, about, taken at once; how many events of a partition may wait before it
#: is not read on.
FETCH_RECORDS, FETCH_BYTES, MAY_WAIT = 10_000, 4 << 20, 50_000
#: How long Kafka has to say which partitions there are (s).
TOPIC_TIMEOUT_S = 1.0


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
        self._fetcher = fetcher_of(self._consumer, topic)
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
        self._fetch(timeout_s)
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

    def is_narrow(self) -> bool:
        """Return whether the topic has partitions that are not read; False where Kafka does not say."""
        try:
            found = self._consumer.list_topics(self._topic, timeout=TOPIC_TIMEOUT_S)
        except KafkaException:
            return False
        return len(found.topics[self._topic].partitions) > len(self.positions)

    def close(self) -> None:
        """Read no more."""
        self._fetcher.close()
        self._consumer.close()

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    def _fetch(self, timeout_s: float) -> None:
        """Hand what is there to the merge."""
        for partition, records in self._fetcher.fetch(FETCH_RECORDS, timeout_s, FETCH_BYTES).items():
            if len(records):
                self._add(partition, records)
            if records.is_at_end:
                self._merge.note_end(partition)

    def _add(self, partition: int, records: Records) -> None:
        clock = np.maximum(np.maximum.accumulate(records.timestamps()), self._merge.newest_ms(partition))
        for begin, end, control in _cut_at_controls(records):
            piece = self._piece(partition, records, clock, np.arange(begin, end), control)
            self._merge.add(partition, piece, self._now_ms())

    def _piece(
        self, partition: int, records: Records, clock: Ints, places: Ints, control: Control | None
    ) -> Piece:
        """Return the records at some places (P,) as a piece; clock (R,) is of all records.

        What is no event is counted; the canary's users teach nobody anything.
        """
        after = Position(int(records.offsets[places[-1]]) + 1, int(clock[places[-1]]))
        if control:
            return Piece(clock[places], records.offsets[places], [], None, control, after)
        kept = places[~records.keys.begin_with(CANARY_PREFIX.encode())[places]]
        if not len(kept):
            return Piece(clock[:0], records.offsets[:0], [], None, None, after)
        some = records if len(kept) == len(records) else records.at(kept)
        found = read_records(some, self._decoder, f"{self._topic_id}/{partition}")
        self.rejected += len(found.rejected)
        of_event = clock[np.searchsorted(records.offsets, found.events.offset)]
        return Piece(of_event, found.events.offset, found.user_ids, found.events, None, after)

    def _pause(self) -> None:
        """Read on only partitions of which not too much waits for the others."""
        full = {partition for partition, waiting in self._merge.waiting.items() if waiting > MAY_WAIT}
        if new := full - self._paused:
            self._consumer.pause([TopicPartition(self._topic, partition) for partition in new])
            for partition in new:
                self._merge.note_more(partition)  # the consumer tells the end again once it reads on
        if over := self._paused - full:
            self._consumer.resume([TopicPartition(self._topic, partition) for partition in over])
        self._paused = full


def _control(record: Record) -> Control | None:
    """Return what a record without a value says, None where that is nothing."""
    if user_id := user_to_forget(record):
        return Control("user", user_id)
    if item_id := item_to_forget(record):
        return Control("item", item_id)
    return None


def _cut_at_controls(records: Records) -> Iterator[tuple[int, int, Control | None]]:
    """Yield stretches of records in their order, first place and end, each control record by itself."""
    begin = 0
    for place in np.flatnonzero(records.values.is_null).tolist():
        if control := _control(records.each[place]):
            if place > begin:
                yield begin, place, None
            yield place, place + 1, control
            begin = place + 1
    if begin < len(records):
        yield begin, len(records), None
