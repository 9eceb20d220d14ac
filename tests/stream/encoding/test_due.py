"""Who is taken into a batch: by interval, share of the partition and room; on a clock that the test moves."""

from models.windows.window import WindowSettings
from stream.encoding.due import DueUsers
from stream.settings import Settings
from stream.windows.assignment import Assignment
from stream.windows.partition import DirtyUser, Partition


class World:
    """Partitions whose users become dirty, and a clock that stands until it is moved."""

    def __init__(self, partitions: int = 1, settings: Settings | None = None) -> None:
        self.now_s = 0.0
        self.due = DueUsers(settings or Settings(), lambda: self.now_s)
        numbers = range(partitions)
        held = {number: Partition("t", number, WindowSettings(), lambda keys: []) for number in numbers}
        self.held = Assignment(1, held)

    def change(self, *users: str, partition: int = 0) -> None:
        held = self.held.partitions[partition]
        for user_id in users:
            held.dirty.setdefault(user_id, DirtyUser(max(held.position, 0), 1, []))
            held.position += 1
        self.due.note_read(self.held)

    def take(self) -> list[str]:
        """Take a batch, which is written at once."""
        taken = self.due.take(self.held)
        for partition, user_id in taken:
            del partition.in_flight[user_id]
        return [user_id for _, user_id in taken]


def test_busy_user_is_taken_once_for_each_interval_and_another_at_once() -> None:
    world = World(settings=Settings(encode_interval_ms=125))
    taken = []
    for step in range(128):  # 64 clicks a second, for two seconds
        world.now_s = step / 64
        world.change("busy")
        taken += world.take()
    assert len(taken) == 16
    world.change("other")
    assert world.take() == ["other"]


def test_without_an_interval_every_change_is_taken() -> None:
    world = World(settings=Settings(encode_interval_ms=0))
    taken = []
    for _ in range(10):
        world.change("busy")
        taken += world.take()
    assert taken == ["busy"] * 10


def test_nobody_rests_once_half_of_the_room_is_taken() -> None:
    world = World(settings=Settings(encode_interval_ms=1_000, waiting_users=4))
    world.change("u")
    assert world.take() == ["u"]
    world.change("u")
    assert world.take() == []
    world.change("u", "v")
    assert world.take() == ["u", "v"]


def test_user_who_is_being_written_is_not_taken() -> None:
    world = World(settings=Settings(encode_interval_ms=0))
    world.change("u")
    partition = world.held.partitions[0]
    world.due.take(world.held)
    world.change("u")
    assert world.due.take(world.held) == []
    del partition.in_flight["u"]
    assert [user_id for _, user_id in world.due.take(world.held)] == ["u"]


def test_partition_with_few_waiting_leaves_the_rest_of_its_share_to_the_others() -> None:
    world = World(partitions=2, settings=Settings(batch_users=10))
    world.change("few", partition=1)
    world.change(*(f"many {number}" for number in range(20)))
    assert world.take() == ["few", *(f"many {number}" for number in range(9))]


def test_batch_is_full_when_as_many_are_due_as_are_taken_who_rest_do_not_count() -> None:
    world = World(settings=Settings(batch_users=2, encode_interval_ms=50))
    world.change("u", "v")
    assert world.due.is_batch_full(world.held)
    world.take()
    world.change("u", "v")
    world.take()  # both rest
    assert not world.due.is_batch_full(world.held)
    world.change("w", "x")
    assert world.due.is_batch_full(world.held)


def test_worker_that_is_behind_is_busy() -> None:
    world = World()
    assert not world.due.is_busy(world.held)
    world.held.partitions[0].behind = 10_000_000
    world.due.note_read(world.held)
    assert world.due.is_busy(world.held)
