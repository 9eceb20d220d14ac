"""Real servers for the tests that ask for one: started once, random ports, data in temporary directories.

KAFKA_BOOTSTRAP_SERVERS and REDIS_URL of the environment are used instead by `kafka` and `redis_connection`. A
test that stops or kills a server takes `kafka_server` or `redis_server`, which are always ours, and starts it
again.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import redis
from hypothesis import settings

from local.kafka import KafkaServer
from local.object_storage import ObjectStorageServer
from local.redis import RedisServer
from local.registry import RegistryServer
from models.location import BucketUrl
from replay.encoding import ENCODINGS
from stream.kafka.connection import KafkaConnection
from stream.store.connection import RedisConnection

pytest_plugins = ["tests.side_by_side"]

# What else runs on Java lives as shortly as the broker: the compiler for long runs costs it more than it
# brings. Java adds this to its command line.
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")

# How long an example takes says nothing here: the first may compile, and machines differ.
settings.register_profile("twintide", deadline=None)
settings.load_profile("twintide")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the chaos tests be as long as one likes."""
    parser.addoption("--chaos-faults", type=int, default=5, help="faults of the chaos test (5)")
    parser.addoption("--chaos-items", action="store_true", help="an item learner takes part in it")
    parser.addoption("--items-kills", type=int, default=4, help="kills of an item learner in its test (4)")
    parser.addoption("--chaos-seed", type=int, default=1, help="what decides their order (1)")
    parser.addoption("--chaos-encoding", choices=ENCODINGS, default="json", help="how its events are written")


@pytest.fixture(scope="session")
def kafka_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """Give a running broker of our own."""
    server = KafkaServer(tmp_path_factory.mktemp("servers") / "kafka")
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def object_storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStorageServer]:
    """Give a running object store of our own."""
    server = ObjectStorageServer(tmp_path_factory.mktemp("servers") / "object-storage")
    try:
        server.start()
        yield server
    finally:
        server.kill()  # it takes 15 s to stop


@pytest.fixture(scope="session")
def registry_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """Give a running schema registry of our own."""
    server = RegistryServer(tmp_path_factory.mktemp("servers") / "registry")
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def bucket(object_storage: ObjectStorageServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> BucketUrl:
    """Give a place for a store of artifacts, the test's own, which its environment may write to.

    This host's cache is the test's own, too.
    """
    for name, value in object_storage.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return BucketUrl("s3", "shop", (uuid4().hex, "artifacts"))


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Give a running Redis of our own; it survives a kill with its data."""
    server = RedisServer(tmp_path_factory.mktemp("servers") / "redis", durable=True)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def kafka(request: pytest.FixtureRequest) -> KafkaConnection:
    """Give the connection to the environment's broker where it names one, else to ours."""
    if os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        return KafkaConnection.from_environment(os.environ)
    return KafkaConnection(request.getfixturevalue("kafka_server").bootstrap_servers)


@pytest.fixture
def redis_connection(request: pytest.FixtureRequest) -> RedisConnection:
    """Give the connection to the environment's Redis where it names one, else to ours."""
    if os.environ.get("REDIS_URL"):
        return RedisConnection.from_environment(os.environ)
    return RedisConnection(request.getfixturevalue("redis_server").url)


@pytest.fixture
def redis_client(redis_connection: RedisConnection) -> Iterator[redis.Redis]:
    """Give a client of that Redis, emptied first where it is ours and only there."""
    with redis.Redis.from_url(redis_connection.url, socket_timeout=redis_connection.timeout_s) as client:
        if not os.environ.get("REDIS_URL"):
            client.flushall()
        yield client
