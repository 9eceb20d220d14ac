"""Live inputs in Redis: whoever follows them has what was published, and may say what a snapshot was."""

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import redis

from local.proof.live_inputs import KeptInputs, read_kept_inputs
from models.ids.hashes import hashes_of
from models.ids.texts import texts_of
from models.ids.vocabulary import Vocabulary
from stream.encoding.live_inputs import LiveInputsFollower
from stream.store import item_writer
from stream.store.input_rows import InputRows
from stream.store.item_writer import ItemWriter, LostError, Scoring
from stream.store.keys import ItemKeys

pytestmark = pytest.mark.integration

DIMENSION, KNOWN, NEW, PREFIX, VERSION = 4, 10, 12, "test-inputs:", "0123456789ab"
NAMES = [f"i{number}" for number in range(KNOWN + NEW)]
HASHES = hashes_of(texts_of(NAMES))
#: As much of an artifact as is asked for.
ARTIFACT: Any = SimpleNamespace(
    version=VERSION,
    item_ids=NAMES[:KNOWN],
    vocabulary=Vocabulary(NAMES[:KNOWN], [2] * KNOWN, ["c"]),
    items=SimpleNamespace(dimension=DIMENSION),
    settings=SimpleNamespace(features=SimpleNamespace(short_events=3)),
)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_writer, "CHUNK_ROWS", 4)
    monkeypatch.setattr(item_writer, "CHUNK_EVERY", 5)
    monkeypatch.setattr(item_writer, "MAY_LAG", 4)


class World:
    """What was published: which item is in which row, and with what, now and at every snapshot."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.rows: dict[int, InputRows] = {}
        #: By snapshot: item -> its vector, as read.
        self.were: dict[int, dict[str, bytes]] = {}
        self.size = KNOWN

    def between(self, first: int, end: int) -> InputRows:
        return joined([self.rows[row] for row in range(first, end) if row in self.rows])

    def change(self, count: int) -> InputRows:
        """Return what changes: rows move, new items come, some are gone or become another item."""
        changed = []
        for row in self.random.choice(KNOWN + 6, count, replace=False).tolist():
            if row < KNOWN:
                changed.append(self._row(row, row, False))
                continue
            is_gone = row in self.rows and self.random.random() < 0.3
            free = set(range(KNOWN, KNOWN + NEW)) - set(self.items())
            held = HASHES.tolist().index(self.rows[row].hash[0]) if row in self.rows else -1
            keeps = held >= 0 and (is_gone or self.random.random() < 0.6)
            item = held if keeps else int(self.random.choice(sorted(free)))
            if is_gone or item in free or item == self.items().get(row, item):
                changed.append(self._row(row, item, is_gone))
        self.size = max(self.size, *(row + 1 for row in self.rows))
        return joined(changed)

    def items(self) -> dict[int, int]:
        """Return row -> item number of those that are there."""
        return {
            row: HASHES.tolist().index(each.hash[0]) for row, each in self.rows.items() if not each.is_gone[0]
        }

    def _row(self, row: int, item: int, is_gone: bool) -> InputRows:
        for other, each in self.items().items():
            if each == item and other != row:
                return joined([])  # it is in another row
        found = InputRows(
            np.array([row]),
            HASHES[[item]],
            self.random.integers(-127, 128, (1, DIMENSION)).astype(np.int8),
            self.random.uniform(0.1, 1, 1).astype(np.float32),
            np.array([is_gone]),
        )
        self.rows[row] = found
        return found

    def note(self, snapshot: int) -> None:
        """Remember what there is as that of a snapshot."""
        self.were[snapshot] = {NAMES[item]: exact(self.rows[row]) for row, item in self.items().items()}


def exact(row: InputRows) -> bytes:
    return bytes(row.values[0].tobytes() + row.scale[0].tobytes())


def joined(rows: list[InputRows]) -> InputRows:
    none = InputRows(
        np.zeros(0, np.int64),
        np.zeros(0, np.uint64),
        np.zeros((0, DIMENSION), np.int8),
        np.zeros(0, np.float32),
        np.zeros(0, np.bool_),
    )
    names = ("row", "hash", "values", "scale", "is_gone")
    return InputRows(*(np.concatenate([getattr(each, name) for each in [none, *rows]]) for name in names))


def followed(follower: LiveInputsFollower) -> tuple[str, dict[str, bytes]]:
    """Return the number, and item -> its vector, of what a worker has."""
    follower.poll()
    inputs = follower.of(VERSION)
    assert inputs is not None
    rows = inputs.table.find(HASHES)
    return inputs.number, {
        name: bytes(inputs.values[row].tobytes() + inputs.scale[row].tobytes())
        for name, row in zip(NAMES, rows.tolist(), strict=True)
        if row >= 0
    }


def follower_of(client: "redis.Redis", clock: Any = time.time) -> LiveInputsFollower:
    follower = LiveInputsFollower(client, PREFIX, clock)
    follower.follow(ARTIFACT)
    return follower


@pytest.mark.parametrize("seed", range(3))
def test_worker_at_any_pace_has_what_was_published_and_a_snapshot_is_told_or_not_at_all(
    redis_client: redis.Redis, seed: int
) -> None:
    world, keys = World(seed), ItemKeys(PREFIX, VERSION, "inputs")
    writer = ItemWriter(redis_client, keys, Scoring(KNOWN), world.between)
    world.change(5)
    writer.begin(world.size, 0)
    world.note(0)
    always, seldom, told, asked = follower_of(redis_client), follower_of(redis_client), 0, 0
    for number in range(60):
        delta = world.change(int(world.random.integers(1, 4)))
        if number == 30:
            redis_client.flushall()
            with pytest.raises(LostError):
                writer.publish(delta if len(delta) else world.between(0, 99), world.size, 0)
            writer.begin(world.size, 0)
            world.were.clear()
        else:
            writer.publish(delta, world.size, 0)
        world.note(writer.snapshot)
        readers = [always, follower_of(redis_client), *([seldom] if number % 7 == 6 else [])]
        for reader in readers:
            assert followed(reader) == (f"{writer.run}.{writer.snapshot}", world.were[writer.snapshot])
        kept = read_kept_inputs(redis_client, PREFIX, ARTIFACT)
        assert kept is not None
        for name in NAMES:
            said = said_of(kept, writer, writer.snapshot, name)
            assert said == world.were[writer.snapshot].get(name), "there is no telling of the newest"
        for snapshot in range(max(writer.snapshot - 12, 0), writer.snapshot) if number % 5 == 4 else ():
            for name in NAMES:
                said = said_of(kept, writer, snapshot, name)
                asked += 1
                told += said != "unknown"
                assert said in ("unknown", world.were[snapshot].get(name))
    assert told > asked / 3
    assert kept and kept.at(f"{writer.run + 1}.1", NAMES[:1]) is None
    assert kept.at(f"{writer.run}.{writer.snapshot + 1}", NAMES[:1]) is None


def said_of(kept: KeptInputs, writer: ItemWriter, snapshot: int, name: str) -> bytes | str | None:
    found = kept.at(f"{writer.run}.{snapshot}", [name])
    if found is None:
        return "unknown"
    return next((value.tobytes() + np.float32(scale).tobytes() for value, scale in found.values()), None)


def test_what_is_stale_stopped_or_of_nobody_is_not_used(redis_client: redis.Redis) -> None:
    world, now_s = World(0), time.time()
    follower = follower_of(redis_client, lambda: now_s)
    follower.poll()
    assert follower.of(VERSION) is None
    assert follower.of("another") is None
    writer = ItemWriter(redis_client, ItemKeys(PREFIX, VERSION, "inputs"), Scoring(KNOWN), world.between)
    world.change(5)
    writer.begin(world.size, 0)
    world.note(0)
    assert followed(follower) == ("1.0", world.were[0])
    now_s += 59
    assert followed(follower) == ("1.0", world.were[0])
    now_s += 2
    follower.poll()
    assert follower.of(VERSION) is None
    now_s = time.time()
    assert followed(follower) == ("1.0", world.were[0])
    writer.stop("it has gone wrong", 0)
    follower.poll()
    assert follower.of(VERSION) is None
    writer.publish(joined([]), world.size, 0)
    assert followed(follower) == ("1.0", world.were[0])
    follower.keep(())
    assert follower.of(VERSION) is None


def test_what_cannot_be_read_is_not_used_until_it_can(redis_client: redis.Redis) -> None:
    world, keys, follower = World(0), ItemKeys(PREFIX, VERSION, "inputs"), follower_of(redis_client)
    writer = ItemWriter(redis_client, keys, Scoring(KNOWN), world.between)
    world.change(5)
    writer.begin(world.size, 0)
    world.note(0)
    assert followed(follower) == ("1.0", world.were[0])
    writer.publish(world.change(3), world.size, 0)
    world.note(1)
    delta = keys.delta(1, 1)
    right = redis_client.get(delta)
    redis_client.set(delta, b"\xc1 is no MessagePack")
    follower.poll()
    assert follower.of(VERSION) is None
    assert isinstance(right, bytes)
    redis_client.set(delta, right)
    assert followed(follower) == ("1.1", world.were[1])
