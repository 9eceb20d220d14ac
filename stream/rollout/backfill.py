"""Backfill: writing users' vectors from state, for a model that they do not have or a Redis that lost them.

A partition's users are taken a portion at a time, those in memory first, as they are the live ones; then all
that RocksDB holds. Live traffic goes first: a portion is small, is never longer at work than it rests, and
waits while changed users queue or reading is behind. Whoever changes meanwhile is written by the refresher,
for all live models, so what a backfill has passed stays right.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from models.windows.window import is_empty
from stream import metrics
from stream.encoding.refresher import Refresher, Work
from stream.store.registry_state import LiveModel
from stream.windows.assignment import Assignment
from stream.windows.partition import Partition
from stream.windows.table import WindowTable

#: How long a CPU may work at one portion (s). What handing it from thread to thread takes under load comes on
#: top: fewer users would make that no shorter, and a backfill endless.
PORTION_S = 0.02

#: Users of one portion at most.
PORTION_USERS = 256

#: A portion waits this long at most for live traffic to leave it room (s), so that a backfill always ends.
LIVE_FIRST_S = 0.5


@dataclass(slots=True)
class Backfill:
    """How far the users of one partition are written."""

    assignment: Assignment
    partition: Partition
    #: With which models, and about how many users there are.
    models: Sequence[LiveModel]
    total: int
    #: What `Store.losses` was when it began: once it has grown, users written before may have lost it all.
    losses: int
    #: Users who were in memory and are not written yet, the last seen last; those of them who are.
    in_memory: list[str]
    written: set[str] = field(default_factory=set)
    #: The last key of RocksDB that was read.
    place: bytes = b""
    done: int = 0
    is_complete: bool = False
    started_at: float = field(default_factory=time.monotonic)
    reported_at: float = 0.0

    @property
    def number(self) -> int:
        """Return the number of the partition."""
        return self.partition.partition

    @property
    def versions(self) -> frozenset[str]:
        """Return the versions to write."""
        return frozenset(model.version for model in self.models)


@dataclass(frozen=True, slots=True)
class Portion:
    """Some users, and where a backfill is once they are written."""

    users: Sequence[tuple[str, bytes]]
    in_memory: list[str]
    place: bytes
    is_last: bool


class Backfiller:
    """Takes one backfill a portion further; what to backfill is decided in backfill_plan.py."""

    def __init__(self, users_per_s: float, refresher: Refresher, table: WindowTable) -> None:
        """Write so many users a second at most."""
        self._users_per_s = users_per_s
        self._refresher = refresher
        self._table = table
        #: Seconds of a CPU and users of the last portions, the older the less.
        self._cpu_s, self._users = PORTION_S, 16.0

    def begin(
        self, assignment: Assignment, number: int, models: Sequence[LiveModel], losses: int
    ) -> Backfill:
        """Return a backfill of a partition, which begins with the users in memory."""
        partition, total = assignment.partitions[number], self._table.count(number)
        return Backfill(assignment, partition, models, total, losses, partition.in_memory())

    async def step(self, backfill: Backfill, is_stale: Callable[[], bool]) -> None:
        """Write the next portion, unless the backfill is stale by then, and rest. Raises redis.RedisError.

        No checkpoint, sweep or drain happens meanwhile: what is read of a partition is then what it holds,
        and nobody who is forgotten or swept comes back.
        """
        await self._let_live_go_first()
        started, worked = time.monotonic(), Work()
        async with backfill.assignment.lock:
            if is_stale():
                return
            portion = await self._next(backfill, self._portion_users())
            if portion.users:
                worked = await self._refresher.backfill(backfill.assignment, portion.users, backfill.versions)
        if backfill.in_memory:
            backfill.written.update(user_id for user_id, _ in portion.users)
        backfill.in_memory, backfill.place = portion.in_memory, portion.place
        backfill.is_complete = portion.is_last
        count = len(portion.users)
        backfill.done += count
        metrics.rewritten_users_total.inc(count)
        if count:
            self._cpu_s, self._users = 0.8 * self._cpu_s + worked.cpu_s, 0.8 * self._users + count
        await self._rest(count, started, worked)

    async def write_categories(self, version: str, categories: Sequence[str]) -> None:
        """Write a model's vectors of cold-start users at these categories, as gently as users are written.

        Raises redis.RedisError, and TimeoutError where Redis is down.
        """
        for start in range(0, len(categories), PORTION_USERS):
            portion = categories[start : start + PORTION_USERS]
            await self._let_live_go_first()
            started = time.monotonic()
            worked = await self._refresher.write_cold_start(version, portion)
            await self._rest(len(portion), started, worked)

    def _portion_users(self) -> int:
        return max(1, min(int(PORTION_S * self._users / self._cpu_s), PORTION_USERS))

    async def _next(self, backfill: Backfill, at_most: int) -> Portion:
        if backfill.in_memory:
            return _next_in_memory(backfill, at_most)
        partition = backfill.partition
        stored = await asyncio.to_thread(self._table.scan, backfill.number, backfill.place, at_most)
        users = []
        for key, value in stored:
            user_id = key.decode()
            newest = partition.peek(user_id) or value
            if user_id not in backfill.written and not is_empty(newest):  # else written, or forgotten
                users.append((user_id, newest))
        return Portion(users, [], stored[-1][0] if stored else backfill.place, is_last=not stored)

    async def _rest(self, count: int, started: float, worked: Work) -> None:
        took_s = time.monotonic() - started
        await asyncio.sleep(max(count / self._users_per_s - took_s, worked.took_s))

    async def _let_live_go_first(self) -> None:
        deadline = time.monotonic() + LIVE_FIRST_S
        while self._refresher.is_busy() and time.monotonic() < deadline:
            await asyncio.sleep(PORTION_S)


def _next_in_memory(backfill: Backfill, at_most: int) -> Portion:
    """Return the users of those in memory who were seen last, without the forgotten."""
    user_ids = reversed(backfill.in_memory[-at_most:])
    found = [(user_id, backfill.partition.peek(user_id)) for user_id in user_ids]
    users = [(user_id, value) for user_id, value in found if value and not is_empty(value)]
    return Portion(users, backfill.in_memory[:-at_most], backfill.place, is_last=False)
