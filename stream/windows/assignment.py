"""The partitions that this worker holds: one object from when it gets them until it gives them away.

Everything that works on partitions (a batch of events, a checkpoint, a sweep, a backfill, a write to Redis)
belongs to one assignment, and asks it one question: `is_over`. What happens on a rebalance stands in
stream/worker/rebalance.py.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping

from models.windows.window import WindowSettings
from stream.windows.partition import Partition
from stream.windows.table import WindowTable


class Assignment:
    """Partitions held together, from the committed offsets on; used from the event loop.

    The set of partitions never changes: another set, or reading again from the committed offsets, is another
    assignment. `/health` and `/metrics` read it from their own thread.
    """

    def __init__(self, number: int, partitions: Mapping[int, Partition]) -> None:
        #: How many assignments this worker had before.
        self.number = number
        self.partitions = partitions
        #: Held by a checkpoint, by a step of the sweep and by a portion of a backfill: each sees windows that
        #: none of the others changes meanwhile.
        self.lock = asyncio.Lock()
        self._is_over = False
        self._over_since = 0.0
        self._is_spoilt = False
        self._progress = asyncio.Event()

    @property
    def is_over(self) -> bool:
        """Whether these partitions are being given away, or have been: then no work may begin for them.

        What was in flight by then is finished by the drain, or comes again to the next owner.
        """
        return self._is_over

    def end(self) -> None:
        """Say that the partitions are being given away, and let go whoever waits for progress."""
        if not self._is_over:
            self._is_over, self._over_since = True, time.monotonic()
        self._progress.set()

    @property
    def is_spoilt(self) -> bool:
        """Whether work on it failed half-way, so that nothing of it may be committed any more."""
        return self._is_spoilt

    def spoil(self) -> None:
        """Say that work failed half-way: the worker ends, and what is not committed by now comes again."""
        self._is_spoilt = True

    def over_s(self) -> float:
        """Return for how long it has been over (s); 0 where it is not."""
        return time.monotonic() - self._over_since if self._is_over else 0.0

    async def progress(self) -> None:
        """Wait until vectors of some users are written, or the assignment is over."""
        if not self._is_over:
            self._progress.clear()
        await self._progress.wait()

    def note_progress(self) -> None:
        """Say that vectors of some users are written."""
        self._progress.set()

    def waiting(self) -> int:
        """Return how many users' vectors do not know all of their windows yet."""
        return sum(len(each.dirty) + len(each.in_flight) for each in self.partitions.values())

    def dirty(self) -> int:
        """Return how many of them are not being encoded or written."""
        return sum(len(each.dirty) for each in self.partitions.values())

    def behind(self) -> int:
        """Return how many events are still to be read."""
        return sum(each.behind for each in self.partitions.values())

    def positions(self) -> dict[int, int]:
        """Return the offset of the next event of each partition."""
        return {number: each.position for number, each in self.partitions.items()}

    def needs_checkpoint(self) -> bool:
        """Return whether the changelog lacks anything."""
        return any(each.needs_checkpoint() for each in self.partitions.values())

    def committable(self, partition: int) -> int | None:
        """Return the source offset of a partition that may be committed, None where there is none yet."""
        found = None if self._is_spoilt else self.partitions.get(partition)
        return found.committable() if found is not None and found.committable() > 0 else None

    def peek(self, user_id: str) -> bytes | None:
        """Return a user's window if it is in memory; otherwise the stored one is the newest."""
        in_memory = (each.peek(user_id) for each in self.partitions.values())
        return next((each for each in in_memory if each is not None), None)


class Assignments:
    """The assignment that this worker has now; before the first and between two, one that is over."""

    def __init__(self, topic_id: str, settings: WindowSettings, table: WindowTable) -> None:
        self._topic_id = topic_id
        self._settings = settings
        self._table = table
        self._count = 0
        self.current = self._none()

    async def begin(self, partitions: Iterable[int], after: Assignment) -> None:
        """Hold these partitions, which are read from their committed offsets on; what was held is over.

        `after` was current when the reader began to go there. Where it was drained meanwhile, the partitions
        may be another worker's by now, and nothing begins: the rebalance that drained them goes to the
        committed offsets itself. Windows that were changed and not stored are left out: their events come
        again.
        """
        async with after.lock:  # a checkpoint may still store what the new partitions will load
            if after is not self.current:
                return
            after.end()
        self._count += 1
        self.current = Assignment(self._count, {number: self._partition(number) for number in partitions})

    def drop(self) -> None:
        """Hold nothing: the partitions are drained."""
        self.current.end()
        self.current = self._none()

    def _none(self) -> Assignment:
        none = Assignment(self._count, {})
        none.end()
        return none

    def _partition(self, number: int) -> Partition:
        return Partition(self._topic_id, number, self._settings, lambda keys: self._table.load(number, keys))
