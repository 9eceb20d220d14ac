"""What a ranker gets: both readers alike, long for short, a cache of one version, and no torch or Faust."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from threading import Timer
from typing import Any

import numpy as np
import pytest
import redis
import redis.asyncio
from msgspec.structs import replace
from redis.exceptions import ResponseError

from local.servers import ROOT
from models.errors import TwintideError
from models.windows.recent import recent_events
from models.windows.window import Window, window_to_bytes
from stream.serving.exchange import Exchange, Fields
from stream.serving.read_protocol import NoVectorsError, ReaderSettings, ReadProtocol, UserVectors
from stream.serving.reader import AsyncReader, Reader
from stream.store.connection import RedisConnection
from stream.store.keys import COLD_START_USER, category_key
from stream.store.user_row import UserRow
from stream.store.vector_store import Store, StoreSettings

PREFIX = "test-reader:"


def row(user_id: str, model: str = "m1", value: float = 1.0, category: str = "") -> UserRow:
    vector = np.full(4, value, np.float32)
    return UserRow(user_id, vector, vector + 1, vector + 2, model, 10, 100, ts=5, n=3, category=category)


@pytest.fixture
def store(redis_client: redis.Redis) -> Store:
    for key in redis_client.scan_iter(f"*{PREFIX}*"):
        redis_client.delete(key)
    found = Store(redis_client, StoreSettings(key_prefix=PREFIX), clock=lambda: 1000.0)
    found.registry.serve("m1", 1)
    found.upsert([row(COLD_START_USER, value=9), row("u"), row("v", value=2)])
    return found


@pytest.fixture
def read(redis_connection: RedisConnection) -> Iterator[Callable[..., list[UserVectors]]]:
    """Give a function that reads with both readers and returns what both found."""
    loop = asyncio.new_event_loop()
    client = redis.Redis.from_url(redis_connection.url)
    async_client = redis.asyncio.Redis.from_url(redis_connection.url)

    def both(*user_ids: str, category: str = "") -> list[UserVectors]:
        found = Reader(client, key_prefix=PREFIX).read(user_ids, category)
        again = loop.run_until_complete(AsyncReader(async_client, key_prefix=PREFIX).read(user_ids, category))
        assert [without_age(each) for each in again] == [without_age(each) for each in found]
        return found

    yield both
    loop.run_until_complete(async_client.aclose())
    loop.close()
    client.close()


def without_age(found: UserVectors) -> tuple[object, ...]:
    return (found.user_id, found.model, found.reason, found.vec.tolist(), found.long.tolist(), found.history)


@pytest.mark.integration
def test_both_readers_find_the_same(store: Store, read: Callable[..., list[UserVectors]]) -> None:
    found = read("v", "nobody", "u", "v")
    assert [(each.vec[0], each.reason) for each in found] == [(2, ""), (9, "cold_start"), (1, ""), (2, "")]
    store.registry.stage("m2", 2, partitions=1)
    store.upsert([row(COLD_START_USER, "m2", 19), row("u", "m2", 11)])
    assert [each.vec[0] for each in read("v", "nobody", "u")] == [2, 9, 1]
    store.registry.serve("m2", 2)
    assert [(each.vec[0], each.reason) for each in read("v", "nobody", "u")] == [
        (19, "other_model"),
        (19, "cold_start"),
        (11, ""),
    ]


@pytest.mark.integration
def test_who_has_no_vectors_gets_those_of_the_category_in_the_same_version(
    store: Store, read: Callable[..., list[UserVectors]]
) -> None:
    def found(category: str) -> list[tuple[float, str]]:
        return [(each.vec[0], each.reason) for each in read("v", "nobody", "u", category=category)]

    store.upsert([row(COLD_START_USER, value=5, category="v"), row(COLD_START_USER, value=6, category="old")])
    assert found("v") == [(2, ""), (5, "category"), (1, "")]  # a category may be called as a user is
    assert found("unknown") == [(2, ""), (9, "cold_start"), (1, "")]
    store.registry.stage("m2", 2, partitions=1)
    rows = [
        row(COLD_START_USER, "m2", 19),
        row(COLD_START_USER, "m2", 15, "v"),
        row(COLD_START_USER, "m2", 17, "new"),
    ]
    store.upsert([*rows, row("u", "m2", 11)])
    assert found("v") == [(2, ""), (5, "category"), (1, "")]
    assert found("new") == [(2, ""), (9, "cold_start"), (1, "")]
    store.registry.serve("m2", 2)
    assert found("v") == [(15, "category"), (15, "category"), (11, "")]
    assert found("new") == [(17, "category"), (17, "category"), (11, "")]
    assert found("old") == [(19, "other_model"), (19, "cold_start"), (11, "")]


@pytest.mark.integration
def test_history_comes_with_the_vectors_where_it_is_stored(
    store: Store, redis_client: redis.Redis, read: Callable[..., list[UserVectors]]
) -> None:
    ids, times = ["i0", "i1", 'i"2'], [1, 2, 3]
    window = window_to_bytes(Window("", 0, 9, 3, 0, 0, times, [1, 2, 4], ids, ["", "c", ""], times))
    store.upsert([replace(row("v"), window=window)])
    keeping = Store(redis_client, StoreSettings(key_prefix=PREFIX, history_events=2))
    keeping.upsert([replace(row("u"), window=window)])
    u, v = read("u", "v")
    assert (u.history, v.history) == (("i1", 'i"2'), ())
    assert recent_events(u.recent) == [("i1", "c", 2, 2), ('i"2', "", 4, 3)]


@pytest.mark.integration
def test_stale_is_who_was_written_long_ago_and_never_who_has_no_vectors(
    store: Store, redis_client: redis.Redis
) -> None:
    now = Store(redis_client, StoreSettings(key_prefix=PREFIX))
    now.upsert([row("v", value=2)])  # `store` writes in 1970

    def found(max_age_s: float) -> list[tuple[float, str]]:
        reader = Reader(redis_client, key_prefix=PREFIX, max_age_s=max_age_s)
        return [(each.vec[0], each.reason) for each in reader.read(["u", "v", "nobody"])]

    assert found(3600) == [(1, "stale"), (2, ""), (9, "cold_start")]
    assert found(0) == found(1e12) == [(1, ""), (2, ""), (9, "cold_start")]
    redis_client.hdel(PREFIX + "u", "short")
    assert found(3600)[0] == (2, "stale"), "the long vector stands in all the same"
    with pytest.raises(TwintideError, match="max_age_s is -1"):
        found(-1)


@pytest.mark.integration
def test_read_waits_for_what_the_user_did_and_says_who_is_behind(
    store: Store, redis_client: redis.Redis, redis_connection: RedisConnection
) -> None:
    reader = Reader(redis_client, key_prefix=PREFIX, cached_users=10, cached_s=60)
    assert reader.read("u", at_least=(10, 100))[0].reason == ""
    assert reader.read("u", at_least=(9, 10**9))[0].reason == "", "of a topic that was made again"
    assert [each.reason for each in reader.read(["u", "v"], at_least={"u": (10, 101)})] == ["behind", ""]
    both = reader.read(["u", "v", "u", "u"], at_least=[(10, 101), None, (10, 100), None])
    assert [each.reason for each in both] == ["behind", "", "", ""], "each entry by its own"
    with pytest.raises(TwintideError, match="at_least has 1 positions for 2 users"):
        reader.read(["u", "v"], at_least=[None])
    (stranger,) = reader.read("nobody", at_least=(10, 0), wait_s=0.01)
    assert stranger.reason == "cold_start"

    def write(seq: int) -> Timer:
        timer = Timer(0.2, lambda: store.upsert([replace(row("u", value=seq), seq=seq)]))
        timer.start()
        return timer

    writing = write(101)
    (found,) = reader.read("u", at_least=(10, 101), wait_s=60)
    assert (found.vec[0], found.seq, found.reason) == (101, 101, "")
    writing.join()

    async def later() -> UserVectors:
        async with redis.asyncio.Redis.from_url(redis_connection.url) as client:
            return (await AsyncReader(client, key_prefix=PREFIX).read("u", at_least=(10, 102), wait_s=60))[0]

    writing = write(102)
    assert asyncio.run(later()).seq == 102
    writing.join()


@pytest.mark.integration
def test_epoch_of_a_topic_is_what_writers_use(store: Store, redis_client: redis.Redis) -> None:
    reader = Reader(redis_client, key_prefix=PREFIX)
    assert reader.topic_epoch("a topic of nobody's") is None
    assert store.topic_epoch("a topic") == reader.topic_epoch("a topic")


@pytest.mark.integration
def test_long_vector_stands_in_for_a_short_one_that_has_expired(
    store: Store, redis_client: redis.Redis, read: Callable[..., list[UserVectors]]
) -> None:
    expiring = Store(redis_client, StoreSettings(key_prefix=PREFIX, short_ttl_s=100, ttl_s=1000))
    expiring.upsert([row("u"), row("v")])
    assert [0 < ttl <= 100 for ttl in redis_client.httl(PREFIX + "u", "vec", "short")] == [True, True]
    assert redis_client.httl(PREFIX + "u", "long", "model") == [-1, -1]
    assert 100 < redis_client.ttl(PREFIX + "u") <= 1000
    redis_client.hpexpire(PREFIX + "u", 0, "vec", "short")
    (found, whole) = read("u", "v")
    assert (found.reason, found.vec.tolist(), found.short.tolist()) == ("long", [2] * 4, [2] * 4)
    assert whole.reason == ""
    expiring.upsert([row("u")])
    assert read("u")[0].reason == ""


@pytest.mark.integration
def test_cold_start_user_never_expires(store: Store, redis_client: redis.Redis) -> None:
    expiring = Store(redis_client, StoreSettings(key_prefix=PREFIX, short_ttl_s=100, ttl_s=1000))
    for model in ("m1", "m2"):
        expiring.registry.serve(model, int(model[1]))
        rows = [row("u", model), row(COLD_START_USER, model), row("v", model)]
        expiring.upsert([*rows, row(COLD_START_USER, model, category="u")])
    expiring.clean_up([*expiring.stored_keys()])
    for key in (PREFIX, category_key(PREFIX, "u")):
        assert redis_client.ttl(key) == -1
        assert redis_client.httl(key, "vec", "other:short") == [-1, -1]
    assert redis_client.ttl(PREFIX + "v") > 0


@pytest.mark.integration
def test_short_vector_keeps_expiring_when_it_moves_to_the_other_slot(
    store: Store, redis_client: redis.Redis
) -> None:
    expiring = Store(redis_client, StoreSettings(key_prefix=PREFIX, short_ttl_s=100))
    expiring.upsert([row("u")])
    expiring.registry.serve("m2", 2)
    expiring.poll()
    expiring.upsert([row("u", "m2")])
    found = redis_client.httl(PREFIX + "u", "vec", "short", "other:vec", "other:short")
    assert all(0 < ttl <= 100 for ttl in found)


@pytest.mark.integration
def test_server_without_field_ttl_is_refused_where_one_is_asked_for(
    store: Store, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models.errors import SettingsError

    def httl(*_: object) -> None:
        raise ResponseError("unknown command 'HTTL'")

    Store(redis_client, StoreSettings(key_prefix=PREFIX, short_ttl_s=100)).check_server()
    monkeypatch.setattr(redis_client, "httl", httl)
    Store(redis_client, StoreSettings(key_prefix=PREFIX)).check_server()
    with pytest.raises(SettingsError, match=r"TWINTIDE_SHORT_TTL_S needs Redis >= 7.4 or Valkey >= 9"):
        Store(redis_client, StoreSettings(key_prefix=PREFIX, short_ttl_s=100)).check_server()


@pytest.mark.integration
def test_cache_answers_without_redis_and_never_mixes_versions(
    store: Store, redis_client: redis.Redis
) -> None:
    reader = Reader(redis_client, key_prefix=PREFIX, cached_users=10, cached_s=60)
    reader.read(["u"])
    store.upsert([row("u", value=5)])
    assert reader.read(["u"])[0].vec[0] == 1, "as it was a moment ago"
    store.registry.stage("m2", 2, partitions=1)
    store.upsert([row(user_id, "m2", 11) for user_id in (COLD_START_USER, "u", "v")])
    store.registry.serve("m2", 2)
    assert reader.read(["u"])[0].model == "m1"
    assert [each.model for each in reader.read(["u", "v"])] == ["m2", "m2"]
    assert reader.read(["u"])[0].vec[0] == 11


class Driver:
    """Answers a reader from a dict, and counts the round trips."""

    def __init__(self, reading: ReadProtocol, keys: dict[str, dict[str, bytes]]) -> None:
        self.reading, self.keys, self.trips = reading, keys, 0

    def read(
        self, *user_ids: str, category: str = "", between: Callable[[int], None] = lambda trip: None
    ) -> list[UserVectors]:
        exchange = Exchange(self.reading.read(user_ids, category))
        while exchange.asks:
            self.trips += 1
            answers: list[Fields] = [
                [self.keys.get(key, {}).get(name) for name in fields] for key, fields in exchange.asks
            ]
            between(self.trips)
            exchange.answer(answers)
        return exchange.result


def slot(model: str, value: float, prefix: str = "") -> dict[str, bytes]:
    vector = np.full(2, value, "<f4").tobytes()
    numbers = {name: b"1" for name in ("ts", "n", "written_at", "epoch", "seq")}
    fields = {
        "model": model.encode(),
        "vec": vector,
        "long": vector,
        "short": vector,
        "format": b"float32",
    } | numbers
    return {prefix + name: value for name, value in fields.items()}


def keys(serving: str) -> dict[str, dict[str, bytes]]:
    """Return a registry with one live model, users, and one whose slot of it is the second one."""
    return {
        "twintide:models:user:": {"serving": serving.encode(), "serving_publication": b"1"},
        "user:": slot("m1", 1),
        "user:plain": slot("m1", 2),
        "user:second": slot("m2", 3) | slot("m1", 4, "other:"),
        "twintide:category:user:c": slot("m1", 5),
    }


def test_one_round_trip_where_the_serving_model_is_in_the_plain_fields() -> None:
    driver = Driver(ReadProtocol(ReaderSettings()), keys("m1"))
    assert [each.vec[0] for each in driver.read("plain", "nobody")] == [2, 1]
    assert driver.trips == 1
    assert [each.vec[0] for each in driver.read("second", "plain")] == [4, 2]
    assert driver.trips == 3


def test_category_is_asked_for_in_the_same_round_trip() -> None:
    driver = Driver(ReadProtocol(ReaderSettings()), keys("m1"))
    found = [(each.vec[0], each.reason) for each in driver.read("plain", "nobody", category="c")]
    assert (found, driver.trips) == ([(2, ""), (5, "category")], 1)
    assert [each.reason for each in driver.read("nobody", category="unknown")] == ["cold_start"]
    assert driver.trips == 2


def test_category_is_kept_as_users_are_and_asked_for_only_where_it_may_stand_in() -> None:
    driver = Driver(ReadProtocol(ReaderSettings(cached_users=4, cached_s=60)), keys("m1"))
    driver.read("plain")
    assert driver.read("plain", category="c")[0].vec[0] == 2
    assert driver.trips == 1, "nothing was asked"
    assert driver.read("nobody", category="c")[0].vec[0] == 5
    driver.keys["twintide:category:user:c"] = slot("m1", 6)
    assert [each.vec[0] for each in driver.read("plain", "nobody", category="c")] == [2, 5]
    driver.keys.update(keys("m2") | {"user:": slot("m2", 7), "twintide:category:user:c": slot("m2", 8)})
    found = driver.read("plain", "nobody", "second", category="c")
    assert [(each.vec[0], each.model) for each in found] == [(8, "m2"), (8, "m2"), (3, "m2")]


def test_model_that_changes_between_two_round_trips_has_all_read_again() -> None:
    state = keys("m1")
    driver = Driver(ReadProtocol(ReaderSettings()), state)

    def switch(trip: int) -> None:
        if trip == 1:  # m1 is retired and deleted, and m2 serves, after the first answer was on its way
            state.clear()
            state.update(keys("m2") | {"user:": slot("m2", 7), "user:plain": slot("m2", 8)})
            state["user:second"] = slot("m2", 3)
            state["twintide:category:user:c"] = slot("m2", 9)

    found = driver.read("second", "plain", "nobody", category="c", between=switch)
    assert [each.vec[0] for each in found] == [3, 8, 9]


def test_category_of_another_version_never_stands_in() -> None:
    state = keys("m1") | {"twintide:category:user:c": slot("m2", 5)}
    driver = Driver(ReadProtocol(ReaderSettings()), state)
    assert [(each.vec[0], each.reason) for each in driver.read("nobody", category="c")] == [(1, "cold_start")]
    state["twintide:category:user:c"] |= slot("m1", 6, "other:")
    assert [(each.vec[0], each.reason) for each in driver.read("nobody", category="c")] == [(6, "category")]
    fixed = Driver(ReadProtocol(ReaderSettings(model="m2")), state | {"user:": slot("m2", 7)})
    assert [(each.vec[0], each.model) for each in fixed.read("nobody", category="c")] == [(5, "m2")]


def test_cache_of_a_version_that_serves_no_more_is_dropped_and_ages() -> None:
    now = [0.0]
    reading = ReadProtocol(ReaderSettings(cached_users=2, cached_s=5), timer=lambda: now[0])
    driver = Driver(reading, keys("m1"))
    driver.read("plain")
    assert driver.read("plain")[0].vec[0] == 2
    assert driver.trips == 1, "nothing was asked"
    now[0] = 6.0
    assert driver.read("plain")[0].vec[0] == 2
    assert driver.trips == 2


def test_nothing_to_read_says_what_is_missing() -> None:
    with pytest.raises(NoVectorsError, match="no model serves at twintide:models:user:"):
        Driver(ReadProtocol(ReaderSettings()), {}).read("u")
    with pytest.raises(NoVectorsError, match="no vectors of model m3 for cold-start users"):
        Driver(ReadProtocol(ReaderSettings(model="m3")), keys("m1")).read("plain")


def test_reading_and_ranking_need_neither_torch_nor_faust_nor_numba() -> None:
    blocked = ("torch", "faust", "mode", "aiokafka", "confluent_kafka", "rocksdict", "numba", "scipy")
    code = (
        f"import sys\nsys.modules.update(dict.fromkeys({blocked}))\n"
        "from stream.serving import AsyncReader, Reader, Recommender\n"
        "import stream.store.vector_store, models.artifact.item_vectors"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize("kind", [redis, redis.asyncio])
def test_client_that_makes_text_of_answers_is_refused_at_once(kind: Any) -> None:
    client = kind.Redis(decode_responses=True)
    reader = Reader if kind is redis else AsyncReader
    with pytest.raises(TwintideError, match="decode_responses=True, and vectors are bytes"):
        reader(client)


def test_empty_id_is_nobodys_own() -> None:
    found = Driver(ReadProtocol(ReaderSettings()), keys("m1")).read("")
    assert [(each.reason, each.is_cold_start) for each in found] == [("cold_start", True)]
