"""When a checkpoint is due, and what is never committed."""

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from models.windows.window import WindowSettings
from stream.windows.assignment import Assignment, Assignments
from stream.windows.changelog import AbandonedError, FencedError
from stream.windows.partition import DirtyUser, Partition
from stream.worker.commits import Commits


@dataclass
class World:
    """Takes the place of what commits work with; remembers what is done, in order."""

    checkpoint_s: float = 1_000.0
    position: int = 5
    durable_position: int = 5
    done: list[str] = field(default_factory=list)
    is_fenced: bool = False
    is_abandoned: bool = False
    is_broken: bool = False

    def __post_init__(self) -> None:
        self.partition = Partition("id", 0, WindowSettings(), lambda keys: [None for _ in keys])
        self.partition.position, self.partition.durable_position = self.position, self.durable_position
        self.assignments = Assignments("id", WindowSettings(), SimpleNamespace())  # type: ignore[arg-type]
        self.assignments.current = self.held = Assignment(1, {0: self.partition})
        self.commits = Commits(self.checkpoint_s, self.assignments, self)  # type: ignore[arg-type]

    async def write(self, assignment: Assignment) -> None:
        self.done.append("write")
        if self.is_fenced:
            raise FencedError("partition 0 is another worker's by now")
        if self.is_abandoned:
            raise AbandonedError("gone")
        if self.is_broken:
            raise OSError("no space left")
        self.partition.durable_position = self.partition.position

    async def commit(self) -> bool:
        self.done.append(f"commit {self.assignments.current.committable(0)}")
        return True

    async def perform_seek(self) -> None:
        raise AssertionError("a checkpoint never seeks")

    def lag(self, partition: int, position: int) -> int:
        return 0

    def checkpoint(self) -> list[str]:
        asyncio.run(self.commits.checkpoint(self))
        return self.done


def test_offsets_are_due_as_soon_as_the_last_vector_is_written() -> None:
    async def write() -> None:
        due = asyncio.create_task(world.commits.until_due())
        await asyncio.sleep(0.05)
        assert not due.done()
        world.partition.dirty.clear()
        world.held.note_progress()
        await asyncio.wait_for(due, 60)

    world = World()
    world.partition.dirty["u"] = DirtyUser(4, 1, [])
    asyncio.run(write())


def test_windows_are_due_in_a_lull_although_vectors_are_still_to_be_written() -> None:
    world = World(checkpoint_s=10, durable_position=0)
    world.partition.dirty["u"] = DirtyUser(4, 1, [])
    asyncio.run(asyncio.wait_for(world.commits.until_due(), 9))


def test_nothing_is_due_early_once_all_is_committed() -> None:
    world = World(checkpoint_s=3)
    assert world.checkpoint() == ["write", "commit 5"]
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(world.commits.until_due(), 1.0))


def test_nothing_is_due_early_for_an_assignment_that_is_over() -> None:
    world = World(checkpoint_s=3)
    world.held.end()
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(world.commits.until_due(), 1.0))


def test_windows_are_durable_before_offsets_are_committed() -> None:
    assert World(durable_position=0).checkpoint() == ["write", "commit 5"]


def test_offset_of_an_event_whose_vector_is_not_written_is_not_committed() -> None:
    world = World(durable_position=0)
    world.partition.in_flight["u"] = DirtyUser(3, 1, [])
    assert world.checkpoint() == ["write", "commit 3"]


def test_nothing_is_written_or_committed_of_what_is_over() -> None:
    world = World(durable_position=0)
    world.held.end()
    assert world.checkpoint() == []


def test_worker_whose_partition_another_has_taken_commits_nothing_more_and_goes_on_with_the_next() -> None:
    world = World(durable_position=0, is_fenced=True)
    assert world.checkpoint() == ["write"]
    world.is_fenced, world.partition.durable_position = False, world.partition.position
    assert world.checkpoint() == ["write"], "the windows of the first are still in no changelog"
    assert world.held.committable(0) is None
    world.assignments.current = Assignment(2, {0: world.partition})
    assert world.checkpoint() == ["write", "write", "commit 5"]


def test_worker_that_the_group_does_not_tell_that_it_lost_a_partition_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(durable_position=0, is_fenced=True)
    assert world.checkpoint() == ["write"]
    monkeypatch.setattr("stream.worker.commits.FENCED_TOO_LONG_S", 0.0)
    with pytest.raises(FencedError, match="partition 0 is another worker's"):
        world.checkpoint()


def test_what_was_thrown_away_is_not_committed() -> None:
    world = World(durable_position=0, is_abandoned=True)
    assert world.checkpoint() == ["write"]


def test_uncommitted_time_counts_only_while_something_is_held() -> None:
    world = World(durable_position=0)
    world.commits._committed_at -= 100
    assert world.commits.uncommitted_s() > 99
    world.checkpoint()
    assert world.commits.uncommitted_s() < 50
    world.commits._committed_at -= 100
    world.assignments.drop()
    assert world.commits.uncommitted_s() == 0.0


def test_uncommitted_time_is_that_of_the_oldest_event_also_where_more_are_always_to_be_written() -> None:
    world = World()
    for number in range(1, 50):
        world.partition.position = 100 * number
        world.partition.dirty["u"] = DirtyUser(100 * number - 1, 1, [])
        world.commits._committed_at -= 10
        world.commits._due_at -= 10
        world.checkpoint()
        assert world.commits.uncommitted_s() < 21
    stuck = world.partition.position - 1
    for _ in range(5):
        world.partition.position += 100
        world.partition.dirty["u"] = DirtyUser(stuck, 1, [])
        world.commits._committed_at -= 10
        world.commits._due_at -= 10
        world.checkpoint()
    assert world.commits.uncommitted_s() > 49


def test_nothing_is_committed_after_anything_failed_half_way() -> None:
    """What a checkpoint that failed should have made durable would else be taken as durable by the next."""
    world = World(durable_position=0, is_broken=True)
    with pytest.raises(OSError, match="no space left"):
        world.checkpoint()
    world.is_broken = False
    assert world.checkpoint() == ["write"]
    world.partition.durable_position = world.partition.position
    assert world.held.committable(0) is None, "nor by a commit of Faust's own"
