"""Writes and reads on a real Redis: newer never gives way to older, versions never mix."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import msgspec
import numpy as np
import pytest
import redis

from local.redis import RedisServer
from models.errors import UnreachableError
from stream.serving.reader import NoVectorsError, Reader
from stream.store.clients import redis_client as connect
from stream.store.connection import RedisConnection
from stream.store.keys import COLD_START_USER
from stream.store.model_registry import ModelChangeError
from stream.store.round_trips import RoundTrips
from stream.store.user_keys import USERS_PER_CALL
from stream.store.user_row import UserRow
from stream.store.vector_store import ROWS_PER_TRIP, Store, StoreSettings

pytestmark = pytest.mark.integration


def row(user_id: str = "u", value: float = 1.0, **changes: Any) -> UserRow:
    vector = np.full(4, value, np.float32)
    base = UserRow(user_id, vector, vector + 1, vector + 2, "model-a", 10, 100, ts=5, n=3)
    return msgspec.structs.replace(base, **changes)


class HeldBack:
    """A client whose first pipeline, once `holds` is set, is not sent before `go_on`."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self.holds = False
        self.is_held, self.go_on = Event(), Event()

    def pipeline(self, transaction: bool) -> redis.client.Pipeline:
        if self.holds and not self.is_held.is_set():
            self.is_held.set()
            assert self.go_on.wait(60)
        return self._client.pipeline(transaction=transaction)

    def script_load(self, text: str) -> None:
        self._client.script_load(text)


@pytest.fixture
def store(redis_client: redis.Redis) -> Store:
    found = Store(redis_client, StoreSettings(key_prefix="test-store:"))
    found.registry.serve("model-a", 1)
    return found


@pytest.fixture
def reader(redis_client: redis.Redis) -> Reader:
    return Reader(redis_client, key_prefix="test-store:")


@pytest.fixture(autouse=True)
def clean(redis_client: redis.Redis) -> None:
    for key in redis_client.scan_iter("*test-store:*"):
        redis_client.delete(key)


@pytest.mark.parametrize("vector_format", ["float32", "float16"])
def test_what_is_written_is_read(redis_client: redis.Redis, reader: Reader, vector_format: str) -> None:
    store = Store(
        redis_client,
        StoreSettings(key_prefix="test-store:", vector_format=vector_format),
        clock=lambda: 1000.0,
    )
    store.registry.serve("model-a", 1)
    assert store.upsert([row(COLD_START_USER), row('12#3 "ü"')]) == 2
    (found,) = reader.read(['12#3 "ü"'])
    assert found.vec.tolist() == [1, 1, 1, 1]
    assert found.long.tolist() == [2, 2, 2, 2]
    assert found.short.tolist() == [3, 3, 3, 3]
    assert (found.model, found.ts, found.n, found.seq, found.reason) == ("model-a", 5, 3, 100, "")


@pytest.mark.parametrize("older", [{"epoch": 9}, {"seq": 99}, {"epoch": 9, "seq": 999}])
def test_older_write_never_replaces_a_newer(store: Store, reader: Reader, older: dict[str, Any]) -> None:
    store.upsert([row(COLD_START_USER), row()])
    assert store.upsert([row(value=7.0, **older)]) == 0
    assert reader.read(["u"])[0].vec[0] == 1


@pytest.mark.parametrize("newer", [{}, {"seq": 101}, {"epoch": 11, "seq": 0}])
def test_newer_or_equal_write_replaces(store: Store, reader: Reader, newer: dict[str, Any]) -> None:
    store.upsert([row(COLD_START_USER), row()])
    assert store.upsert([row(value=7.0, **newer)]) == 1
    assert reader.read(["u"])[0].vec[0] == 7


def test_forced_write_replaces_whatever_is_there(store: Store, reader: Reader) -> None:
    store.upsert([row(COLD_START_USER), row()])
    assert store.upsert([row(value=7.0, seq=0)], force=True) == 1
    assert reader.read(["u"])[0].vec[0] == 7


def test_many_users_of_one_call_are_judged_apart(store: Store) -> None:
    count = 2 * USERS_PER_CALL + 1
    store.upsert([row(f"u{n}", seq=200) for n in range(0, count, 2)])
    assert store.upsert([row(f"u{n}") for n in range(count)]) == count // 2


def test_ttl_is_set_with_the_write(store: Store, redis_client: redis.Redis) -> None:
    Store(redis_client, StoreSettings(key_prefix="test-store:", ttl_s=60)).upsert([row()])
    assert 0 < redis_client.ttl("test-store:u") <= 60


def test_topic_made_later_has_a_greater_epoch(store: Store, redis_client: redis.Redis) -> None:
    redis_client.delete("twintide:topic-epochs")
    first = store.topic_epoch("topic-1")
    assert store.topic_epoch("topic-1") == first
    while (second := Store(redis_client).topic_epoch("topic-2")) == first:  # made in the same millisecond
        redis_client.hdel("twintide:topic-epochs", "topic-2")
    assert second > first


def test_topic_made_later_has_a_greater_epoch_also_where_the_clock_of_redis_was_set_back(
    store: Store, redis_client: redis.Redis
) -> None:
    ahead = store.topic_epoch("topic-1") + 86_400_000  # as given by a server whose clock was a day ahead
    redis_client.hset("twintide:topic-epochs", "topic-1", ahead)
    assert Store(redis_client).topic_epoch("topic-2") == ahead + 1
    assert Store(redis_client).topic_epoch("topic-2") == ahead + 1


def test_json_form_is_a_list_under_the_raw_id(store: Store, redis_client: redis.Redis) -> None:
    store.set_json([row("test-store:json")])
    assert redis_client.get("test-store:json") == b"[1.0, 1.0, 1.0, 1.0]"


def test_cold_start_user_gets_the_default_with_a_reason(store: Store, reader: Reader) -> None:
    store.upsert([row(COLD_START_USER, value=9.0), row()])
    found = reader.read(["nobody", "u"])
    assert [(each.user_id, each.reason, each.vec[0]) for each in found] == [
        ("nobody", "cold_start", 9),
        ("u", "", 1),
    ]


def test_versions_are_never_mixed(store: Store, reader: Reader) -> None:
    store.upsert([row(COLD_START_USER), row("old")])
    store.registry.serve("model-b", 2)
    store.upsert([row(COLD_START_USER, value=9.0, model="model-b"), row("new", model="model-b")])
    found = reader.read(["old", "new"])
    assert {each.model for each in found} == {"model-b"}
    assert [each.reason for each in found] == ["other_model", ""]


def test_reader_of_a_version_that_nobody_wrote_says_so(redis_client: redis.Redis) -> None:
    with pytest.raises(NoVectorsError, match="no model serves at twintide:models:test-store:"):
        Reader(redis_client, key_prefix="test-store:").read(["u"])
    store = Store(redis_client, StoreSettings(key_prefix="test-store:"))
    with pytest.raises(ModelChangeError, match="no model serves"):
        store.upsert([row(COLD_START_USER)])
    store.registry.serve("model-a", 1)
    store.upsert([row(COLD_START_USER)])
    with pytest.raises(NoVectorsError, match=r"no vectors of model model-z"):
        Reader(redis_client, key_prefix="test-store:", model="model-z").read(["u"])


def test_row_of_a_model_that_is_not_live_is_not_written(store: Store, redis_client: redis.Redis) -> None:
    assert store.upsert([row(model="model-z"), row()]) == 1
    assert redis_client.hget("test-store:u", "model") == b"model-a"


def test_unreachable_redis_is_one_line_without_the_password() -> None:
    with pytest.raises(UnreachableError, match=r"no Redis at redis://127.0.0.1:1/0") as error:
        connect(RedisConnection("redis://:hunter2@127.0.0.1:1/0", timeout_s=1))
    assert "hunter2" not in str(error.value)


def test_forgetting_deletes_what_is_not_newer(store: Store, redis_client: redis.Redis) -> None:
    store.upsert([row("old", seq=100), row("newer", seq=101), row("next topic", epoch=11, seq=1)])
    assert store.forget([("old", 100), ("newer", 100), ("next topic", 100), ("cold start", 100)], 10) == 1
    assert sorted(redis_client.keys("test-store:*")) == [b"test-store:newer", b"test-store:next topic"]
    assert store.forget([("newer", 0)], epoch=11) == 1  # of a topic that is gone: any offset


def test_keys_of_another_application_are_left_alone_and_stop_nobody(
    reader: Reader, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[int] = []
    store = Store(redis_client, StoreSettings(key_prefix="test-store:", ttl_s=60), on_foreign=told.append)
    store.registry.serve("model-a", 1)
    redis_client.set("test-store:text", "theirs")
    redis_client.hset("test-store:profile", mapping={"name": "Bob", "model": "phone"})
    redis_client.rpush("test-store:list", "theirs")
    theirs = ["text", "profile", "list"]
    rows = [row(user_id) for user_id in [COLD_START_USER, *theirs, "u"]]
    for _ in range(2):
        assert store.upsert(rows) == 2
    assert told == [3, 3]
    assert [each.message.split(" in Redis")[0] for each in caplog.records] == ["key test-store:text"]
    found = reader.read([*theirs, "u"])
    assert [each.reason for each in found] == ["cold_start", "other_model", "cold_start", ""]
    assert store.forget([(user_id, 1_000) for user_id in theirs], epoch=99) == 0
    assert store.clean_up([*store.stored_keys()]) == 0
    assert redis_client.get("test-store:text") == b"theirs"
    assert redis_client.hgetall("test-store:profile") == {b"name": b"Bob", b"model": b"phone"}
    assert redis_client.lrange("test-store:list", 0, -1) == [b"theirs"]
    assert {redis_client.ttl(f"test-store:{user_id}") for user_id in theirs} == {-1}


def test_key_of_another_application_that_is_no_text_stands_in_no_clean_ups_way(
    store: Store, redis_client: redis.Redis
) -> None:
    store.upsert([row(COLD_START_USER), row()])
    theirs = [b"\xac\xed\x00\x05t\x00\x0ctest-store:1", b"test-store:\xff"]  # Java writes text like the first
    for key in theirs:
        redis_client.hset(key, mapping={"name": "Bob"})
    assert sorted(store.stored_keys()) == ["test-store:", "test-store:u"]
    assert [redis_client.exists(key) for key in theirs] == [1, 1]


def test_clean_up_leaves_a_deployment_alone_whose_prefix_begins_with_this_one(
    store: Store, reader: Reader, redis_client: redis.Redis
) -> None:
    other = Store(redis_client, StoreSettings(key_prefix="test-store:eu:"))
    other.registry.serve("their-model", 1)
    at_category = row(COLD_START_USER, model="their-model", category="c")
    other.upsert([row(COLD_START_USER, model="their-model"), row(model="their-model"), at_category])
    store.upsert([row(COLD_START_USER), row()])
    store.registry.serve("model-b", 2)
    store.poll()
    store.upsert([row(COLD_START_USER, model="model-b"), row(model="model-b")])
    assert store.clean_up([*store.stored_keys()]) == 0
    assert [each.model for each in reader.read(["u"])] == ["model-b"]
    theirs = Reader(redis_client, key_prefix="test-store:eu:").read(["u", "nobody"], "c")
    assert [(each.model, each.reason) for each in theirs] == [
        ("their-model", ""),
        ("their-model", "category"),
    ]


def test_redis_that_came_back_empty_is_noticed_and_gets_back_what_all_depends_on(
    store: Store, reader: Reader, redis_client: redis.Redis
) -> None:
    epoch = store.topic_epoch("topic-1")
    store.registry.serve("model-b", 2)
    store.upsert([row(COLD_START_USER, value=9.0, model="model-b"), row(model="model-b")])
    store.upsert([row("v", model="model-b")])
    before = store.models
    assert store.losses == 0
    redis_client.flushall()
    redis_client.script_flush()
    assert store.upsert([row("w", model="model-b")]) == 1
    assert store.losses == 1
    assert store.models == before == store.registry.read()
    assert redis_client.hgetall("twintide:topic-epochs") == {b"topic-1": str(epoch).encode()}
    assert [each.reason for each in reader.read(["u", "v", "w"])] == ["cold_start", "cold_start", ""]
    store.upsert([row("u", model="model-b")])
    assert store.losses == 1


def test_single_keys_that_are_gone_and_that_all_depends_on_come_back(
    store: Store, reader: Reader, redis_client: redis.Redis
) -> None:
    """As a Redis that evicts keys, or somebody who deletes them by hand, has it."""
    store.upsert([row(COLD_START_USER), row()])
    before = store.poll()
    redis_client.delete("test-store:")
    with pytest.raises(NoVectorsError):
        reader.read(["nobody"])
    store.poll()
    assert (store.losses, reader.read(["nobody"])[0].reason) == (0, "cold_start")
    redis_client.delete("twintide:models:test-store:")
    with pytest.raises(NoVectorsError):
        reader.read(["u"])
    assert store.poll() == before == store.registry.read()
    assert reader.read(["u"])[0].reason == ""
    assert store.losses == 1, "how far a change of models was is gone, too"
    store.poll()
    assert store.losses == 1


def test_categories_are_apart_from_users(store: Store, redis_client: redis.Redis) -> None:
    at_category = row(COLD_START_USER, category="u")
    assert store.upsert([row(), at_category, row(COLD_START_USER)]) == 3
    other = Store(redis_client, StoreSettings(key_prefix="test-store:longer:"))
    other.registry.serve("model-a", 1)
    other.upsert([at_category])
    keys = ["test-store:", "test-store:u", "twintide:category:test-store:u"]
    assert sorted(other.stored_keys()) == ["twintide:category:test-store:longer:u"]
    assert set(keys) <= set(store.stored_keys())
    assert store.forget([("u", 100)], epoch=10) == 1
    assert [redis_client.exists(key) for key in keys] == [1, 0, 1]
    redis_client.flushall()
    store.poll()
    assert [redis_client.exists(key) for key in keys] == [1, 0, 0], "whoever knows the categories writes them"


def test_redis_that_is_as_it_was_before_is_noticed(store: Store, redis_client: redis.Redis) -> None:
    store.upsert([row(COLD_START_USER)])
    keys = {key: redis_client.dump(key) for key in redis_client.keys("*")}
    store.upsert([row()])
    redis_client.flushall()
    for key, value in keys.items():
        assert value is not None
        redis_client.restore(key, 0, value)
    store.poll()
    assert store.losses == 1


def test_redis_that_another_worker_put_in_order_keeps_the_greater_epoch(
    store: Store, redis_client: redis.Redis
) -> None:
    first = store.topic_epoch("topic-1")
    store.poll()
    redis_client.flushall()
    redis_client.hset("twintide:topic-epochs", "topic-1", first + 5)
    store.poll()
    assert store.losses == 1
    assert store.topic_epoch("topic-1") == first + 5


def test_coverage_of_what_redis_lost_is_not_reported(store: Store, redis_client: redis.Redis) -> None:
    store.registry.stage("model-b", 2, partitions=1)
    store.poll()
    losses = store.losses
    redis_client.flushall()
    found = store.report_coverage("model-b", 0, 1, 1, losses)
    assert (found.serving.version, store.losses) == ("model-a", 1)
    assert store.report_coverage("model-b", 0, 1, 1, losses).serving.version == "model-a"
    assert store.report_coverage("model-b", 0, 1, 1, store.losses).serving.version == "model-b"


def test_stores_of_two_workers_do_not_alarm_each_other(store: Store, redis_client: redis.Redis) -> None:
    other = Store(redis_client, StoreSettings(key_prefix="test-store:"))
    for _ in range(3):
        store.upsert([row()])
        other.poll()
    assert (store.losses, other.losses) == (0, 0)


def test_loss_is_noticed_by_threads_that_write_side_by_side(redis_client: redis.Redis) -> None:
    """One call is lost, and another was on its way meanwhile: its answer must not hide the loss."""
    client = HeldBack(redis_client)
    trips = RoundTrips(client, "test-store:")  # type: ignore[arg-type]
    trips.run("upsert_slots", ())
    counter = redis_client.keys("twintide:writer:test-store:*")[0]
    client.holds = True
    with ThreadPoolExecutor() as pool:
        first = pool.submit(trips.run, "upsert_slots", ())
        assert client.is_held.wait(60)
        second = pool.submit(trips.run, "upsert_slots", ())
        time.sleep(0.1)
        redis_client.decr(counter, 1)  # a master fails, and its replica has not heard of the last call
        client.go_on.set()
        first.result()
        second.result()
    assert trips.losses == 1
    trips.run("upsert_slots", ())
    assert trips.losses == 1


def test_threads_that_write_side_by_side_raise_no_alarm(store: Store, redis_client: redis.Redis) -> None:
    users = [f"u{number}" for number in range(200)]

    def write(thread: int) -> int:
        return sum(store.upsert([row(user_id, seq=100 + thread)]) + bool(store.poll()) for user_id in users)

    with ThreadPoolExecutor(4) as pool:
        written = list(pool.map(write, range(4)))
    assert sum(written) >= 5 * len(users)
    assert store.losses == 0
    assert {redis_client.hget(f"test-store:{user_id}", "seq") for user_id in users} == {b"103"}


def test_every_user_is_written_in_however_many_round_trips(store: Store, redis_client: redis.Redis) -> None:
    count = ROWS_PER_TRIP + USERS_PER_CALL + 1
    assert store.upsert([row(f"u{n}") for n in range(count)]) == count
    assert len(list(store.stored_keys())) == count


def test_server_that_has_become_a_replica_is_left_for_where_its_address_leads(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis")
    server.start()
    try:
        with redis.Redis(port=server.port) as admin, redis.Redis(port=server.port) as client:
            store = Store(client)
            store.registry.serve("model-a", 1)
            store.upsert([row()])
            connection = client.client_id()
            admin.replicaof("127.0.0.1", server.port)
            with pytest.raises(redis.ReadOnlyError):
                store.upsert([row(seq=101)])
            admin.replicaof("NO", "ONE")
            assert store.upsert([row(seq=101)]) == 1
            assert client.client_id() != connection
    finally:
        server.kill()


def test_full_server_refuses_the_whole_write_and_takes_it_later(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis")
    server.start()
    try:
        with redis.Redis(port=server.port) as client:
            store = Store(client)
            store.registry.serve("model-a", 1)
            client.config_set("maxmemory", 1)
            with pytest.raises(redis.exceptions.OutOfMemoryError):
                store.upsert([row()])
            client.config_set("maxmemory", 0)
            assert (store.upsert([row()]), store.losses) == (1, 0)
    finally:
        server.kill()


def test_redis_that_evicts_keys_is_told_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = RedisServer(
        tmp_path / "redis", settings={"maxmemory": "50mb", "maxmemory-policy": "allkeys-lru"}
    )
    server.start()
    try:
        with redis.Redis.from_url(server.url) as client:
            Store(client).check_server()
            assert "evicts keys when it is full (maxmemory-policy allkeys-lru)" in caplog.text
            caplog.clear()
            client.config_set("maxmemory-policy", "noeviction")
            Store(client).check_server()
            assert not caplog.text
    finally:
        server.stop()
