"""The ways to Redis, each on real servers: a Cluster of three nodes, a master with a Sentinel, a user."""

import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec
import numpy as np
import pytest
import redis

from local.ports import free_port
from local.processes import spawn
from local.redis import RedisServer, find_server
from models.artifact.item_vectors import ItemVectors
from models.errors import SettingsError, UnreachableError
from stream.serving.reader import Reader
from stream.store.clients import HostsUrl, parse_hosts_url, redis_client
from stream.store.connection import RedisConnection
from stream.store.item_rows import ItemRows
from stream.store.item_writer import ItemWriter, Scoring
from stream.store.keys import COLD_START_USER, ItemKeys
from stream.store.lease import Lease, LeaseLostError
from stream.store.user_row import UserRow
from stream.store.vector_store import Store, StoreSettings
from tests.integration.certificates import Authority
from tests.redis_cluster import redis_cluster, wait_for


def row(user_id: str, model: str = "m1", seq: int = 1) -> UserRow:
    vector = np.full(4, seq, np.float32)
    return UserRow(user_id, vector, vector, vector, model, 10, seq, ts=5, n=3)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RedisServer]]:
    """Give three nodes with a third of the hash slots each."""
    with redis_cluster(tmp_path_factory.mktemp("cluster")) as nodes:
        yield nodes


@pytest.fixture
def cluster_client(cluster: list[RedisServer]) -> Iterator["redis.Redis"]:
    hosts = ",".join(f"127.0.0.1:{node.port}" for node in cluster[:2])
    with redis_client(RedisConnection(f"redis+cluster://{hosts}")) as client:
        client.flushall()
        yield client


@pytest.mark.integration
def test_cluster_keeps_every_rule(cluster: list[RedisServer], cluster_client: "redis.Redis") -> None:
    store = Store(cluster_client)
    reader = Reader(cluster_client)
    store.topic_epoch("topic-1")
    store.registry.serve("m1", 1)
    users = [f"user {number}" for number in range(300)]
    assert store.upsert([row(COLD_START_USER), *(row(user) for user in users)]) == 301
    categories = [
        msgspec.structs.replace(row(COLD_START_USER), category=f"c{number}") for number in range(40)
    ]
    assert store.upsert(categories) == 40
    assert {reader.read(["nobody"], each.category)[0].reason for each in categories} == {"category"}
    for node in cluster:
        with redis.Redis(port=node.port) as client:
            assert client.dbsize() > 50, "every node has its share"
    assert store.upsert([row(user, seq=0) for user in users]) == 0
    assert [each.reason for each in reader.read([*users, "nobody"])] == [""] * 300 + ["cold_start"]
    store.registry.stage("m2", 2, partitions=1)
    store.poll()
    assert (
        store.upsert([row(user, model, 2) for user in [COLD_START_USER, *users] for model in ("m1", "m2")])
        == 602
    )
    assert {each.model for each in reader.read(users)} == {"m1"}
    store.report_coverage("m2", 0, 300, 300, store.losses)
    assert {each.model for each in reader.read(users)} == {"m2"}
    assert store.clean_up([f"user:{user}" for user in users]) == 300
    store.registry.retire("m1")
    assert store.clean_up([*store.stored_keys()]) >= 341
    assert {(each.model, each.reason) for each in reader.read(users)} == {("m2", "")}
    assert store.forget([(user, 2) for user in users[:150]], epoch=10) == 150
    assert [each.reason for each in reader.read(users)] == ["cold_start"] * 150 + [""] * 150
    assert store.losses == 0


@pytest.mark.integration
def test_live_items_go_through_a_cluster(cluster_client: "redis.Redis") -> None:
    items = ItemVectors("m1", ["i0"], np.array([""], object), np.ones((1, 4), np.float32))
    rows = ItemRows(
        np.array([0, 700]),
        np.eye(2, 4, dtype=np.float32),
        np.ones((2, 2), np.float32),
        np.array([5, 5]),
        np.zeros(2, np.bool_),
        ["i0", "new"],
        ["", "c"],
    )
    scoring = Scoring(1, np.array([0, 0, 0, 1], np.float32), (1.0, 0.0), (60_000.0, 60_000.0))
    none = rows.select(np.zeros(0, np.int64))
    writer = ItemWriter(cluster_client, ItemKeys("user:", "m1"), scoring, lambda first, end: none)
    writer.begin(701, 5)
    writer.publish(rows, 701, 5)
    table, reason = Reader(cluster_client).live_items().of(items)
    assert table is not None, reason
    assert (table.item_ids[700], table.row_of["new"], table.header and table.header.snapshot) == (
        *("new", 700),
        1,
    )
    writer.delete()
    assert cluster_client.exists(ItemKeys("user:", "m1").header) == 0


@pytest.mark.integration
def test_node_of_a_cluster_that_came_back_empty_is_noticed(
    cluster: list[RedisServer], cluster_client: "redis.Redis"
) -> None:
    store = Store(cluster_client)
    store.registry.serve("m1", 1)
    store.upsert([row(COLD_START_USER)])
    for losses, node in enumerate(cluster, start=1):
        with redis.Redis(port=node.port) as client:
            client.flushall()
        store.upsert([row("u")])
        assert store.losses == losses


@pytest.mark.integration
@pytest.mark.parametrize("prefix", ["{tw}:user:", "a{b}c", "{}:", "{{x}}"])
def test_key_prefix_with_a_hash_tag_works_on_a_cluster(
    cluster: list[RedisServer], cluster_client: "redis.Redis", prefix: str
) -> None:
    store = Store(cluster_client, StoreSettings(key_prefix=prefix))
    store.registry.serve("m1", 1)
    users = [f"user {number}" for number in range(100)]
    assert store.upsert([row(user) for user in [COLD_START_USER, *users]]) == 101
    reader = Reader(cluster_client, key_prefix=prefix)
    assert [each.reason for each in reader.read([*users, "nobody"])] == [""] * 100 + ["cold_start"]
    assert len(set(store.stored_keys())) == 101
    for losses, node in enumerate(cluster, start=1):  # a counter is on every node
        with redis.Redis(port=node.port) as client:
            client.flushall()
        store.poll()
        assert store.losses == losses


@pytest.mark.integration
def test_cluster_that_does_not_answer_is_told_as_a_server_is(
    cluster: list[RedisServer], cluster_client: "redis.Redis"
) -> None:
    with pytest.raises(UnreachableError, match=r"no Redis at redis\+cluster://127\.0\.0\.1:1 "):
        redis_client(RedisConnection("redis+cluster://127.0.0.1:1"))
    store = Store(cluster_client)
    for node in cluster:
        node.kill()
    try:
        with pytest.raises(redis.RedisError):
            store.poll()
    finally:
        for node in cluster:
            node.start()
    wait_for(lambda: store.poll() is None)


@pytest.fixture
def sentinel(tmp_path: Path) -> Iterator[tuple[list[RedisServer], int]]:
    """Give a master and its replica, and the port of a Sentinel that watches them."""
    master = RedisServer(tmp_path / "master")
    replica = RedisServer(tmp_path / "replica", settings={"replicaof": f"127.0.0.1 {master.port}"})
    port = free_port()
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\n"
        f"sentinel monitor shop 127.0.0.1 {master.port} 1\n"
        "sentinel down-after-milliseconds shop 3000\nsentinel failover-timeout shop 6000\n"
    )
    master.start()
    replica.start()
    with (tmp_path / "sentinel.log").open("wb") as log:
        child: subprocess.Popen[bytes] = spawn([str(find_server()), str(config), "--sentinel"], log, {})
    try:
        with redis.Redis(port=port) as client:
            wait_for(lambda: client.execute_command("SENTINEL REPLICAS", "shop"))
            wait_for(lambda: redis.Redis(port=replica.port).info()["master_link_status"] == "up")
        yield [master, replica], port
    finally:
        child.kill()
        child.wait()
        replica.kill()
        master.kill()


@pytest.mark.integration
def test_writes_follow_the_master_that_the_sentinel_names(
    sentinel: tuple[list[RedisServer], int],
) -> None:
    (master, replica), port = sentinel
    client = redis_client(RedisConnection(f"redis+sentinel://127.0.0.1:{port}/shop/0", timeout_s=2))
    assert client.info()["tcp_port"] == master.port
    store = Store(client)
    store.registry.serve("m1", 1)
    store.upsert([row(COLD_START_USER), row("u")])
    assert client.wait(1, 30_000) == 1
    master.kill()
    wait_for(lambda: store.upsert([row("u", seq=2)]) == 1)
    assert client.info()["tcp_port"] == replica.port
    (found,) = Reader(client).read(["u"])
    assert (found.seq, found.model, store.losses) == (2, "m1", 0)
    client.close()


@pytest.mark.integration
def test_user_of_an_acl_gets_in_with_the_password_alone(redis_connection: RedisConnection) -> None:
    host = redis_connection.url.partition("://")[2].partition("/")[0]
    with redis.Redis.from_url(redis_connection.url) as client:
        client.acl_setuser(
            "ranker", enabled=True, passwords=["+p@ss/w:rd"], keys=["*"], commands=["+@all", "-@admin"]
        )
    try:
        good = replace(redis_connection, url=f"redis://ranker:p%40ss%2Fw%3Ard@{host}/0")
        with redis_client(good) as client:
            assert client.acl_whoami() == "ranker"
        with pytest.raises(UnreachableError, match="invalid username-password") as error:
            redis_client(replace(good, url=f"redis://ranker:wrong@{host}/0"))
        assert "wrong@" not in str(error.value)
    finally:
        with redis.Redis.from_url(redis_connection.url) as client:
            client.acl_deluser("ranker")


def test_url_of_several_hosts_is_taken_apart() -> None:
    found = parse_hosts_url("redis+sentinel://me:p%40ss@one:1,two,[::1]:3/shop/2", 26379)
    assert found == HostsUrl([("one", 1), ("two", 26379), ("::1", 3)], "me", "p@ss", ["shop", "2"])
    assert parse_hosts_url("redis+cluster://one", 6379) == HostsUrl([("one", 6379)], None, None, [])


def test_sentinel_gets_its_own_password_and_the_master_the_urls(tmp_path: Path) -> None:
    ca_file = str(Authority(tmp_path, "ca").ca_file)
    connection = RedisConnection(
        "rediss+sentinel://me:secret@127.0.0.1:1/shop/3", 0.5, ca_file, "watcher", "hidden"
    )
    from stream.store.clients import _client

    client = _client(connection)
    options = client.connection_pool.connection_kwargs
    assert (options["username"], options["password"], options["db"]) == ("me", "secret", 3)
    assert (options["ssl_ca_certs"], options["socket_timeout"]) == (ca_file, 0.5)
    pool: Any = client.connection_pool
    (watcher,) = pool.sentinel_manager.sentinels
    asking = watcher.connection_pool.connection_kwargs
    assert (asking["username"], asking["password"]) == ("watcher", "hidden")
    assert watcher.connection_pool.connection_class is redis.SSLConnection
    assert "secret" not in repr(connection) + connection.place
    assert "hidden" not in repr(connection)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis+sentinel://one:1", "names no master"),
        ("redis+cluster://one:x", "://host:port"),
        ("http://one", "REDIS_URL must start with"),
    ],
)
def test_url_that_makes_no_sense_is_refused(url: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        redis_client(RedisConnection(url, timeout_s=0.5))


@pytest.mark.integration
def test_primary_that_became_a_replica_is_left_for_where_its_address_leads(tmp_path: Path) -> None:
    before, after = RedisServer(tmp_path / "before"), RedisServer(tmp_path / "after")
    before.start()
    after.start()
    try:
        with address(before.port) as (port, lead_to):
            client = redis_client(RedisConnection(f"redis://127.0.0.1:{port}/0"))
            lease = Lease(client, "user:")
            assert lease.take()
            lead_to(after.port)
            lease.require()  # connections that there are stay where they are
            with redis.Redis(port=before.port) as admin:
                admin.replicaof("127.0.0.1", after.port)
            with pytest.raises(LeaseLostError, match="read only replica"):
                lease.require()
            lease.give_up()
            assert lease.take()
            lease.give_up()
            assert client.info()["tcp_port"] == after.port
            client.close()
    finally:
        before.kill()
        after.kill()


@contextmanager
def address(port: int) -> Iterator[tuple[int, Callable[[int], None]]]:
    """Give a port that leads to a server of this host, and what makes it lead to another from then on."""
    places = [port]

    def serve(door: socket.socket) -> None:
        with suppress(OSError):
            while True:
                caller, _ = door.accept()
                server = socket.create_connection(("127.0.0.1", places[-1]))
                for ends in ((caller, server), (server, caller)):
                    Thread(target=copy, args=ends, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as door:
        Thread(target=serve, args=(door,), daemon=True).start()
        yield int(door.getsockname()[1]), places.append


def copy(source: socket.socket, target: socket.socket) -> None:
    """Send all that comes from one to the other, until one hangs up, and hang up then."""
    with suppress(OSError), source, target:
        while some := source.recv(65_536):
            target.sendall(some)
