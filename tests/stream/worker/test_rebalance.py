"""A rebalance, read aloud: what is done before partitions are given away, and what a drain leaves undone."""

import asyncio
from collections.abc import Sequence
from threading import Event
from types import SimpleNamespace

import redis

from models.windows.window import Window, WindowSettings, window_to_bytes
from stream.encoding.refresher import Refresher
from stream.settings import Settings
from stream.windows.assignment import Assignment, Assignments
from stream.windows.changelog import AbandonedError
from stream.windows.partition import DirtyUser, Partition
from stream.worker.commits import Commits
from stream.worker.rebalance import Rebalance

DRAIN_S = 1.0


class World:
    """A worker with one partition, whose every step is told; real are assignment, refresher and commits."""

    def __init__(self, drain_s: float = 30.0) -> None:
        self.told: list[str] = []
        self.kafka_takes_s = 0.0
        self.redis_answers = Event()
        self.redis_answers.set()
        self.is_redis_down = False
        self.committed: int | None = None
        value = window_to_bytes(Window("id", 0, 4, 1, 0, 0, [1], [1], ["i"], ["c"], [1]))
        self.partition = Partition("id", 0, WindowSettings(), lambda keys: [value for _ in keys])
        self.partition.position = 5
        self.partition.dirty["u"] = DirtyUser(2, 1, [])
        self.assignments = Assignments("id", WindowSettings(), SimpleNamespace())  # type: ignore[arg-type]
        self.assignments.current = self.held = Assignment(1, {0: self.partition})
        self.refresher = Refresher(Settings(), self, self.assignments)  # type: ignore[arg-type]
        self.commits = Commits(1.0, self.assignments, self.Checkpointer(self))  # type: ignore[arg-type]
        self.rebalance = Rebalance(drain_s, self.assignments, self.commits, self, self.refresher)  # type: ignore[arg-type]

    # As the live models.
    def why_not(self) -> str:
        return ""

    def rows(self, users: Sequence[tuple[str, bytes]]) -> list[str]:
        self.told.append("encode" if self.held.is_over else "encode before the drain")
        return [user_id for user_id, _ in users]

    def write(self, rows: Sequence[str], forgotten: Sequence[tuple[str, int]]) -> int:
        assert self.redis_answers.wait(60)
        self.told.append("Redis refuses" if self.is_redis_down else "Redis has the vectors")
        if self.is_redis_down:
            raise redis.ConnectionError("down")
        return len(rows)

    class Checkpointer:
        def __init__(self, world: "World") -> None:
            self.world = world

        async def write(self, assignment: Assignment) -> None:
            self.world.told.append("changelog and RocksDB")
            waited = 0.0
            while waited < self.world.kafka_takes_s:
                await asyncio.sleep(0.01)
                waited += 0.01
                if "release" in self.world.told:
                    raise AbandonedError("gone")
            self.world.partition.durable_position = self.world.partition.position

    # As the consumer.
    async def commit(self) -> bool:
        self.committed = self.assignments.current.committable(0)
        self.told.append(f"commit {self.committed}")
        return True

    async def perform_seek(self) -> None:
        raise AssertionError("a drain never seeks")

    def lag(self, partition: int, position: int) -> int:
        return 0

    # As the changelog.
    def release(self) -> None:
        self.told.append("release")

    def drain(self) -> list[str]:
        asyncio.run(self.rebalance.drain(self))
        return self.told


def test_partitions_are_given_away_in_this_order() -> None:
    world = World()
    assert world.drain() == [
        "encode",
        "Redis has the vectors",
        "changelog and RocksDB",
        "commit 5",
        "release",
    ]
    assert world.held.is_over
    assert world.assignments.current.partitions == {}


def test_redis_that_refuses_is_asked_once_and_what_it_lacks_is_not_committed() -> None:
    world = World()
    world.is_redis_down = True
    assert world.drain() == ["encode", "Redis refuses", "changelog and RocksDB", "commit 2", "release"]


def test_drain_that_runs_out_of_time_commits_nothing_and_gives_the_changelog_away() -> None:
    world = World(drain_s=DRAIN_S)
    world.kafka_takes_s = 1_000.0
    assert world.drain() == [
        "encode",
        "Redis has the vectors",
        "changelog and RocksDB",
        "release",
    ]
    assert (world.committed, world.held.is_over) == (None, True)
    assert world.assignments.current.partitions == {}


def test_drain_that_waits_for_a_checkpoint_that_hangs_ends_it() -> None:
    async def run() -> None:
        checkpoint = asyncio.create_task(world.commits.checkpoint(world))
        await asyncio.sleep(0.05)
        await world.rebalance.drain(world)
        await asyncio.wait_for(checkpoint, 60)

    world = World(drain_s=DRAIN_S)
    world.kafka_takes_s = 1_000.0
    asyncio.run(run())
    assert world.told[-1] == "release"
    assert world.committed is None


def test_slow_redis_does_not_hold_a_drain_for_longer_than_its_time() -> None:
    async def run() -> None:
        await world.rebalance.drain(world)
        assert world.told == ["encode", "release"]
        world.redis_answers.set()

    world = World(drain_s=DRAIN_S)
    world.redis_answers.clear()
    asyncio.run(run())
    assert world.partition.in_flight, "whose vector may or may not be in Redis"
    assert world.committed is None


def test_nothing_is_begun_for_partitions_that_are_being_given_away() -> None:
    world = World()
    world.held.end()
    asyncio.run(world.commits.checkpoint(world))
    assert world.told == []
