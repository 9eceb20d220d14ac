"""This host's cache of artifacts: whole or not at all, checked, shared by processes, and bounded."""

import hashlib
import os
import threading
import time
from pathlib import Path

import pytest

from models.artifact import version_cache
from models.artifact.files import CHECKSUMS, FILES, to_json, version_of
from models.artifact.version_cache import KEPT, VersionCache
from models.errors import UnreachableError


class Origin:
    """Where one artifact comes from: its files are its name; counts how often it was fetched."""

    def __init__(self, name: str) -> None:
        self.name = name.encode()
        self.checksums = {file: hashlib.sha256(self.name).hexdigest() for file in FILES}
        self.version = version_of(self.checksums)
        self.fetches = 0

    def fetch(self, into: Path) -> None:
        self.fetches += 1
        time.sleep(0.05)
        for file in FILES:
            (into / file).write_bytes(self.name)
        (into / CHECKSUMS).write_bytes(to_json(self.checksums))


@pytest.fixture
def cache(tmp_path: Path) -> VersionCache:
    return VersionCache(tmp_path)


def test_artifact_is_fetched_once(cache: VersionCache) -> None:
    origin = Origin("a")
    found = [cache.fetched(origin.version, origin.fetch) for _ in range(3)]
    assert origin.fetches == 1
    assert set(found) == {cache.home / origin.version}
    assert (found[0] / FILES[0]).read_bytes() == b"a"


def test_those_who_want_it_at_the_same_time_wait_for_one_of_them(cache: VersionCache) -> None:
    origin = Origin("a")
    threads = [
        threading.Thread(target=VersionCache(cache.home).fetched, args=(origin.version, origin.fetch))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert origin.fetches == 1


@pytest.mark.parametrize("content", [b"", b"b"])
def test_damaged_artifact_is_fetched_again(
    cache: VersionCache, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    origin = Origin("a")
    (cache.fetched(origin.version, origin.fetch) / FILES[1]).write_bytes(content)
    found = cache.fetched(origin.version, origin.fetch)
    assert (found / FILES[1]).read_bytes() == b"a"
    assert "is damaged: it is replaced" in caplog.text


def test_fetch_that_fails_leaves_nothing(cache: VersionCache) -> None:
    def fail(into: Path) -> None:
        (into / FILES[0]).write_bytes(b"half")
        raise UnreachableError("the bucket has gone")

    origin = Origin("a")
    with pytest.raises(UnreachableError, match="has gone"):
        cache.fetched(origin.version, fail)
    assert cache.find(origin.version) is None
    assert not [path for path in cache.home.iterdir() if path.is_dir()]
    cache.fetched(origin.version, origin.fetch)


def test_those_used_last_are_kept(cache: VersionCache) -> None:
    origins = [Origin(str(number)) for number in range(KEPT + 2)]
    for age, origin in enumerate(origins[:KEPT]):
        os.utime(cache.fetched(origin.version, origin.fetch), times=(age, age))
    assert cache.find(origins[0].version)  # used now, so the second one is the oldest
    for origin in origins[KEPT:]:
        cache.fetched(origin.version, origin.fetch)
    kept = {path.name for path in cache.home.iterdir() if path.is_dir()}
    assert kept == {origin.version for origin in [origins[0], *origins[3:]]}


def test_what_dead_processes_left_is_removed_and_what_others_do_now_is_not(cache: VersionCache) -> None:
    dead, alive = cache.home / ".partial-dead", cache.home / ".partial-alive"
    dead.mkdir()
    alive.mkdir()
    long_ago = time.time() - 2 * version_cache.ABANDONED_S
    os.utime(dead, times=(long_ago, long_ago))
    origin = Origin("a")
    cache.fetched(origin.version, origin.fetch)
    assert (dead.exists(), alive.exists()) == (False, True)


def test_disk_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    def full(into: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(UnreachableError, match=r"cannot be written to .* \(No space left on device\)"):
        VersionCache(tmp_path).fetched("0" * 12, full)
