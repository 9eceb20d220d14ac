"""Live items in Redis: whoever reads at whatever pace has exactly what was published, of one learner."""

import time
from collections.abc import Iterator
from typing import cast

import numpy as np
import pytest
import redis
from redis.crc import key_slot

from models.artifact.item_vectors import ItemVectors
from stream.serving import live_items
from stream.serving.live_items import LiveItems, LiveTable
from stream.store import item_writer
from stream.store.item_rows import ItemRows, as_read, log_popularity, rows_from_bytes, rows_to_bytes
from stream.store.item_writer import ItemWriter, LostError, ReplacedError, Scoring
from stream.store.keys import ItemKeys

pytestmark = pytest.mark.integration

DIMENSION, KNOWN, PREFIX = 4, 10, "test-items:"
SCORING = Scoring(KNOWN, np.array([0, 0, 0, 1], np.float32), (1.0, 0.5), (1_000.0, 60_000.0))
KEYS = ItemKeys(PREFIX, "0123456789ab")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_writer, "CHUNK_ROWS", 4)
    monkeypatch.setattr(item_writer, "CHUNK_EVERY", 5)
    monkeypatch.setattr(item_writer, "MAY_LAG", 4)
    monkeypatch.setattr(live_items, "REFRESH_S", 0.0)


class World:
    """What was published, as plain Python has it, and the artifact below it."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        vectors = self.random.normal(size=(KNOWN, DIMENSION)).astype(np.float32)
        categories = np.array(["a", "b"] * (KNOWN // 2), object)
        self.items = ItemVectors("0123456789ab", [f"i{row}" for row in range(KNOWN)], categories, vectors)
        self.rows: dict[int, ItemRows] = {}
        self.size, self.now_ms = KNOWN, 1_000_000

    def published(self, first: int, end: int) -> ItemRows:
        """Return the rows from one to before another."""
        return self.joined([self.rows[row] for row in range(first, end) if row in self.rows])

    def change(self, count: int) -> ItemRows:
        """Return what changes: rows move, new ones come, some are gone or become another item."""
        self.now_ms += 500
        chosen = self.random.choice(self.size + 2, count, replace=False).tolist()
        self.size = max(self.size, *(row + 1 for row in chosen))
        for row in chosen:
            is_gone = row >= KNOWN and self.random.random() < 0.2
            name = f"i{row}" if row < KNOWN else f"new{row}-{self.random.integers(3)}"
            self.rows[row] = ItemRows(
                np.array([row]),
                self.random.normal(size=(1, DIMENSION)).astype(np.float32),
                self.random.uniform(0, 9, (1, 2)).astype(np.float32),
                np.array([self.now_ms]),
                np.array([is_gone]),
                ["" if is_gone else name],
                ["" if is_gone else "ab"[row % 2]],
            )
        return self.joined([self.rows[row] for row in chosen])

    def joined(self, rows: list[ItemRows]) -> ItemRows:
        none = ItemRows(
            np.zeros(0, np.int64),
            np.zeros((0, DIMENSION), np.float32),
            np.zeros((0, 2), np.float32),
            np.zeros(0, np.int64),
            np.zeros(0, np.bool_),
            [],
            [],
        )
        every = [none, *rows]
        return ItemRows(
            np.concatenate([each.row for each in every]),
            np.concatenate([each.vector for each in every]),
            np.concatenate([each.count for each in every]),
            np.concatenate([each.counted_ms for each in every]),
            np.concatenate([each.is_gone for each in every]),
            [name for each in every for name in each.item_ids],
            [name for each in every for name in each.categories],
        )

    def check(self, table: LiveTable) -> None:
        """Fail where a table is not what was published up to its snapshot."""
        assert len(table.vectors) >= max(self.rows, default=KNOWN - 1) + 1
        for row in range(len(table.vectors)):
            if row in self.rows:
                of = self.rows[row]
                np.testing.assert_array_equal(table.vectors[row, :-2], as_read(of.vector)[0])
                popularity = log_popularity(of.count, of.counted_ms, SCORING.half_lives_ms, self.now_ms)
                np.testing.assert_allclose(table.vectors[row, -2:], popularity[0], rtol=1e-6)
                assert table.is_there[row] == (not of.is_gone[0])
                assert table.item_ids[row] == of.item_ids[0]
                assert of.is_gone[0] or table.row_of[of.item_ids[0]] == row
                assert of.is_gone[0] or table.categories[row] == of.categories[0]
            elif row < KNOWN:  # as the artifact has it, but for its frozen popularity
                np.testing.assert_allclose(table.vectors[row, :-3], self.items.vectors[row, :-1])
                assert not table.vectors[row, -3:].any()
                assert table.is_there[row]
            else:
                assert not table.is_there[row]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def writer(redis_client: redis.Redis, world: World) -> Iterator[ItemWriter]:
    yield ItemWriter(redis_client, KEYS, SCORING, world.published)


def test_rows_survive_being_written() -> None:
    world = World()
    rows = world.change(7)
    snapshot, found = rows_from_bytes(rows_to_bytes(3, rows))
    assert snapshot == 3
    np.testing.assert_array_equal(found.vector, as_read(rows.vector))
    assert np.abs(found.vector - rows.vector).max() <= np.abs(rows.vector).max() / 127
    for name in ("row", "count", "counted_ms", "is_gone", "item_ids", "categories"):
        np.testing.assert_array_equal(getattr(found, name), getattr(rows, name))


@pytest.mark.parametrize("seed", range(3))
def test_reader_at_any_pace_has_what_was_published(redis_client: redis.Redis, seed: int) -> None:
    world = World(seed)
    writer = ItemWriter(redis_client, KEYS, SCORING, world.published)
    world.change(5)
    writer.begin(world.size, world.now_ms)
    always, seldom, lost = (LiveItems(redis_client, PREFIX) for _ in range(3))
    for number in range(60):
        delta = world.change(int(world.random.integers(1, 4)))
        if number == 30:
            redis_client.flushall()
            with pytest.raises(LostError):
                writer.publish(delta, world.size, world.now_ms)
            writer.begin(world.size, world.now_ms)
        else:
            writer.publish(delta, world.size, world.now_ms)
        readers = [always, LiveItems(redis_client, PREFIX)]
        readers += [seldom] if number % 3 == 2 else []
        readers += [lost] if number % 17 == 16 else []  # so far behind that what it lacks is deleted
        for reader in readers:
            table, reason = reader.of(world.items)
            assert table is not None, reason
            world.check(table)
    deltas = redis_client.keys("twintide:items:*:delta:*")
    assert len(deltas) < 25  # the others are in the chunks


def test_learner_that_was_replaced_publishes_nothing(
    redis_client: redis.Redis, world: World, writer: ItemWriter
) -> None:
    writer.begin(world.size, world.now_ms)
    later = ItemWriter(redis_client, KEYS, SCORING, world.published)
    later.begin(world.size, world.now_ms)
    with pytest.raises(ReplacedError):
        writer.publish(world.change(2), world.size, world.now_ms)
    later.publish(world.joined([]), world.size, world.now_ms)


def test_answer_that_was_lost_makes_no_delta_twice_or_never(
    redis_client: redis.Redis, world: World, writer: ItemWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = LiveItems(redis_client, PREFIX)
    writer.begin(world.size, world.now_ms)
    assert reader.of(world.items)[0]
    for is_executed in (True, False):
        real = writer._script

        def fails(**arguments: object) -> int:
            if is_executed:  # noqa: B023
                real(**arguments)  # type: ignore[arg-type]  # noqa: B023
            raise redis.TimeoutError("no answer")

        monkeypatch.setattr(writer, "_script", fails)
        with pytest.raises(redis.TimeoutError):
            writer.publish(world.change(3), world.size, world.now_ms)
        monkeypatch.setattr(writer, "_script", real)
        writer.flush()
        writer.publish(world.change(1), world.size, world.now_ms)
        table, _ = reader.of(world.items)
        assert table is not None
        world.check(table)
    assert writer.snapshot == 4


def test_table_that_redis_took_in_part_is_begun_anew(
    redis_client: redis.Redis, world: World, writer: ItemWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.change(3)
    writer.begin(world.size, world.now_ms)

    class Refuses:
        def __init__(self, **_: object) -> None: ...
        def set(self, *_: object, **__: object) -> None: ...
        def execute(self) -> None:
            raise redis.ConnectionError("gone")

    with monkeypatch.context() as broken:
        broken.setattr(redis_client, "pipeline", Refuses)
        with pytest.raises(redis.ConnectionError):
            writer.begin(world.size, world.now_ms)
    assert writer.run == 0  # so that nobody publishes what follows a table that is not there
    writer.begin(world.size, world.now_ms)
    writer.publish(world.joined([]), world.size, world.now_ms)
    table, reason = LiveItems(redis_client, PREFIX).of(world.items)
    assert table is not None, reason
    world.check(table)


def test_learner_that_goes_wrong_loses_nothing_that_redis_has_not_taken_yet(
    redis_client: redis.Redis, world: World, writer: ItemWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.begin(world.size, world.now_ms)

    def fails(**_: object) -> int:
        raise redis.TimeoutError("no answer")

    with monkeypatch.context() as broken:
        broken.setattr(writer, "_script", fails)
        with pytest.raises(redis.TimeoutError):
            writer.publish(world.change(3), world.size, world.now_ms)
    writer.stop("its vectors are too long", world.now_ms)
    writer.publish(world.change(1), world.size, world.now_ms)
    table, reason = LiveItems(redis_client, PREFIX).of(world.items)
    assert table is not None, reason
    world.check(table)


def test_readers_are_told_that_a_learner_is_not_sane_or_gone(
    redis_client: redis.Redis, world: World, writer: ItemWriter
) -> None:
    reader = LiveItems(redis_client, PREFIX)
    assert reader.of(world.items) == (None, "no item learner has run for this model")
    writer.begin(world.size, world.now_ms)
    assert reader.of(world.items)[0] is not None
    writer.stop("its vectors are too long", world.now_ms)
    assert reader.of(world.items) == (None, "the item learner has stopped: its vectors are too long")
    writer.publish(world.change(2), world.size, world.now_ms)
    assert reader.of(world.items)[0] is not None
    late = LiveItems(redis_client, PREFIX, lambda: time.time() + 61)
    assert late.of(world.items) == (None, "no item learner has written for 60 s")
    writer.delete()
    assert reader.of(world.items) == (None, "no item learner has run for this model")
    assert len(redis_client.keys("twintide:items:*")) == 1  # the counter of learners


def test_rows_that_change_once_and_no_more_can_be_read_for_ever(
    redis_client: redis.Redis, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = time.time()
    writer = ItemWriter(redis_client, KEYS, SCORING, world.published, lambda: now_s)
    writer.begin(world.size, world.now_ms)
    writer.publish(world.change(6), world.size, world.now_ms)
    now_s += item_writer.RENEWED_S + 1
    for _ in range(5):
        writer.publish(world.joined([]), world.size, world.now_ms)
    for key in redis_client.keys("twintide:items:*:delta:*"):
        redis_client.delete(key)  # as they would expire
    table, reason = LiveItems(redis_client, PREFIX, lambda: now_s).of(world.items)
    assert table is not None, reason
    world.check(table)


def test_keys_of_a_model_are_in_one_slot_and_end_with_the_prefix() -> None:
    for prefix in ("user:", "a{b", "x}y:", "{t}:"):
        keys = ItemKeys(prefix, "0123456789ab")
        every = [keys.header, keys.runs, keys.delta(3, 4), keys.chunk(3, 4)]
        assert len({key_slot(key.encode()) for key in every}) == 1
        assert all(key.startswith("twintide:items:") and key.endswith(f":{prefix}") for key in every)


def test_live_items_of_a_learner_of_another_version_are_not_used_and_say_so(
    redis_client: redis.Redis, world: World, writer: ItemWriter
) -> None:
    reader = LiveItems(redis_client, PREFIX)
    writer.begin(world.size, world.now_ms)
    assert reader.of(world.items)[0] is not None
    writer.publish(world.change(2), world.size, world.now_ms)
    delta = KEYS.delta(writer.run, writer.snapshot)
    content = cast(bytes, redis_client.get(delta))
    redis_client.set(delta, b"what nobody knows")
    table, reason = reader.of(world.items)
    assert table is None and reason.startswith("what Redis has of them cannot be read (")
    redis_client.set(delta, content)
    table, reason = reader.of(world.items)
    assert table is not None, reason
    world.check(table)


def test_clock_that_is_set_back_does_not_keep_a_reader_from_asking(
    redis_client: redis.Redis, world: World, writer: ItemWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_items, "REFRESH_S", 1.0)
    wall_s, timer_s = [time.time()], [0.0]
    reader = LiveItems(redis_client, PREFIX, lambda: wall_s[0], lambda: timer_s[0])
    writer.begin(world.size, world.now_ms)
    assert reader.of(world.items)[0] is not None
    writer.publish(world.change(2), world.size, world.now_ms)
    wall_s[0] -= 3_600
    timer_s[0] += 1
    table, _ = reader.of(world.items)
    assert table is not None
    world.check(table)
