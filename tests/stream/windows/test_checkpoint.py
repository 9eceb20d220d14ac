"""What a checkpoint leaves on disk, above all where somebody else wrote the same changelog meanwhile."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from rocksdict import Options, Rdict

from models.windows.window import WindowSettings, window_from_bytes
from stream.events.decoder import make_decoder
from stream.events.incoming import read_records
from stream.kafka.connection import KafkaConnection
from stream.kafka.producer import AbandonedError, AcknowledgedProducer
from stream.windows.assignment import Assignment
from stream.windows.checkpoint import Checkpointer
from stream.windows.partition import Partition
from stream.windows.table import WindowTable

OFFSET_KEY = b"__faust\0offset__"


class Changelog:
    """A producer whose changelog partition others may write to as well."""

    def __init__(self) -> None:
        self.end = 0
        self.sent: list[tuple[bytes | None, bytes | None]] = []
        self.on_delivered: Callable[[], None] = lambda: None

    def send(self, topic: str, key: bytes | None, value: bytes | None, *, partition: int = -1) -> None:
        self.sent.append((key, value))
        self.end += 1

    async def delivered(self, timeout_s: float) -> dict[tuple[str, int], int]:
        await asyncio.sleep(0)
        self.on_delivered()
        return {("changelog", 0): self.end - 1}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Rdict]:
    database = Rdict(str(tmp_path / "0.db"), options=Options(raw_mode=True))
    yield database
    database.close()


@pytest.fixture
def table(database: Rdict) -> WindowTable:
    data = SimpleNamespace(_db_for_partition=lambda partition: database, offset_key=OFFSET_KEY)
    topic = SimpleNamespace(get_topic_name=lambda: "changelog")
    return WindowTable(SimpleNamespace(data=data, changelog_topic=topic))


@pytest.fixture
def changelog() -> Changelog:
    return Changelog()


@pytest.fixture
def checkpointer(changelog: Changelog, table: WindowTable) -> Checkpointer:
    return Checkpointer(changelog, table, timeout_s=1, cached_windows=100)  # type: ignore[arg-type]


def fold_of(table: WindowTable, *users: str, first: int = 0) -> Partition:
    fold = Partition("topic-id", 0, WindowSettings(), lambda keys: table.load(0, keys))
    records = [record(user, first + place) for place, user in enumerate(users)]
    fold.apply(read_records(records, make_decoder("", ""), "topic-id/0"))
    return fold


def record(user: str, offset: int) -> SimpleNamespace:
    event = {"user_id": user, "item_id": f"i{offset}", "behavior_type": 1, "time": 1000 + offset}
    value = msgspec.json.encode(event)
    return SimpleNamespace(
        key=lambda: user.encode(),
        value=lambda: value,
        offset=lambda: offset,
        timestamp=lambda: (1, 1000 + offset),
        headers=lambda: None,
    )


def test_windows_and_their_changelog_offset_are_stored(
    checkpointer: Checkpointer, table: WindowTable, database: Rdict
) -> None:
    fold = fold_of(table, "a", "b", "a")
    asyncio.run(checkpointer.write(Assignment(1, {0: fold})))
    assert fold.durable_position == 3
    assert window_from_bytes(database[b"a"]).item_ids == ["i0", "i2"]
    assert database[OFFSET_KEY] == b"1"


def test_offset_stays_where_another_writer_comes_between(
    checkpointer: Checkpointer, changelog: Changelog, table: WindowTable, database: Rdict
) -> None:
    asyncio.run(checkpointer.write(Assignment(1, {0: fold_of(table, "a", "b")})))
    changelog.end += 3  # while this worker was paused, its successor wrote three windows
    asyncio.run(checkpointer.write(Assignment(1, {0: fold_of(table, "c", first=10)})))
    assert database[b"c"] is not None
    # Were it 5, the successor's three would never be restored here.
    assert database[OFFSET_KEY] == b"1"
    asyncio.run(checkpointer.write(Assignment(1, {0: fold_of(table, "d", first=20)})))
    assert database[OFFSET_KEY] == b"1"


def test_partition_taken_away_meanwhile_is_no_error(
    checkpointer: Checkpointer, changelog: Changelog, table: WindowTable, database: Rdict
) -> None:
    assignment = Assignment(1, {0: fold_of(table, "a")})
    changelog.on_delivered = assignment.end
    asyncio.run(checkpointer.write(assignment))
    assert database[b"a"] is not None


def test_what_is_abandoned_does_not_count_as_delivered() -> None:
    publisher = AcknowledgedProducer(KafkaConnection("127.0.0.1:1"), "test")

    async def abandon_while_waiting() -> None:
        publisher.send("changelog", b"a", b"value", partition=0)
        waiting = asyncio.create_task(publisher.delivered(timeout_s=10))
        await asyncio.sleep(0.3)
        publisher.abandon()
        with pytest.raises(AbandonedError):
            await waiting
        assert await publisher.delivered(timeout_s=10) == {}  # the next ones start anew, without an error

    asyncio.run(abandon_while_waiting())


def test_forgotten_user_leaves_disk_and_changelog(
    checkpointer: Checkpointer, changelog: Changelog, table: WindowTable, database: Rdict
) -> None:
    asyncio.run(checkpointer.write(Assignment(1, {0: fold_of(table, "a", "b")})))
    fold = Partition("topic-id", 0, WindowSettings(), lambda keys: table.load(0, keys))
    fold.drop(["a"])
    asyncio.run(checkpointer.write(Assignment(1, {0: fold})))
    assert changelog.sent[-1] == (b"a", None)
    assert b"a" not in database
    assert database[OFFSET_KEY] == b"2"
    assert [key for key, _ in table.scan(0, b"", 10)] == [b"b"]
