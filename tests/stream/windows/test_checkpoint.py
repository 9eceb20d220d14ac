"""What a checkpoint leaves in the changelog and on disk."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from rocksdict import Options, Rdict

from models.windows.window import WindowSettings, window_from_bytes
from stream.events.decoder import make_decoder
from stream.events.incoming import read_records
from stream.windows.assignment import Assignment
from stream.windows.changelog import FencedError, Row
from stream.windows.checkpoint import Checkpointer
from stream.windows.partition import Partition
from stream.windows.table import WindowTable

OFFSET_KEY = b"__faust\0offset__"


class Changelog:
    """Takes the place of changelog and dead letters; a transaction ends with a place of its own."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.sent: list[Row] = []
        self.end = 0
        self.is_fenced = False

    async def delivered(self, timeout_s: float) -> dict[tuple[str, int], int]:
        self.told.append("dead letters")
        return {}

    async def write(self, rows: Mapping[int, Sequence[Row]], timeout_s: float) -> dict[int, int]:
        if self.is_fenced:
            raise FencedError("partition 0 is another worker's by now")
        self.told.append("changelog")
        self.sent += rows[0]
        self.end += len(rows[0]) + 1
        return {0: self.end - 1}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Rdict]:
    database = Rdict(str(tmp_path / "0.db"), options=Options(raw_mode=True))
    yield database
    database.close()


@pytest.fixture
def table(database: Rdict) -> WindowTable:
    data = SimpleNamespace(
        _db_for_partition=lambda partition: database,
        partition_path=lambda partition: Path(database.path()),
        offset_key=OFFSET_KEY,
    )
    topic = SimpleNamespace(get_topic_name=lambda: "changelog")
    return WindowTable(SimpleNamespace(data=data, changelog_topic=topic))


@pytest.fixture
def changelog() -> Changelog:
    return Changelog()


@pytest.fixture
def checkpointer(changelog: Changelog, table: WindowTable) -> Checkpointer:
    return Checkpointer(changelog, changelog, table, timeout_s=1, cached_windows=100)  # type: ignore[arg-type]


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
    assert database[OFFSET_KEY] == b"2"


def test_dead_letters_are_acknowledged_before_the_windows_that_follow_them(
    checkpointer: Checkpointer, changelog: Changelog, table: WindowTable
) -> None:
    asyncio.run(checkpointer.write(Assignment(1, {0: fold_of(table, "a")})))
    assert changelog.told == ["dead letters", "changelog"]


def test_nothing_is_stored_of_a_partition_that_another_worker_has_taken(
    checkpointer: Checkpointer, changelog: Changelog, table: WindowTable, database: Rdict
) -> None:
    fold, changelog.is_fenced = fold_of(table, "a"), True
    with pytest.raises(FencedError):
        asyncio.run(checkpointer.write(Assignment(1, {0: fold})))
    assert (fold.durable_position, list(database.keys())) == (-1, [])


def test_forgotten_user_leaves_disk_and_changelog(
    checkpointer: Checkpointer, changelog: Changelog, table: WindowTable, database: Rdict
) -> None:
    asyncio.run(checkpointer.write(Assignment(1, {0: fold_of(table, "a", "b")})))
    fold = Partition("topic-id", 0, WindowSettings(), lambda keys: table.load(0, keys))
    fold.drop(["a"])
    asyncio.run(checkpointer.write(Assignment(1, {0: fold})))
    assert changelog.sent[-1] == (b"a", None)
    assert b"a" not in database
    assert database[OFFSET_KEY] == b"4"
    assert [key for key, _ in table.scan(0, b"", 10)] == [b"b"]
