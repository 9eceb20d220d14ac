"""Readers and workers end with what the learner has: items are forgotten and give way, and Redis refuses."""

import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import redis

from bench.harness.artifact import publish_untrained
from models.artifact.artifact import Artifact, load
from models.artifact.item_vectors import load_item_vectors
from models.artifact.live_items import LiveItemsSettings
from models.ids.texts import texts_of
from models.ids.vocabulary import Vocabulary
from models.items.learner import ItemLearner
from models.items.settings import LearnerSettings
from models.windows.fold import EventColumns
from stream.encoding.live_inputs import LiveInputsFollower
from stream.items.published import NOTICEABLE
from stream.items.publisher import Publisher
from stream.serving import live_items
from stream.serving.live_items import LiveItems, LiveTable
from stream.store import item_writer
from stream.store.item_rows import as_read, log_popularity

pytestmark = pytest.mark.integration

KNOWN, ITEMS, USERS, PREFIX = 20, 45, 12, "user:"
LIVE = LiveItemsSettings(half_lives_ms=(60_000, 3_600_000), rate=0.1, own=0.5)
#: Rows are given to others all the time, and users come back to items in the same hour.
TIGHT = LearnerSettings(
    remembered_pairs=60, max_new_items=12, max_users=9, min_readers=2, item_ttl_ms=3_600_000
)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    store: Path = tmp_path_factory.mktemp("items")
    publish_untrained(store, Vocabulary([f"i{n}" for n in range(KNOWN)], [2, 3] * 10, ["a", "b"]))
    return load(store)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("CHUNK_ROWS", 4), ("CHUNK_EVERY", 5), ("MAY_LAG", 4)):
        monkeypatch.setattr(item_writer, name, value)
    monkeypatch.setattr(live_items, "REFRESH_S", 0.0)


class Stream:
    """What happens to a learner, and to the Redis that it publishes to."""

    def __init__(self, seed: int, learner: ItemLearner, client: "redis.Redis") -> None:
        self.chance, self.learner, self._client = random.Random(seed), learner, client
        self._now_ms, self._events = 1_000_000, 0

    def happen(self) -> None:
        """Have some users click, or be forgotten, or an item; now and then a long time passes."""
        self._now_ms += self.chance.choice([100] * 9 + [600_000])
        if count := self.chance.choice([0, 1, 3, 8]):
            self._click(count)
        if self.chance.random() < 0.1:
            self.learner.forget_item(f"i{self.chance.randrange(ITEMS)}")
        if self.chance.random() < 0.1:
            self.learner.forget_user(f"u{self.chance.randrange(USERS)}")

    def _click(self, count: int) -> None:
        self._events += count
        numbers = np.arange(self._events - count, self._events)
        users = [f"u{self.chance.randrange(USERS)}" for _ in range(count)]
        items = [f"i{self.chance.randrange(ITEMS)}" for _ in range(count)]
        times_ms = np.full(count, self._now_ms)
        about = np.arange(count), numbers, times_ms, np.ones(count, np.uint8), numbers
        self.learner.learn(users, EventColumns(*about, texts_of(items), texts_of(["a"] * count)))

    @contextmanager
    def trouble(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Have Redis lose all, not answer, or not take some chunks, but for most of the time do as asked."""
        kind, execute = self.chance.random(), cast(Any, self._client.execute_command)
        if kind > 0.99:
            self._client.flushall()

        def fails(*arguments: Any, **options: Any) -> None:
            if self.chance.random() < 0.5:
                execute(*arguments, **options)
            raise redis.ConnectionError("no answer")

        class Refuses:
            def __init__(self, **_: Any) -> None: ...
            def set(self, *_: Any, **__: Any) -> None: ...
            def execute(self) -> None:
                raise redis.ConnectionError("gone")

        with monkeypatch.context() as context:
            if kind < 0.08:
                context.setattr(self._client, "execute_command", fails)
            elif kind < 0.12:
                context.setattr(self._client, "pipeline", Refuses)
            yield


@pytest.mark.parametrize("seed", range(8))
def test_readers_end_with_what_the_learner_has(
    artifact: Artifact, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    learner = ItemLearner.start(artifact, LIVE, TIGHT)
    stream = Stream(seed, learner, redis_client)
    publisher = Publisher(redis_client, PREFIX, learner, stream.chance.choice([600, 1_500, 100_000]))
    items, seldom = load_item_vectors(artifact.path), LiveItems(redis_client, PREFIX)
    inputs = LiveInputsFollower(redis_client, PREFIX)
    inputs.follow(artifact)
    for _ in range(120):
        stream.happen()
        with stream.trouble(monkeypatch):
            try:
                publisher.publish()
            except redis.ConnectionError:
                continue
        if stream.chance.random() < 0.3:
            seldom.of(items)
            inputs.poll()
    for _ in range(100):
        publisher.publish()
    for reader in (seldom, LiveItems(redis_client, PREFIX)):
        table, reason = reader.of(items)
        assert table is not None, reason
        check_items(learner, table, publisher._pace.taste)
    inputs.poll()
    check_inputs(learner, inputs.of(artifact.version), publisher._inputs._taste)


def check_items(learner: ItemLearner, table: LiveTable, taste: float) -> None:
    rows = np.arange(len(learner.item_ids))
    is_shown = learner.is_known | (learner.is_there & (learner.revision > 0))
    wanted = [item_id if is_it else "" for item_id, is_it in zip(learner.item_ids, is_shown, strict=True)]
    missing = [""] * (len(rows) - len(table.item_ids))
    assert [*table.item_ids, *missing] == wanted
    assert [bool(name) for name in table.item_ids] == table.is_there.tolist()
    rows = np.flatnonzero(is_shown & (learner.revision > 0))
    shown = learner.shown.rows(rows)
    moved = taste * np.linalg.norm(as_read(shown.outputs) - table.vectors[rows, :-2], axis=1)
    counts = log_popularity(
        shown.counts.astype(np.float32), shown.counted_ms, LIVE.half_lives_ms, learner.now_ms
    )
    moved += np.abs(counts - table.vectors[rows, -2:]) @ np.abs(np.array(LIVE.weights))
    assert moved.max(initial=0) < 1.5 * NOTICEABLE


def check_inputs(learner: ItemLearner, found: Any, taste: float) -> None:
    rows = np.arange(len(learner.item_ids))
    is_shown = learner.is_there & learner.shown.has_inputs(rows)
    slots = found.table.slots
    there = {row: found.table.hashes[row] for row in slots[slots >= 0].tolist()}
    assert all(is_shown[row] and learner.hashes[row] == bits for row, bits in there.items())
    # What hardly differs from what was trained need not be there.
    assert {*np.flatnonzero(is_shown & ~learner.is_known).tolist()} <= there.keys()
    places = np.array(sorted(there), np.int64)
    have = found.values[places].astype(np.float32) * found.scale[places, None]
    moved = taste * np.linalg.norm(have - learner.shown.inputs(places), axis=1)
    assert moved.max(initial=0) < 3 * NOTICEABLE  # as read: rounded to int8


@pytest.mark.parametrize("is_sane", [True, False])
def test_what_is_gone_while_nothing_is_published_takes_no_memory(
    artifact: Artifact, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch, is_sane: bool
) -> None:
    """New items come and go all day: whether Redis is away, or what was learned is not fit to be shown."""
    learner = ItemLearner.start(artifact, LIVE, TIGHT)
    stream = Stream(5, learner, redis_client)
    publisher = Publisher(redis_client, PREFIX, learner, 100_000)
    publisher.publish()

    def refuses(*_: object, **__: object) -> None:
        raise redis.ConnectionError("away")

    with monkeypatch.context() as context:
        if is_sane:
            context.setattr(redis_client, "execute_command", refuses)
        else:
            context.setattr(publisher, "_look_after", lambda: None)
            context.setattr(publisher, "_stopped", "vectors are too long")
        freed = 0
        for _ in range(300):
            stream.happen()
            freed += len(learner.names.removed)
            with suppress(redis.ConnectionError):
                publisher.publish()
            assert not learner.names.removed
        assert freed > 3 * len(learner.item_ids) > len(publisher._removed)
    for _ in range(100):
        publisher.publish()
    table, reason = LiveItems(redis_client, PREFIX).of(load_item_vectors(artifact.path))
    assert table is not None, reason
    check_items(learner, table, publisher._pace.taste)
