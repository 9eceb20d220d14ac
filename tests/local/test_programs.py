"""Which Java, which Redis and which jars are taken."""

import hashlib
from pathlib import Path

import pytest

from bench.peers import kafka_streams
from local import jars, java
from local import redis as local_redis
from models.errors import UnreachableError


def script(directory: Path, name: str, line: str) -> Path:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("words", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_402"', 8),
        ('openjdk version "25" 2025-09-16', 25),
        ("no java here", 0),
    ],
)
def test_java_version_is_read(words: str, version: int) -> None:
    assert java.parse_version(words) == version


def test_java_of_the_path_is_taken_where_it_is_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    new = script(tmp_path, "java", "echo 'openjdk version \"17.0.1\"' >&2")
    assert java.find_java() == new
    script(tmp_path, "java", "echo 'openjdk version \"11.0.1\"' >&2")
    wheel = java.find_java()
    assert wheel != new
    assert java.java_version(wheel) >= java.OLDEST


def test_redis_of_the_path_is_taken_where_it_can_expire_fields(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    new = script(tmp_path, "valkey-server", "echo 'Valkey server v=9.0.1 sha=0'")
    old = script(tmp_path, "redis-server", "echo 'Redis server v=7.0.15 sha=0'")
    assert local_redis.find_server() == new
    script(tmp_path, "redis-server", "echo 'Redis server v=8.0.0 sha=0'")
    assert local_redis.find_server() == old
    script(tmp_path, "redis-server", "exit 1")
    script(tmp_path, "valkey-server", "echo 'Valkey server v=8.1.0 sha=0'")
    assert local_redis.server_version(local_redis.find_server()) >= (9, 0)


@pytest.mark.parametrize("lock", [jars.KAFKA_LOCK, kafka_streams.LOCK], ids=lambda lock: lock.stem)
def test_lock_pins_every_jar_by_version_and_content(lock: Path) -> None:
    locked = jars.locked_jars(lock)
    assert all(len(jar.sha256) == 64 and jar.version for jar in locked)
    assert len({jar.file_name for jar in locked}) == len(locked)
    coordinates = {f"{jar.group}:{jar.artifact}:{jar.version}" for jar in locked}
    assert set(jars.endpoint(lock).split("+")) <= coordinates


def test_kafka_streams_is_of_the_brokers_version() -> None:
    brokers = {jar.version for jar in jars.locked_jars(jars.KAFKA_LOCK) if jar.group == "org.apache.kafka"}
    assert brokers == {kafka_streams.STREAMS_VERSION}


@pytest.fixture
def one_jar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty cache for a lock file of one jar whose content is `whole`."""
    lock = tmp_path / "kafka.lock"
    lock.write_text(f"# comment\n{hashlib.sha256(b'whole').hexdigest()} org.example:thing:1.0\n")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return lock


def test_jar_that_arrives_broken_is_fetched_again_and_then_never_more(
    one_jar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrivals = [b"half", b"whole"]

    def download(jar: jars.Jar, repository: Path) -> Path:
        path = repository / jar.file_name
        path.write_bytes(arrivals.pop(0))
        return path

    monkeypatch.setattr(jars, "_download", download)
    assert [path.read_bytes() for path in jars.fetched_jars(one_jar, "do without")] == [b"whole"]
    assert [path.name for path in jars.fetched_jars(one_jar, "do without")] == ["thing-1.0.jar"]
    assert arrivals == []


def test_jar_that_cannot_be_fetched_is_named(one_jar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(jar: jars.Jar, repository: Path) -> Path:
        raise OSError("no route")

    monkeypatch.setattr(jars, "_download", download)
    with pytest.raises(
        UnreachableError,
        match=r"org\.example:thing:1\.0 could not be fetched after 3 tries \(no route\): .* or do without",
    ):
        jars.fetched_jars(one_jar, "do without")
    assert not list(jars.cache_directory(one_jar).glob("*.jar"))
