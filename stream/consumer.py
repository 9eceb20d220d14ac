"""The fast lane into Faust: a fetched record batch of a partition travels as one message.

Stock Faust makes a message, an event and an ack of every record. Here the records that one fetch brought for
a partition of the behaviour topic, or of a table's changelog, are the value of a single message; all other
topics (the assignor's) go record by record as ever. Because an ack then stands for thousands of events, the
offset to commit is not derived from acks: the lane says it (see lane.py).

All of the private API of faust-streaming 0.15.3 that reading relies on is in this module, and
tests/stream/test_faust_contract.py fails loudly where an upgrade changes it.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aiokafka.errors import IllegalStateError
from faust.serializers import codecs
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, ensure_aiokafka_TP
from faust.transport.drivers.aiokafka import Consumer as FaustConsumer
from faust.transport.drivers.aiokafka import Transport as FaustTransport
from faust.types import TP, ConsumerMessage

from stream.incoming import Incoming

#: The broker answers a fetch that finds nothing after this long. Faust's 1500 ms would hold full partitions
#: back for as long, whenever an empty topic (the assignor's) is in the same request.
FETCH_MAX_WAIT_MS = 20

#: A fetch waits this long at most (s), so that a seek, and what Faust itself reads, need not wait longer.
FETCH_TIMEOUT_S = 0.2


class IdentityCodec(codecs.Codec):  # type: ignore[misc]
    """Lets a message's value, which here is a Batch and no bytes, through untouched."""

    def _loads(self, s: Any) -> Any:
        return s

    def _dumps(self, s: Any) -> Any:
        return s


codecs.register("identity", IdentityCodec())


@dataclass(frozen=True, slots=True)
class ChangelogBatch:
    """The records that one fetch brought for one partition of a table's changelog, oldest first."""

    records: list[Any]


@dataclass(frozen=True, slots=True)
class Batch:
    """What one fetch brought for one partition of the behaviour topic."""

    incoming: Incoming
    #: How often the consumer had sought when they were fetched: all older batches are void.
    seek: int
    #: 0, 1, 2, ... within a partition and a seek: a missing number is a lost batch.
    number: int


class BatchConsumerThread(AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust's consumer thread, with a broker wait that suits freshness."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_MAX_WAIT_MS
        return consumer

    async def leave_to_others(self, tps: Iterable[TP]) -> None:
        """Have aiokafka, which holds these partitions for the group, not fetch them as well."""
        places = [ensure_aiokafka_TP(tp) for tp in tps]
        await self.call_thread(self._ensure_consumer().pause, *places)


class BatchConsumer(FaustConsumer):  # type: ignore[misc]
    """Faust's consumer for the group and the tables, librdkafka for the records of the behaviour topic."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: How often all partitions went back to their committed offsets.
        self.seek_count = 0
        self._batch_numbers: Counter[TP] = Counter()
        # A fetch and a seek never interleave: what was fetched before a seek can then be told from what
        # was fetched after it, and nothing of the latter is thrown away.
        self._fetching = asyncio.Lock()

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def _is_behaviour(self, tp: TP) -> bool:
        return bool(tp.topic == self.app.behaviour_topic)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:
        """Yield one message per partition of the behaviour topic and of changelogs, others' one by one."""
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
        async with self._fetching:
            generation, seek = self.app.consumer_generation_id, self.seek_count
            messages = await self._fetch(min(timeout, FETCH_TIMEOUT_S))
        if self.should_stop:
            return
        if not self.flow_active:
            if messages:  # they were read and will not be folded
                # Where a rebalance takes partitions away meanwhile, it seeks itself at its end.
                with suppress(IllegalStateError):
                    await self.perform_seek()
            return
        for tp, message in messages:
            is_void = seek != self.seek_count or generation != self.app.consumer_generation_id
            if not self.flow_active or is_void:
                break
            yield tp, message

    async def _fetch(self, timeout: float) -> list[tuple[TP, Any]]:
        """Return messages for what was read: events where they may be folded, and what Faust itself reads."""
        if not self.flow_active:
            return []
        active = set(self._get_active_partitions())
        behaviour = {tp for tp in active if self._is_behaviour(tp)}
        messages = []
        # A full buffer makes a partition inactive; they all share it, so then none is read.
        if behaviour and behaviour == {tp for tp in self.assignment() if self._is_behaviour(tp)}:
            for partition, incoming in (await self.app.source.read(timeout)).items():
                messages.append(self._batch_message(TP(self.app.behaviour_topic, partition), incoming))
            timeout = 0.0
        others = active - behaviour
        # Asking Faust's client means two changes of thread: under load only for a changelog.
        if others and (not messages or any(self._is_changelog_tp(tp) for tp in others)):
            messages += self._messages(await self._getmany(active_partitions=others, timeout=timeout))
        elif not behaviour:
            await self.sleep(timeout)
        return messages

    def _batch_message(self, tp: TP, incoming: Incoming) -> tuple[TP, Any]:
        message = ConsumerMessage(
            *(tp.topic, tp.partition, incoming.position - 1, incoming.timestamp_ms / 1000, 0, [], None),
            *(Batch(incoming, self.seek_count, self._batch_numbers[tp]), None, None, None, tp),
            generation_id=self.app.consumer_generation_id,
        )
        self._batch_numbers[tp] += 1
        return tp, message

    def _messages(self, records: dict[TP, list[Any]]) -> Iterator[tuple[TP, Any]]:
        others = {}
        for tp, of_partition in records.items():
            if not self._is_changelog_tp(tp):
                others[tp] = of_partition
            elif of_partition:
                message = self._to_message(tp, of_partition[-1])
                message.value = ChangelogBatch(of_partition)
                yield tp, message
        for tp, record in self.scheduler.iterate(others):
            yield tp, self._to_message(tp, record)

    async def perform_seek(self) -> None:
        """Go back to the committed offset of every partition, or to the beginning where there is none."""
        async with self._fetching:
            behaviour = [tp for tp in self.assignment() if self._is_behaviour(tp)]
            await self._thread.leave_to_others(behaviour)
            await super().perform_seek()
            offsets = {tp.partition: self._committed_offset[tp] or None for tp in behaviour}
            await self.app.source.assign(offsets)
            self.seek_count += 1
            self._batch_numbers.clear()

    def lag(self, partition: int, position: int) -> int:
        """Return how many events of a behaviour partition come after a position, as far as is known."""
        lag: int = self.app.source.lag(partition, position)
        return lag

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Say nothing of partitions that aiokafka does not read: Faust would report them as stuck."""
        if not self._is_behaviour(tp):
            super().verify_event_path(now, tp)

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        for tp in super()._filter_tps_with_pending_acks(topics):
            if not self._is_behaviour(tp):
                yield tp
        for partition in self.app.lane.partitions:
            tp = TP(self.app.behaviour_topic, partition)
            if topics is None or tp in topics or tp.topic in topics:
                yield tp

    def _new_offset(self, tp: TP) -> int | None:
        if not self._is_behaviour(tp):
            offset: int | None = super()._new_offset(tp)
            return offset
        # Nothing reads the acks of these; they must not pile up.
        self._acked.pop(tp, None)
        self._acked_index.pop(tp, None)
        committable: int | None = self.app.lane.committable(tp.partition)
        return committable

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        if not self._is_behaviour(tp):  # a batch's last offsets always have gaps between them
            await super()._add_gap(tp, offset_from, offset_to)


class BatchTransport(FaustTransport):  # type: ignore[misc]
    """Faust's aiokafka transport with the batch consumer."""

    Consumer = BatchConsumer
