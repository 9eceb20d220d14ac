"""Two models in one HASH, under writers that lag: what is read is right at every moment.

A seeded random sequence of everything that may happen: users change, models are staged, covered, rolled back
and retired, writers with an old view of the registry write, zombies write old offsets, slots are cleaned up.
A reference in plain Python knows what each model's newest vector of each user is.
"""

import random
from dataclasses import dataclass, field
from typing import cast

import msgspec
import numpy as np
import pytest
import redis

from stream.serving.reader import Reader
from stream.store.keys import COLD_START_USER, FIELDS, OTHER, category_key
from stream.store.registry_state import Models
from stream.store.user_row import UserRow
from stream.store.vector_store import Store, StoreSettings

pytestmark = pytest.mark.integration

PREFIX = "test-slots:"
USERS = [f"u{number}" for number in range(6)]
CATEGORY = "u0"


def row(user_id: str, model: str, seq: int, epoch: int = 10) -> UserRow:
    """Return a row whose vectors say what they were made from."""
    vector = np.array([int(model[1:]), epoch, seq], np.float32)
    return UserRow(user_id, vector, vector, vector, model, epoch, seq, ts=seq, n=1)


def cold_start_rows(model: str) -> list[UserRow]:
    """Return what cold-start users get, at a category and elsewhere; the epoch tells which."""
    of_category = msgspec.structs.replace(row(COLD_START_USER, model, 0, epoch=77), category=CATEGORY)
    return [row(COLD_START_USER, model, 0), of_category]


@pytest.fixture
def store(redis_client: redis.Redis) -> Store:
    for key in redis_client.scan_iter(f"*{PREFIX}*"):
        redis_client.delete(key)
    found = Store(redis_client, StoreSettings(key_prefix=PREFIX))
    found.registry.serve("m1", 1)
    found.upsert(cold_start_rows("m1"))
    return found


def slots(client: redis.Redis, user_id: str) -> dict[str, int]:
    """Return model -> seq of a user's slots, the plain one first."""
    names = [prefix + name for prefix in ("", OTHER) for name in ("model", "seq")]
    found = cast(list[bytes], client.hmget(PREFIX + user_id, names))
    plain, seq, other, other_seq = found
    return {plain.decode(): int(seq)} | ({other.decode(): int(other_seq)} if other else {})


def test_staged_model_leaves_the_plain_fields_alone(store: Store, redis_client: redis.Redis) -> None:
    store.upsert([row("u", "m1", 5)])
    plain = redis_client.hmget(PREFIX + "u", FIELDS)
    store.registry.stage("m2", 2, partitions=1)
    store.upsert([row("u", "m2", 6)])
    assert redis_client.hmget(PREFIX + "u", FIELDS) == plain
    store.upsert([row("u", "m1", 7), row("u", "m2", 7), row("new", "m2", 7), row("new", "m1", 7)])
    assert list(slots(redis_client, "u").items()) == [("m1", 7), ("m2", 7)]
    assert list(slots(redis_client, "new").items()) == [("m1", 7), ("m2", 7)]


def test_model_that_serves_moves_into_the_plain_fields_as_it_is_written(
    store: Store, redis_client: redis.Redis
) -> None:
    store.upsert([row("u", "m1", 5)])
    plain = dict(zip(FIELDS, redis_client.hmget(PREFIX + "u", FIELDS), strict=True))
    store.registry.stage("m2", 2, partitions=1)
    store.upsert([row("u", "m2", 6)])
    store.registry.serve("m2", 2)
    assert list(slots(redis_client, "u")) == ["m1", "m2"]
    store.upsert([row("u", "m2", 5)])
    assert list(slots(redis_client, "u")) == ["m1", "m2"], "a stale write moves nothing"
    store.upsert([row("u", "m2", 6)])
    assert list(slots(redis_client, "u")) == ["m2", "m1"]
    moved = redis_client.hmget(PREFIX + "u", [OTHER + name for name in FIELDS])
    assert dict(zip(FIELDS, moved, strict=True)) == plain


def test_offsets_of_two_models_are_compared_apart(store: Store, redis_client: redis.Redis) -> None:
    store.registry.stage("m2", 2, partitions=1)
    store.upsert([row("u", "m1", 9)])
    assert store.upsert([row("u", "m2", 5)]) == 1
    assert store.upsert([row("u", "m2", 4)]) == 0
    assert store.upsert([row("u", "m1", 8)]) == 0
    assert store.upsert([row("u", "m1", 8)], force=True) == 1
    assert slots(redis_client, "u") == {"m1": 8, "m2": 5}


def test_writer_that_lags_behind_two_changes_takes_nobodys_slot(
    store: Store, redis_client: redis.Redis
) -> None:
    store.registry.stage("m2", 2, partitions=1)
    lagging = store.poll()
    store.registry.serve("m2", 2)
    store.registry.stage("m3", 3, partitions=1)
    store.upsert([row("u", "m2", 5), row("u", "m3", 5)])
    assert lagging
    assert store._write(lagging, [row("u", "m1", 9)], force=False) == 0
    assert store._write(lagging, [row("u", "m1", 9)], force=True) == 0
    assert slots(redis_client, "u") == {"m2": 5, "m3": 5}


def test_stale_write_confirms_the_slot_of_a_model_that_came_back(
    store: Store, redis_client: redis.Redis
) -> None:
    """m1 is retired with its slots left behind, and staged once more: who knew it as dead must keep off."""
    store.registry.serve("m2", 2)
    store.upsert([row("u", "m2", 5)])
    store.registry.rollback("m2")
    store.upsert([row("u", "m1", 9)])
    store.registry.serve("m2", 4)
    store.registry.retire("m1")
    without_m1 = store.registry.stage("m3", 5, partitions=1)
    store.registry.stage("m1", 6, partitions=1)
    store.poll()
    assert store.upsert([row("u", "m1", 8)]) == 0
    assert store._write(without_m1, [row("u", "m3", 9)], force=False) == 0
    assert slots(redis_client, "u") == {"m2": 5, "m1": 9}
    assert store._write(without_m1, [row("u", "m2", 9)], force=False) == 1


def test_slot_keeps_the_greatest_number_that_its_model_was_known_under(
    store: Store, redis_client: redis.Redis
) -> None:
    lagging = store.poll()
    store.registry.serve("m2", 2)
    store.registry.rollback("m2")
    store.poll()
    assert lagging
    store.upsert([row("u", "m1", 5)])
    store._write(lagging, [row("u", "m1", 6)], force=False)
    assert redis_client.hmget(PREFIX + "u", "publication", "seq") == [b"3", b"6"]
    store.upsert([row("u", "m2", 6)])
    store.registry.serve("m2", 4)
    store.poll()
    store.upsert([row("u", "m2", 7)])
    assert redis_client.hget(PREFIX + "u", "other:publication") == b"3"
    store._write(lagging, [row("u", "m1", 7)], force=False)
    assert redis_client.hmget(PREFIX + "u", "model", "publication") == [b"m1", b"3"]


def test_clean_up_deletes_what_is_not_live_and_tidies_the_rest(
    store: Store, redis_client: redis.Redis
) -> None:
    store.upsert([row("only m1", "m1", 5), row("both", "m1", 5)])
    store.registry.stage("m2", 2, partitions=1)
    store.upsert([row("both", "m2", 5), row("only m2", "m2", 5), row(COLD_START_USER, "m2", 0)])
    store.registry.serve("m2", 2)
    keys = sorted(store.stored_keys())
    category = category_key(PREFIX, CATEGORY)
    assert keys == [*(PREFIX + user for user in ("", "both", "only m1", "only m2")), category]
    assert store.clean_up(keys) == 2
    assert list(slots(redis_client, "both")) == ["m2", "m1"]
    assert store.clean_up(keys) == 0
    store.registry.retire("m1")
    assert store.clean_up(keys) == 4
    assert sorted(store.stored_keys()) == [PREFIX + user for user in ("", "both", "only m2")]
    assert redis_client.hkeys(PREFIX + "both") == redis_client.hkeys(PREFIX + "only m2")
    assert set(redis_client.hkeys(PREFIX + "both")) == {name.encode() for name in FIELDS}


def test_forgetting_takes_each_slot_by_its_own_offset(store: Store, redis_client: redis.Redis) -> None:
    store.registry.stage("m2", 2, partitions=1)
    for user_id, first, second in (("a", 5, 5), ("b", 5, 9), ("c", 9, 5), ("d", 9, 9)):
        store.upsert([row(user_id, "m1", first), row(user_id, "m2", second)])
    assert store.forget([(user_id, 7) for user_id in "abcd"], epoch=10) == 1
    assert not redis_client.exists(PREFIX + "a")
    assert [slots(redis_client, user_id) for user_id in "bcd"] == [{"m2": 9}, {"m1": 9}, {"m1": 9, "m2": 9}]


@dataclass
class World:
    """What is true: each user's newest event, and each model's newest vector of each user in Redis."""

    store: Store
    reader: Reader
    choose: random.Random
    #: Views of the registry that some writer may still have.
    views: list[Models] = field(default_factory=list)
    newest: dict[str, int] = field(default_factory=dict)
    #: model -> user -> seq, of all that was ever written of live models.
    written: dict[str, dict[str, int]] = field(default_factory=dict)
    versions: int = 1
    epoch: int = 10

    def now(self) -> Models:
        models = self.store.poll()
        assert models
        if not self.views or self.views[-1] != models:
            self.views.append(models)
        for version in list(self.written):
            if version not in models.publications:
                del self.written[version]
        return models

    def write(self, models: Models, user_id: str, seq: int) -> None:
        """Write a user as a writer does that believes these models to be live."""
        truth = self.now()
        rows = [row(user_id, each.version, seq) for each in models.live]
        self.choose.shuffle(rows)
        self.store._write(models, rows, force=False)
        for each in models.live:
            if each.version in truth.publications:
                of_model = self.written.setdefault(each.version, {})
                of_model[user_id] = max(of_model.get(user_id, -1), seq)

    def event(self) -> None:
        """Change a user; the writer may not have polled for a while."""
        user_id = self.choose.choice(USERS)
        self.newest[user_id] = self.newest.get(user_id, -1) + 1
        self.write(self.choose.choice([self.now(), *self.views[-3:]]), user_id, self.newest[user_id])

    def zombie(self) -> None:
        """Write an old vector of a user, with any view there ever was."""
        user_id = self.choose.choice(USERS)
        if user_id in self.newest:
            seq = self.choose.randint(0, self.newest[user_id])
            self.write(self.choose.choice([self.now(), *self.views]), user_id, seq)

    def backfill(self) -> None:
        """Write all users' newest vectors as who knows the truth does, and the cold-start user's."""
        models = self.now()
        for each in models.live:
            self.store.upsert(cold_start_rows(each.version))
        for user_id, seq in self.newest.items():
            self.write(models, user_id, seq)

    def stage(self) -> None:
        """Stage a new model, or one that there was before."""
        if self.choose.random() < 0.6:
            self.versions += 1
        version = f"m{self.choose.randint(max(1, self.versions - 3), self.versions)}"
        if self.now().serving.version != version:
            self.store.registry.stage(version, 0, partitions=1)
            self.backfill()

    def switch(self) -> None:
        """Report full coverage of what is staged, once it is there."""
        if staged := self.now().staged:
            self.backfill()
            self.store.registry.report_coverage(staged.version, 0, 1, 1)

    def rollback(self) -> None:
        """Roll back where that is possible."""
        models = self.now()
        if models.previous:
            self.backfill()
            self.store.registry.rollback(models.serving.version)

    def retire(self) -> None:
        """Give up the second model, and perhaps clean up."""
        models = self.now()
        if models.second:
            self.store.registry.retire(models.second.version)

    def clean_up(self) -> None:
        """Clean up some users."""
        keys = [PREFIX + user_id for user_id in ("", *USERS)]
        self.store.clean_up(self.choose.sample([*keys, category_key(PREFIX, CATEGORY)], 3))

    def check(self) -> None:
        """Every vector is the newest of the serving model that was ever written."""
        serving = self.now().serving.version
        category = self.choose.choice(["", CATEGORY, "unknown"])
        for found in self.reader.read(USERS, category):
            assert found.model == serving
            expected = self.written.get(serving, {}).get(found.user_id)
            if found.reason == "category":
                assert (category, expected) == (CATEGORY, None)
                assert found.vec.tolist() == [int(serving[1:]), 77, 0]
            elif expected is None:
                assert found.vec[0] == int(serving[1:])
                assert found.reason or found.seq == found.vec[2]
                assert not found.reason or category != CATEGORY
            else:
                assert found.reason == ""
                assert found.vec.tolist() == [int(serving[1:]), self.epoch, expected]


@pytest.mark.parametrize("seed", range(6))
def test_no_wrong_vector_is_ever_served(store: Store, redis_client: redis.Redis, seed: int) -> None:
    world = World(store, Reader(redis_client, key_prefix=PREFIX), random.Random(seed))
    steps = [world.event, world.zombie, world.backfill, world.stage, world.switch]
    steps += [world.rollback, world.retire, world.clean_up]
    for _ in range(250):
        world.choose.choices(steps, [8, 5, 1, 1, 2, 1, 1, 2])[0]()
        world.check()
