"""A database whose files are not as they were written is begun anew; the changelog has what it had."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stream.windows.rocksdb import WITHOUT_LOG, DamagedError, SharedMemoryOptions
from stream.windows.table import WindowTable

KEYS = [f"user {number}".encode() for number in range(2_000)]


def files(path: Path, pattern: str) -> list[Path]:
    found = sorted(path.glob(pattern))
    assert found, f"no {pattern} in {path}"
    return found


def empty(path: Path, pattern: str) -> None:
    for file in files(path, pattern):
        file.write_bytes(b"")


def remove(path: Path, pattern: str) -> None:
    for file in files(path, pattern):
        file.unlink()


def flip(path: Path, pattern: str) -> None:
    """Change a byte in the midst of each file's blocks."""
    for file in files(path, pattern):
        content = bytearray(file.read_bytes())
        content[len(content) // 3] ^= 0xFF
        file.write_bytes(content)


class Disk:
    """A table of one partition; `table` opens what is not open."""

    def __init__(self, path: Path) -> None:
        self.path, self.options = path, SharedMemoryOptions(16)
        self.database: Any = None
        data = SimpleNamespace(
            _db_for_partition=lambda partition: self.opened(),
            partition_path=lambda partition: self.path,
            offset_key=b"offset",
        )
        self.table = WindowTable(SimpleNamespace(data=data))

    def opened(self) -> Any:
        if self.database is None:
            self.database = self.options.open(self.path)
        return self.database

    def close(self) -> None:
        if self.database is not None:
            self.database.close()
            self.database = None


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    found = Disk(tmp_path / "windows-0.db")
    found.table.write(0, dict.fromkeys(KEYS, b"w" * 200), 7)
    found.opened().flush()
    found.close()
    return found


def test_sound_database_is_as_it_was(disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    assert disk.table.load(0, KEYS[:2]) == [b"w" * 200] * 2
    assert disk.opened().get(b"offset") == b"7"
    assert not caplog.records


@pytest.mark.parametrize("damage", [empty, remove])
@pytest.mark.parametrize("pattern", ["CURRENT", "MANIFEST-*", "*.sst"])
def test_damaged_database_is_begun_anew(
    disk: Disk, pattern: str, damage: Callable[[Path, str], None], caplog: pytest.LogCaptureFixture
) -> None:
    damage(disk.path, pattern)
    assert disk.table.load(0, KEYS[:2]) == [None, None]
    assert disk.opened().get(b"offset") is None, "the changelog is read from its beginning"
    disk.opened().put(b"offset", b"8", WITHOUT_LOG)
    disk.close()
    assert len(caplog.records) <= 1
    assert all("windows-0.db is damaged (" in said for said in caplog.messages)


def test_database_that_is_found_damaged_as_it_is_read_is_begun_anew_by_the_next_start(
    disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    flip(disk.path, "*.sst")
    with pytest.raises(DamagedError, match=r"windows-0.db is damaged \(.*: the next start restores"):
        for key in KEYS:
            disk.table.load(0, [key])
    disk.close()
    assert not caplog.records
    assert disk.table.load(0, KEYS) == [None] * len(KEYS)
    assert [each.partition("windows-0.db ")[2][:24] for each in caplog.messages] == [
        "is damaged (as was found"
    ]
    disk.table.write(0, {b"u": b"w"}, 3)
    disk.opened().flush()
    disk.close()
    assert disk.table.load(0, [b"u"]) == [b"w"]
