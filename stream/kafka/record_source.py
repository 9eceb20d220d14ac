"""Reading topics with librdkafka, at the positions that Faust's group membership gives.

Faust's own client makes a Python object of every record while it holds the interpreter; librdkafka fetches
and decompresses in threads of its own and hands over a thousand records in a millisecond. It joins no group
and commits nothing: which partitions to read, and from where, it is told.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Generic, TypeVar

from confluent_kafka import OFFSET_BEGINNING, KafkaException, TopicPartition

from models.errors import UnreachableError
from stream.kafka.assigned_consumer import assigned_consumer
from stream.kafka.connection import KafkaConnection
from stream.kafka.fetcher import fetcher_of
from stream.kafka.records import Records

logger = logging.getLogger(__name__)

#: What `read` makes of a partition's records.
T = TypeVar("T")

#: Pause before records are read again that could not be (s).
RETRY_S = 0.5
#: Megabytes of records that librdkafka may hold ready; what it keeps of each beside comes to as much again.
READ_AHEAD_MB = 8
#: Bytes that the values of one batch have, about: there are fewer than `batch_records` where they are long.
BATCH_BYTES = 4 << 20
#: A fetch that brought fewer records is followed by none until it is asked for. It would hold what came in a
#: moment, and what comes until the next is asked for would then wait for the one after that.
MANY_RECORDS = 1_000
#: How long to wait for the answer who leads the partitions (s).
LEADERS_TIMEOUT_S = 1.0


class NotYetError(Exception):
    """Records cannot be read now, for want of something else than Kafka; they can later."""

    def __init__(self, fetched: Mapping[int, Records], reason: str) -> None:
        super().__init__(reason)
        self.fetched = fetched


class RecordSource(Generic[T]):
    """Reads some partitions of one topic; what it was not told to read, it does not.

    `read` makes of a partition's records what is wanted of them. It runs in a thread of its own, as fetching
    does: while one batch is folded, the next is read and the one after that is fetched, as long as there is
    much to read. Where it raises UnreachableError, as something that it needs is down, it is asked again
    until it does not.
    """

    def __init__(
        self,
        kafka: KafkaConnection,
        topic: str,
        batch_records: int,
        read: Callable[[int, Records], T],
        *,
        tells_end: bool = False,
        on_overtaken: Callable[[int, int], object] = lambda partition, events: None,
    ) -> None:
        """With `tells_end`, `read` is told the position where a partition ends, with or without records.

        Else it is told without a record only where the partition ends behind what it read: transactions end
        with something that is no record, and of one that was aborted nothing is one.

        `on_overtaken` is told, in a thread of its own, of each partition how many offsets the topic does not
        have any more that were still to be read.
        """
        self._topic = topic
        self._batch_records = batch_records
        self._read = read
        self._on_overtaken = on_overtaken
        self._tells_end = tells_end
        self._consumer = assigned_consumer(kafka, READ_AHEAD_MB, tells_end=True)
        self._records = fetcher_of(self._consumer, topic)
        self._fetcher = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fetch")
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="read")
        #: From where on the partitions are being read, and their ends as they were at the last fetch.
        self._starts: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        #: The offset that is to be fetched next of each partition, where it is known.
        self._positions: dict[int, int] = {}
        #: What is being fetched, ahead of its being asked for, and what is being read of the batch before.
        self._fetching: Future[tuple[int, Future[dict[int, T]] | None]] | None = None
        self._reading: Future[dict[int, T]] | None = None
        #: What reading waits for, empty where it does not.
        self.waits_for = ""

    async def assign(self, offsets: Mapping[int, int | None]) -> None:
        """Read these partitions from here on, each from its offset, or from its beginning where that is None.

        Nothing that was fetched before is returned afterwards.
        """
        places = [
            TopicPartition(self._topic, partition, OFFSET_BEGINNING if offset is None else offset)
            for partition, offset in offsets.items()
        ]
        await asyncio.get_running_loop().run_in_executor(self._fetcher, self._assign, places)
        self._fetching = self._reading = None  # begun before, in the same thread
        self.waits_for = ""

    async def read(self, timeout_s: float) -> dict[int, T]:
        """Return what is at hand by partition; wait for the first record if there is none.

        Raises SourceError where the topic or the right to read it is gone.
        """
        # Whoever waits may be cancelled; what was fetched or read then waits for the next who asks.
        if self._reading is None:
            self._fetching = self._fetching or self._fetcher.submit(self._fetch, timeout_s)
            count, self._reading = await asyncio.shield(asyncio.wrap_future(self._fetching))
            self._fetching = self._fetcher.submit(self._fetch, timeout_s) if count >= MANY_RECORDS else None
        if self._reading is None:
            return {}
        try:
            found = await asyncio.shield(asyncio.wrap_future(self._reading))
        except NotYetError as error:
            if not self.waits_for:
                logger.warning("%s: reading waits for it", error)
            self.waits_for = str(error)
            await asyncio.sleep(RETRY_S)
            self._reading = self._reader.submit(self._read_all, error.fetched)
            return {}
        if self.waits_for:
            logger.info("reading resumes")
        self.waits_for, self._reading = "", None
        return found

    async def close(self) -> None:
        """Read no more. Nobody may ask for anything afterwards."""
        await asyncio.to_thread(self._close)

    def lag(self, partition: int, position: int) -> int:
        """Return how many events of a partition come after a position, as far as is known.

        A position before the first event that was read counts as where reading began.
        """
        return max(self._ends.get(partition, 0) - max(position, self._starts.get(partition, 0)), 0)

    def _close(self) -> None:
        for executor in (self._fetcher, self._reader):
            executor.shutdown(cancel_futures=True)
        self._records.close()
        self._consumer.close()

    def _assign(self, places: list[TopicPartition]) -> None:
        if places:
            # librdkafka takes up to a second until it asks who leads a topic's partitions.
            with suppress(KafkaException):  # without an answer it keeps asking by itself
                self._consumer.list_topics(self._topic, timeout=LEADERS_TIMEOUT_S)
        self._consumer.assign(places)
        self._starts = {place.partition: max(place.offset, 0) for place in places}
        self._ends = {place.partition: 0 for place in places}
        self._positions = {place.partition: place.offset for place in places if place.offset >= 0}

    def _fetch(self, timeout_s: float) -> tuple[int, Future[dict[int, T]] | None]:
        """Fetch a batch and have it read; return how many records it has, and None where nothing came."""
        fetched = {
            partition: records
            for partition, records in self._records.fetch(self._batch_records, timeout_s, BATCH_BYTES).items()
            if self._tells_end or len(records) or records.position > self._positions.get(partition, 0)
        }
        if not fetched:
            return 0, None
        # Asked for here: the client answers nobody else while this thread waits in a poll.
        for partition in self._ends:
            place = TopicPartition(self._topic, partition)
            _, self._ends[partition] = self._consumer.get_watermark_offsets(place, cached=True)
        self._notice_overtaken(fetched)
        return sum(map(len, fetched.values())), self._reader.submit(self._read_all, fetched)

    def _notice_overtaken(self, fetched: Mapping[int, Records]) -> None:
        """Tell of what is missing before these records because the topic begins later.

        What compaction and transactions leave out is missing behind the topic's beginning.
        """
        for partition, records in fetched.items():
            offset = int(records.offsets[0]) if len(records) else records.position
            position = self._positions.get(partition, offset)
            if offset > position and (begin := self._begin(partition)) > position:
                self._on_overtaken(partition, min(begin, offset) - position)
            self._positions[partition] = records.position

    def _begin(self, partition: int) -> int:
        """Return the offset of a partition's oldest record, 0 where Kafka does not say."""
        place = TopicPartition(self._topic, partition)
        try:
            begin, _ = self._consumer.get_watermark_offsets(place, timeout=LEADERS_TIMEOUT_S)
        except KafkaException:
            return 0
        return int(begin)

    def _read_all(self, fetched: Mapping[int, Records]) -> dict[int, T]:
        try:
            return {partition: self._read(partition, records) for partition, records in fetched.items()}
        except UnreachableError as error:
            raise NotYetError(fetched, str(error)) from error
