"""The pipeline's way into Faust: a fetched record batch of a partition travels as one message.

Stock Faust makes a message, an event and an ack of every record. Here the records that one fetch brought for
a partition of the behaviour topic, or of a table's changelog, are the value of a single message; all other
topics (the assignor's) go record by record as ever. Because an ack then stands for thousands of events, the
offset to commit is not derived from acks: the assignment says it (`Assignment.committable`).

All of the private API of faust-streaming 0.15.3 that reading relies on is in this module, and
tests/stream/worker/test_faust_contract.py fails loudly where an upgrade changes it.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, cast

from faust.serializers import codecs
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, ensure_aiokafka_TP
from faust.transport.drivers.aiokafka import Consumer as FaustConsumer
from faust.transport.drivers.aiokafka import Transport as FaustTransport
from faust.types import TP, ConsumerMessage

from stream.worker.source import FetchedBatch

logger = logging.getLogger(__name__)

#: The broker answers a fetch that finds nothing after this long; what else is asked on the same connection
#: waits for that, so Faust's 1500 ms would be felt at the start. All that Faust's client fetches is the
#: assignor's topic, which is empty: more often costs both sides CPU, and brings nothing.
FETCH_MAX_WAIT_MS = 100

#: Between two reads of events the worker rests for twice as long as CPUs worked since the first, but for no
#: longer than this (s); not after one that brought so many records, as then there is more to read.
LONGEST_REST_S, MANY_RECORDS = 0.03, 1_000

#: A fetch waits this long at most (s), so that a seek, and what Faust itself reads, need not wait longer.
FETCH_TIMEOUT_S = 0.2
#: A fetch of changelogs alone waits less (s), so that a recovery that has reached its end is not held up.
CHANGELOG_TIMEOUT_S = 0.02


class IdentityCodec(codecs.Codec):  # type: ignore[misc]
    """Lets a message's value, which here is a FetchedBatch and no bytes, through untouched."""

    def _loads(self, s: Any) -> Any:
        return s

    def _dumps(self, s: Any) -> Any:
        return s


codecs.register("identity", IdentityCodec())


class BatchConsumerThread(AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust's consumer thread, with a broker wait that suits freshness."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_MAX_WAIT_MS
        return consumer

    def _stopped_set(self) -> None:
        """Say that it has stopped, unless its loop is closed, as it crashed: nobody could be told."""
        if not self.thread_loop.is_closed():
            super()._stopped_set()

    async def leave_to_others(self, tps: Iterable[TP]) -> None:
        """Have aiokafka, which holds these partitions for the group, not fetch them as well."""
        places = [ensure_aiokafka_TP(tp) for tp in tps]
        await self.call_thread(self._ensure_consumer().pause, *places)


class BatchConsumer(FaustConsumer):  # type: ignore[misc]
    """Faust's consumer for the group, librdkafka for the records of the behaviour topic and the changelog."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: Where each changelog partition is to be read from next, and which are being read.
        self._changelog_offsets: dict[TP, int] = {}
        self._changelogs_read: set[TP] = set()
        # A fetch and a seek never interleave: what was fetched before a seek can then be told from what
        # was fetched after it, and nothing of the latter is thrown away.
        self._fetching = asyncio.Lock()
        self._has_room = asyncio.Event()
        #: What the last read of events brought, and for how long CPUs had worked for the process by then (s).
        self._records_read, self._worked_s = 0, 0.0

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def _is_behaviour(self, tp: TP) -> bool:
        return bool(tp.topic == self.app.behaviour_topic)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:
        """Yield one message per partition of the behaviour topic and of changelogs, others' one by one."""
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
        async with self._fetching:
            generation, assignment = self.app.consumer_generation_id, self.app.assignments.current
            messages = await self._fetch(min(timeout, FETCH_TIMEOUT_S))
        if self.should_stop:
            return
        for tp, message in messages:
            # What is left out comes again: a rebalance stops the flow, and seeks before it resumes it.
            is_stale = assignment is not self.app.assignments.current
            if not self.flow_active or is_stale or generation != self.app.consumer_generation_id:
                break
            yield tp, message

    async def _fetch(self, timeout: float) -> list[tuple[TP, Any]]:
        """Return messages for what was read: events where they may be folded, and what Faust itself reads."""
        if not self.flow_active:
            return []
        active = set(self._get_active_partitions())
        behaviour = {tp for tp in active if self._is_behaviour(tp)}
        changelogs = await self._assign_changelogs()
        messages = []
        if self._may_read(behaviour):
            messages += await self._read_events(timeout)
            timeout = 0.0
        elif any(map(self._is_behaviour, self._buffered_partitions)):
            await self._room(timeout)
            timeout = 0.0
        if changelogs:
            timeout = min(timeout, CHANGELOG_TIMEOUT_S)
        if changelogs and changelogs <= active:
            messages += await self._read_changelogs(timeout)
            timeout = 0.0
        others = {tp for tp in active - behaviour if not self._is_changelog_tp(tp)}
        # Asking Faust's client means two changes of thread: not under load.
        if others and not messages:
            found = await self._getmany(active_partitions=others, timeout=timeout)
            messages += [(tp, self._to_message(tp, record)) for tp, record in self.scheduler.iterate(found)]
        elif not messages:
            await self.sleep(timeout)
        return messages

    def _may_read(self, active: set[TP]) -> bool:
        """Return whether events may be read, where these partitions of their topic are active.

        A full buffer makes a partition inactive; they all share it, so then none is read.
        """
        all_held = {tp for tp in self.assignment() if self._is_behaviour(tp)}
        return bool(active) and active == all_held and not self.app.assignments.current.is_over

    async def _read_events(self, timeout: float) -> list[tuple[TP, Any]]:
        await self._rest()
        assignment, messages = self.app.assignments.current, []
        found = await self.app.source.read(timeout)
        self._records_read = sum(each.records for each in found.values())
        self._worked_s = time.process_time()
        for number, incoming in found.items():
            batch = FetchedBatch(incoming, assignment, assignment.partitions[number].number_batch())
            tp = TP(self.app.behaviour_topic, number)
            messages.append(self._message(tp, incoming.position - 1, incoming.timestamp_ms, batch))
        return messages

    async def _rest(self) -> None:
        """Let events gather: each read costs milliseconds, however few it brings.

        Then light traffic leaves CPUs to others, as to a broker beside it, on whom events wait longest.
        """
        if self._records_read < MANY_RECORDS:
            await asyncio.sleep(min(2 * (time.process_time() - self._worked_s), LONGEST_REST_S))

    async def _read_changelogs(self, timeout: float) -> list[tuple[TP, Any]]:
        messages = []
        for number, records in (await self.app.changelog.read(timeout)).items():
            tp = TP(self.app.changelog_topic, number)
            self._changelog_offsets[tp] = records.last_offset + 1
            messages.append(self._message(tp, records.last_offset, records.timestamp_ms, records))
        return messages

    def on_buffer_drop(self, tp: TP) -> None:
        """Take a partition as active again, and let whoever waits for that go on."""
        super().on_buffer_drop(tp)
        self._has_room.set()

    async def _room(self, timeout_s: float) -> None:
        """Wait until a buffer that was full has room, but not for longer than this."""
        self._has_room.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._has_room.wait()

    async def _assign_changelogs(self) -> set[TP]:
        """Have those changelogs read that a recovery wants, and no others; return which."""
        wanted: set[TP] = self._changelog_offsets.keys() & self.assignment()
        wanted -= self._paused_partitions
        if wanted != self._changelogs_read:
            await self.app.changelog.assign({tp.partition: self._changelog_offsets[tp] for tp in wanted})
            self._changelogs_read = wanted
        return wanted

    def _message(self, tp: TP, offset: int, timestamp_ms: int, value: object) -> tuple[TP, Any]:
        """Return a message that carries many records, the last of them at this offset."""
        message = ConsumerMessage(
            *(tp.topic, tp.partition, offset, timestamp_ms / 1000, 0, [], None),
            *(value, None, None, None, tp),
            generation_id=self.app.consumer_generation_id,
        )
        return tp, message

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        """Return where these partitions end: a recovery begins with it.

        What this worker is to write is taken first, so that nothing of whoever wrote it before comes after
        what is restored.
        """
        taken = [tp.partition for tp in partitions if tp in self.app.assignor.assigned_actives()]
        if taken:
            await self.app.parts.changelog.take(taken)
        return cast(Mapping[TP, int], await super().highwaters(*partitions))

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Go to these offsets of changelog partitions: a recovery begins, or a standby."""
        async with self._fetching:
            await self._thread.leave_to_others(partitions)
            await super().seek_wait(partitions)
            self._changelog_offsets |= partitions
            self._changelogs_read = set()

    async def perform_seek(self) -> None:
        """Go back to the committed offset of every partition, or to the beginning where there is none.

        Whatever was held is over; another assignment begins.
        """
        async with self._fetching:
            before = self.app.assignments.current
            behaviour = [tp for tp in self.assignment() if self._is_behaviour(tp)]
            await self._thread.leave_to_others(behaviour)
            await super().perform_seek()
            await self._begin_anew_beyond_the_end(behaviour)
            offsets = {tp.partition: self._committed_offset[tp] or None for tp in behaviour}
            await self.app.source.assign(offsets)
            await self.app.assignments.begin(offsets, after=before)

    async def _begin_anew_beyond_the_end(self, tps: Iterable[TP]) -> None:
        """Forget committed offsets that the topic ends before, as one that was made again may.

        Faust would take everything up to them for read already, and drop it without a word.
        """
        ends = await super().highwaters(*tps)
        for tp in tps:
            if (self._committed_offset[tp] or 0) > ends[tp]:
                logger.warning("%s ends before the committed offset: it is read from its beginning", tp)
                self._committed_offset[tp] = self._read_offset[tp] = None

    def lag(self, partition: int, position: int) -> int:
        """Return how many events of a behaviour partition come after a position, as far as is known."""
        lag: int = self.app.source.lag(partition, position)
        return lag

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Say nothing of partitions that aiokafka does not read: Faust would report them as stuck."""
        if not self._is_behaviour(tp):
            super().verify_event_path(now, tp)

    def verify_recovery_event_path(self, now: float, tp: TP) -> None:
        """Say nothing of changelog partitions, which aiokafka does not read either."""

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        for tp in super()._filter_tps_with_pending_acks(topics):
            if not self._is_behaviour(tp):
                yield tp
        for partition in self.app.assignments.current.partitions:
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
        committable: int | None = self.app.assignments.current.committable(tp.partition)
        return committable

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        if not self._is_behaviour(tp):  # a batch's last offsets always have gaps between them
            await super()._add_gap(tp, offset_from, offset_to)


class BatchTransport(FaustTransport):  # type: ignore[misc]
    """Faust's aiokafka transport with the batch consumer."""

    Consumer = BatchConsumer
