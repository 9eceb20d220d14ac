"""What becomes of a fetched batch: folded, left out because its assignment is over, or missed."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from models.windows.window import WindowSettings, window_from_bytes
from stream.events.decoder import make_decoder
from stream.events.incoming import Incoming, read_records
from stream.kafka.producer import PublishError
from stream.windows.assignment import Assignment, Assignments
from stream.windows.partition import DirtyUser
from stream.worker.dead_letters import FRAME_BYTES, DeadLetters
from stream.worker.pipeline import Pipeline
from stream.worker.source import FetchedBatch, Topic


def record(user: str, offset: int, **changes: object) -> SimpleNamespace:
    event = {"user_id": user, "item_id": f"i{offset}", "behavior_type": 1, "time": 1000 + offset, **changes}
    return SimpleNamespace(
        key=lambda: user.encode(),
        value=lambda: msgspec.json.encode(event),
        offset=lambda: offset,
        timestamp=lambda: (1, 1000 + offset),
        headers=lambda: None,
    )


def incoming(*records: SimpleNamespace) -> Incoming:
    return read_records(records, make_decoder("", ""), "topic-id/0")


class Source:
    """Takes the place of the consumer: a seek begins another assignment, as Faust's does."""

    def __init__(self, assignments: Assignments) -> None:
        self.assignments = assignments
        self.seeks = 0

    async def perform_seek(self) -> None:
        self.seeks += 1
        await self.assignments.begin([0], self.assignments.current)

    async def commit(self) -> bool:
        raise AssertionError("a batch commits nothing")

    def lag(self, partition: int, position: int) -> int:
        return 100 - position


class World:
    """A pipeline, with one partition held."""

    def __init__(self, waiting_users: int = 10) -> None:
        table = SimpleNamespace(load=lambda number, keys: [None for _ in keys])
        self.assignments = Assignments("topic-id", WindowSettings(), table)  # type: ignore[arg-type]
        self.dead_letters: list[tuple[str, bytes, bytes, Any]] = []
        self.refuses = False
        self.woken = 0
        self.source = Source(self.assignments)
        dead_letters = DeadLetters(self, "dlq", Topic("events", "topic-id", 1), 100_000)  # type: ignore[arg-type]
        self.pipeline = Pipeline(waiting_users, dead_letters, self)  # type: ignore[arg-type]
        asyncio.run(self.assignments.begin([0], self.assignments.current))

    @property
    def held(self) -> Assignment:
        return self.assignments.current

    def send(self, topic: str, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]]) -> None:
        if self.refuses:
            raise PublishError("too large")
        self.dead_letters.append((topic, key, value, dict(headers)))

    def wake(self) -> None:
        self.woken += 1

    def fetch(self, *records: SimpleNamespace) -> FetchedBatch:
        return FetchedBatch(incoming(*records), self.held, self.held.partitions[0].number_batch())

    async def process(self, batch: FetchedBatch) -> None:
        await self.pipeline.process(self.source, 0, batch)

    def items_of(self, user_id: str) -> list[str]:
        return window_from_bytes(self.held.partitions[0].window(user_id)).item_ids


def test_batch_is_folded_its_users_are_dirty_and_the_refresher_is_woken() -> None:
    world = World()
    asyncio.run(world.process(world.fetch(record("u", 4), record("v", 5))))
    assert (world.items_of("u"), world.held.positions(), world.held.behind()) == (["i4"], {0: 6}, 94)
    assert (world.held.waiting(), world.woken, world.source.seeks) == (2, 1, 0)


def test_lost_batch_is_noticed_and_everything_is_read_again_from_the_committed_offsets() -> None:
    world = World()
    asyncio.run(world.process(world.fetch(record("u", 0))))
    lost, after, last = (world.fetch(record("u", offset)) for offset in (1, 2, 3))
    first = world.held
    asyncio.run(world.process(after))  # `lost` never comes
    assert world.source.seeks == 1
    assert first.is_over
    assert first.positions() == {0: 1}, "what comes after the gap is not folded"
    asyncio.run(world.process(last))  # was under way when the seek began
    assert (world.source.seeks, world.held.positions()) == (1, {0: -1})
    for offset in range(4):
        asyncio.run(world.process(world.fetch(record("u", offset))))
    assert world.items_of("u") == ["i0", "i1", "i2", "i3"]
    assert (world.source.seeks, lost.number) == (1, 1)


def test_batch_of_an_assignment_that_is_over_changes_nothing() -> None:
    world = World()
    batch = world.fetch(record("u", 0))
    first = world.held
    world.assignments.drop()
    asyncio.run(world.process(batch))
    assert (first.waiting(), first.positions(), world.woken) == (0, {0: -1}, 0)


def test_batch_that_waits_for_room_is_let_go_when_its_assignment_is_over() -> None:
    async def run() -> None:
        world.held.partitions[0].dirty["other"] = DirtyUser(0, 1, [])
        waiting = asyncio.create_task(world.process(batch))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        world.held.end()
        await asyncio.wait_for(waiting, 60)

    world = World(waiting_users=1)
    batch = world.fetch(record("u", 0))
    asyncio.run(run())
    assert world.held.positions() == {0: -1}


def test_batch_that_waits_for_room_is_folded_as_soon_as_vectors_are_written() -> None:
    async def run() -> None:
        world.held.partitions[0].dirty["other"] = DirtyUser(0, 1, [])
        waiting = asyncio.create_task(world.process(batch))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        world.held.partitions[0].dirty.clear()
        world.held.note_progress()
        await asyncio.wait_for(waiting, 60)

    world = World(waiting_users=1)
    batch = world.fetch(record("u", 0))
    asyncio.run(run())
    assert world.items_of("u") == ["i0"]


def test_what_cannot_be_read_goes_to_the_dead_letters_with_its_place_and_the_rest_is_folded() -> None:
    world = World()
    asyncio.run(world.process(world.fetch(record("u", 7), record("u", 8, behavior_type=9))))
    place = {"reason": b"behaviour", "topic": b"events", "partition": b"0", "offset": b"8"}
    said = {**place, "timestamp": b"1008", "tries": b"0"}
    assert [(each[0], each[3]) for each in world.dead_letters] == [("dlq", said)]
    assert (world.items_of("u"), world.held.positions()) == (["i7"], {0: 9})


def test_dead_letter_that_is_too_large_is_cut_short_with_its_sizes() -> None:
    world = World()
    asyncio.run(world.process(world.fetch(record("u" * 70_000, 0, note="x" * 200_000))))
    ((_, key, value, headers),) = world.dead_letters
    assert (headers["reason"], headers["key_bytes"]) == (b"long_id", b"70000")
    assert (len(key), len(key) + len(value)) == (65_535, 100_000 - FRAME_BYTES)
    assert int(headers["value_bytes"]) > 270_000
    assert value.startswith(b'{"user_id":"uuu')


def test_headers_that_are_too_large_for_a_dead_letter_are_left_out_with_their_size() -> None:
    world = World()
    large = record("u", 0, behavior_type=9)
    large.headers = lambda: [("trace", b"x" * 90_000)]
    asyncio.run(world.process(world.fetch(large)))
    ((_, _, value, headers),) = world.dead_letters
    assert (value, headers["headers_bytes"]) == (large.value(), b"90015")
    assert "trace" not in headers


def test_no_offset_is_behind_a_dead_letter_that_could_not_be_sent() -> None:
    world = World()
    world.refuses = True
    with pytest.raises(PublishError):
        asyncio.run(world.process(world.fetch(record("u", 7), record("u", 8, behavior_type=9))))
    assert world.held.positions() == {0: -1}


def test_worker_without_a_model_forgets_who_is_dirty() -> None:
    world = World()
    world.pipeline = Pipeline(10, world, None)  # type: ignore[arg-type]
    asyncio.run(world.process(world.fetch(record("u", 0))))
    assert (world.items_of("u"), world.held.waiting()) == (["i0"], 0)
