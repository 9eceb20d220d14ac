"""Writing users again from state: for a model that they do not have yet, or a Redis that lost their vectors.

A partition's users are taken a portion at a time, those in memory first, as they are the live ones; then all
that RocksDB holds. Live traffic goes first: a portion is small, is never longer at work than it rests, and
waits while changed users queue or reading is behind. Whoever changes meanwhile is written by the refresher,
for all live models, so what a backfill has passed stays right.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from models.windows.window import is_empty
from stream import metrics
from stream.encoding.refresher import Refresher, Work
from stream.store.model_registry import LiveModel
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
    """How far the users of one partition are written again."""

    partition: int
    #: With which models, and about how many users there are.
    models: Sequence[LiveModel]
    total: int
    #: What `Pipeline.assignment` and `Store.losses` were when it began: it is void where they have changed.
    assignment: int
    losses: int
    #: Users who were in memory and are not written yet, the last seen last; those of them who are.
    live: list[str]
    written: set[str] = field(default_factory=set)
    #: The last key of RocksDB that was looked at.
    place: bytes = b""
    done: int = 0
    is_complete: bool = False
    started_at: float = field(default_factory=time.monotonic)
    reported_at: float = 0.0

    @property
    def versions(self) -> frozenset[str]:
        """Return the versions to write."""
        return frozenset(model.version for model in self.models)


@dataclass(frozen=True, slots=True)
class Portion:
    """Some users, and where a backfill is once they are written."""

    users: Sequence[tuple[str, bytes]]
    live: list[str]
    place: bytes
    is_last: bool


class Backfiller:
    """Takes one backfill a portion further; what to backfill is decided elsewhere (follow.py)."""

    def __init__(
        self,
        users_per_s: float,
        refresher: Refresher,
        table: WindowTable,
        partitions: Mapping[int, Partition],
        checkpointing: asyncio.Lock,
    ) -> None:
        """Write so many users a second at most; `checkpointing` is held during a portion."""
        #: How often partitions were given away: no backfill outlives that.
        self.assignment = 0
        self._users_per_s = users_per_s
        self._refresher = refresher
        self._table = table
        self._partitions = partitions
        self._checkpointing = checkpointing
        #: Seconds of a CPU and users of the last portions, the older the less.
        self._cpu_s, self._users = PORTION_S, 16.0

    def backfill(self, partition: int, models: Sequence[LiveModel], losses: int) -> Backfill:
        """Return a backfill that begins with the users in memory."""
        fold = self._partitions.get(partition)
        live = fold.in_memory() if fold else []
        return Backfill(partition, models, self._table.count(partition), self.assignment, losses, live)

    async def step(self, backfill: Backfill, is_void: Callable[[], bool]) -> None:
        """Write the next portion, unless the backfill is void by then, and rest. Raises redis.RedisError.

        No checkpoint, sweep or drain happens meanwhile: what is read of a partition is then what it holds,
        and nobody who is forgotten or swept comes back.
        """
        await self._let_live_go_first()
        started, worked = time.monotonic(), Work()
        async with self._checkpointing:
            if is_void():
                return
            portion = await self._next(backfill, self._portion_users())
            if portion.users:
                worked = await self._refresher.backfill(portion.users, backfill.versions)
        if backfill.live:
            backfill.written.update(user_id for user_id, _ in portion.users)
        backfill.live, backfill.place, backfill.is_complete = portion.live, portion.place, portion.is_last
        count = len(portion.users)
        backfill.done += count
        metrics.rewritten_users_total.inc(count)
        if count:
            self._cpu_s, self._users = 0.8 * self._cpu_s + worked.cpu_s, 0.8 * self._users + count
        await self._rest(count, started, worked)

    async def write_categories(self, version: str, categories: Sequence[str]) -> None:
        """Write what a cold-start user gets of a model at these categories, as gently as users are written.

        Raises redis.RedisError, and TimeoutError where Redis is away.
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
        fold = self._partitions.get(backfill.partition)
        if backfill.live:
            user_ids = reversed(backfill.live[-at_most:])
            found = [(user_id, fold.peek(user_id) if fold else None) for user_id in user_ids]
            live = [(user_id, value) for user_id, value in found if value and not is_empty(value)]
            return Portion(live, backfill.live[:-at_most], backfill.place, is_last=False)
        stored = await asyncio.to_thread(self._table.scan, backfill.partition, backfill.place, at_most)
        users = []
        for key, value in stored:
            user_id = key.decode()
            if user_id not in backfill.written:
                newer = fold.peek(user_id) if fold else None
                users.append((user_id, value if newer is None else newer))
        users = [(user_id, value) for user_id, value in users if not is_empty(value)]  # else forgotten
        return Portion(users, [], stored[-1][0] if stored else backfill.place, is_last=not stored)

    async def _rest(self, count: int, started: float, worked: Work) -> None:
        took_s = time.monotonic() - started
        await asyncio.sleep(max(count / self._users_per_s - took_s, worked.took_s))

    async def _let_live_go_first(self) -> None:
        deadline = time.monotonic() + LIVE_FIRST_S
        while self._refresher.is_busy() and time.monotonic() < deadline:
            await asyncio.sleep(PORTION_S)
