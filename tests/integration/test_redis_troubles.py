"""A Redis that answers otherwise than hoped while a worker runs: it waits, says so, and goes on by itself."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from local.ports import free_port
from local.redis import RedisServer
from local.worker import WorkerProcess, worker_environment
from models.artifact.artifact import Artifact
from stream.settings import Settings
from stream.store.clients import redis_client as connect
from stream.store.connection import RedisConnection
from tests.integration.shop import Shop
from tests.redis_cluster import SLOTS, redis_cluster, wait_for

pytestmark = pytest.mark.integration

PASSWORD = "before"
#: How long each command is held up while data is loaded (us): the start takes some seconds then.
LOAD_DELAY_US = "5000"


def refuses(worker: WorkerProcess) -> bool | None:
    """Return whether Redis takes no vectors of a worker, None where that does not answer."""
    value = worker.metrics().get("twintide_redis_refuses")
    return None if value is None else value == 1


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """Give a Redis of our own, with a password, that has its data again after a restart."""
    found = RedisServer(tmp_path / "redis", durable=True)
    found.start()
    with redis.Redis(port=found.port) as admin:
        admin.config_set("requirepass", PASSWORD)
    yield found
    found.kill()


def test_whatever_redis_refuses_with_the_worker_waits_says_so_and_goes_on(
    settings: Settings,
    server: RedisServer,
    artifact: Artifact,
    tmp_path: Path,
    until: Callable[..., None],
) -> None:
    ours = replace(settings, redis=RedisConnection(f"redis://:{PASSWORD}@127.0.0.1:{server.port}/0"))
    worker = WorkerProcess(tmp_path / "worker", worker_environment(ours))
    with connect(ours.redis) as client:
        shop = Shop(ours, client, artifact)
        shop.send(40)
        try:
            worker.start()
            for said, trouble in troubles(server, client).items():
                with trouble:
                    shop.send(40, first=shop.published)
                    until(lambda: refuses(worker) is True)
                    assert said in worker.process.log.read_text()
                until(lambda: refuses(worker) is False)
                assert worker.is_ready() and shop.prove().is_ok, said
            log = worker.process.log.read_text()
            assert "Traceback" not in log and PASSWORD not in log
        finally:
            worker.kill()


def troubles(server: RedisServer, client: "redis.Redis") -> dict[str, AbstractContextManager[None]]:
    """Return each trouble by what Redis says meanwhile; of LOADING it says first that nobody is there."""
    return {
        "used memory > 'maxmemory'": full(client),
        "unable to persist to disk": not_saved(server, client),
        "against a read only replica": replica(client),
        "no permissions to run": not_permitted(client),
        "invalid username-password pair": other_password(server, client),
        "Connection refused": loading(server),
    }


@contextmanager
def full(client: "redis.Redis") -> Iterator[None]:
    """Have no room for anything more (OOM)."""
    client.config_set("maxmemory", 1)
    yield
    client.config_set("maxmemory", 0)


@contextmanager
def not_saved(server: RedisServer, client: "redis.Redis") -> Iterator[None]:
    """Have the server fail to save, as on a full disk: a directory has the file's name (MISCONF)."""
    (server.directory / "dump.rdb").mkdir()
    client.config_set("save", "3600 1")
    client.bgsave()
    wait_for(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")
    yield
    (server.directory / "dump.rdb").rmdir()
    client.bgsave()


@contextmanager
def replica(client: "redis.Redis") -> Iterator[None]:
    """Make it a replica, of a primary that does not answer, as a failover does (READONLY)."""
    client.replicaof("127.0.0.1", free_port())
    yield
    client.replicaof("NO", "ONE")


@contextmanager
def not_permitted(client: "redis.Redis") -> Iterator[None]:
    """Take away the right to run scripts (NOPERM)."""
    client.acl_setuser("default", enabled=True, commands=["-evalsha"])
    yield
    client.acl_setuser("default", enabled=True, commands=["+evalsha"])


@contextmanager
def other_password(server: RedisServer, client: "redis.Redis") -> Iterator[None]:
    """Change the password, and end the connections that came in with the one before (WRONGPASS)."""
    client.config_set("requirepass", "after")
    with redis.Redis(port=server.port, password="after") as admin:
        admin.client_kill_filter(_type="normal", skipme=True)
        yield
        admin.config_set("requirepass", PASSWORD)


@contextmanager
def loading(server: RedisServer) -> Iterator[None]:
    """Start the server again, and have it take its time to load what it had (LOADING)."""
    server.stop()
    server.settings = {"key-load-delay": LOAD_DELAY_US}  # and without a password: any will do
    starting = Thread(target=server.start)
    starting.start()
    yield
    starting.join()


def test_cluster_whose_slots_move_are_given_up_or_lose_their_node_loses_no_vector(
    settings: Settings, artifact: Artifact, tmp_path: Path, until: Callable[..., None]
) -> None:
    with redis_cluster(tmp_path / "cluster", durable=True) as nodes:
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
        ours = replace(settings, redis=RedisConnection(f"redis+cluster://{hosts}"))
        worker = WorkerProcess(tmp_path / "worker", worker_environment(ours))
        slots = sorted({key_slot(f"{ours.key_prefix}user {number}#ü".encode()) for number in range(40)})
        with connect(ours.redis) as client:
            shop = Shop(ours, client, artifact)
            shop.send(400)
            try:
                worker.start()
                with shop.load(first=400):
                    for slot in slots[:10]:
                        move(nodes, slot)
                    assert refuses(worker) is False and worker.is_ready(), "clients are told where keys are"
                    with given_up(nodes, slots[-1]):
                        until(lambda: refuses(worker) is True)
                    until(lambda: refuses(worker) is False)
                    nodes[0].kill()
                    until(lambda: refuses(worker) is True)
                    nodes[0].start()
                    until(lambda: refuses(worker) is False)
                assert worker.is_ready() and shop.prove().is_ok
                assert "Traceback" not in worker.process.log.read_text()
            finally:
                worker.kill()


def move(nodes: list[RedisServer], slot: int) -> None:
    """Move a slot to the next node, as `redis-cli --cluster reshard` does it (ASK, then MOVED)."""
    source = _owner(slot)
    target = (source + 1) % len(nodes)
    giver, taker = _client(nodes[source]), _client(nodes[target])
    giver_id, taker_id = (each.execute_command("CLUSTER MYID") for each in (giver, taker))
    taker.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", giver_id)
    giver.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", taker_id)
    time.sleep(0.2)  # users come meanwhile, who are on both nodes
    while keys := giver.execute_command("CLUSTER GETKEYSINSLOT", slot, 10):
        giver.execute_command("MIGRATE", "127.0.0.1", nodes[target].port, "", 0, 5_000, "KEYS", *keys)
    for each in (taker, giver):
        each.execute_command("CLUSTER SETSLOT", slot, "NODE", taker_id)


@contextmanager
def given_up(nodes: list[RedisServer], slot: int) -> Iterator[None]:
    """Have no node serve a slot (CLUSTERDOWN)."""
    for node in nodes:
        _client(node).execute_command("CLUSTER DELSLOTS", slot)
    yield
    _client(nodes[_owner(slot)]).execute_command("CLUSTER ADDSLOTS", slot)


def _owner(slot: int) -> int:
    """Return the number of the node that has a slot at the beginning."""
    return next(number for number in range(3) if slot < (number + 1) * SLOTS // 3)


def _client(node: RedisServer) -> Any:
    return redis.Redis(port=node.port)
