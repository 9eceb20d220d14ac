"""Where a user's window is, and the window itself where this worker has it: asked of the event loop."""

import asyncio
from dataclasses import dataclass
from typing import Literal

from stream.kafka.partitioner import partition_of
from stream.worker.twintide_app import TwintideApp

#: The event loop is asked for one window, a read of RocksDB at most; it answers within this (s), or is busy.
ANSWER_WITHIN_S = 2.0

#: here: this worker has the user's partition; elsewhere: another worker; nobody: a rebalance is under way, or
#: this worker restores its windows; busy: the event loop did not answer in time.
Where = Literal["here", "elsewhere", "nobody", "busy"]


@dataclass(frozen=True, slots=True)
class Found:
    """A user's partition, of so many; who has it; and their window, where it is here and there is one."""

    partition: int
    partitions: int
    where: Where
    #: Address of the worker that has the partition, as the group knows it; empty where nobody has.
    worker: str = ""
    window: bytes | None = None
    #: Whether events of the window are in no written vector yet.
    is_waiting: bool = False


class Lookup:
    """Finds users; `find` may be called from any thread but the event loop's."""

    def __init__(self, app: TwintideApp) -> None:
        self._app = app
        self._loop: asyncio.AbstractEventLoop | None = None

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Ask this event loop from now on."""
        self._loop = loop

    def find(self, user_id: str) -> Found:
        """Return where a user's window is."""
        partitions = self._app.window_partitions
        partition = partition_of(user_id.encode(), partitions)
        if self._loop is None:
            return Found(partition, partitions, "nobody")
        asked = asyncio.run_coroutine_threadsafe(self._look(user_id, partition, partitions), self._loop)
        try:
            return asked.result(ANSWER_WITHIN_S)
        except TimeoutError:
            asked.cancel()
            return Found(partition, partitions, "busy")

    async def _look(self, user_id: str, number: int, partitions: int) -> Found:
        """Return where the window is; partitions are the event loop's alone."""
        assignment, owner = self._app.assignments.current, self._app.owners().get(number, "")
        partition = None if assignment.is_over else assignment.partitions.get(number)
        if partition is None:
            is_own = owner in ("", self._app.address)
            return Found(number, partitions, "nobody" if is_own else "elsewhere", owner)
        waiting = user_id in partition.dirty or user_id in partition.in_flight
        return Found(number, partitions, "here", owner, partition.look(user_id), waiting)
