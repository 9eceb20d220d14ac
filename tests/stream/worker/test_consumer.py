"""Reading resumes as soon as a full buffer has room, not a fetch's timeout later."""

import asyncio
import time
from types import SimpleNamespace
from typing import Any

from faust.types import TP

from stream.worker.consumer import BatchConsumer

EVENTS, ASSIGNOR = TP("events", 0), TP("assignor", 0)


class Consumer(BatchConsumer):
    """Holds a partition of events whose buffer is full, and one of Faust's own that never has anything."""

    def __init__(self) -> None:
        tables = SimpleNamespace(changelog_topics=set[str]())
        self.app = SimpleNamespace(behaviour_topic="events", tables=tables)
        self.scheduler = SimpleNamespace(iterate=lambda records: [])
        self.asked_timeouts: list[float] = []
        self._has_room = asyncio.Event()
        self._changelog_offsets = dict[TP, int]()
        self._changelogs_read = set[TP]()
        self._paused_partitions = set[TP]()
        self._active_partitions = {ASSIGNOR}
        self._buffered_partitions = {EVENTS}

    def assignment(self) -> set[TP]:
        return {EVENTS, ASSIGNOR}

    async def _getmany(self, active_partitions: set[TP], timeout: float) -> dict[TP, Any]:
        self.asked_timeouts.append(timeout)
        await asyncio.sleep(timeout)
        return {}


def test_reading_resumes_as_soon_as_a_full_buffer_has_room() -> None:
    async def drop() -> None:
        fetching = asyncio.create_task(consumer._fetch(60.0))
        await asyncio.sleep(0.01)
        assert not fetching.done()
        consumer.on_buffer_drop(EVENTS)
        assert await fetching == []

    consumer = Consumer()
    started = time.monotonic()
    asyncio.run(drop())
    assert time.monotonic() - started < 30
    assert consumer._get_active_partitions() == {EVENTS, ASSIGNOR}


def test_what_faust_itself_reads_is_asked_for_while_a_buffer_stays_full() -> None:
    consumer = Consumer()
    assert asyncio.run(consumer._fetch(0.01)) == []
    assert consumer.asked_timeouts == [0.0]
