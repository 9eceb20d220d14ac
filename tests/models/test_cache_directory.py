"""A cache is where the user has one, and where that cannot be written to, in a temporary directory."""

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from models import cache_directory
from models.cache_directory import writable_directory


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a directory for temporary files; the cache's is a file, which not even root can use as one."""
    (tmp_path / "home").write_text("")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    cache_directory._stand_in.cache_clear()
    yield tmp_path / "tmp"
    cache_directory._stand_in.cache_clear()


def test_cache_is_made_in_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new"))
    assert writable_directory("artifacts") == tmp_path / "new" / "twintide" / "artifacts"
    assert (tmp_path / "new" / "twintide" / "artifacts").is_dir()


def test_temporary_directory_stands_in_with_one_warning(
    temporary: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = {writable_directory("artifacts") for _ in range(3)}
    assert len(found) == 1
    directory = found.pop()
    assert directory.is_relative_to(temporary)
    assert directory.parent.stat().st_mode & 0o077 == 0
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "XDG_CACHE_HOME" in caplog.text
    cache_directory._stand_in.cache_clear()
    assert writable_directory("artifacts") == directory  # the next start finds what this one has fetched


def test_temporary_directory_that_others_may_write_to_is_not_used(temporary: Path) -> None:
    first = writable_directory("artifacts")
    first.parent.chmod(0o777)
    cache_directory._stand_in.cache_clear()
    second = writable_directory("artifacts")
    assert not second.is_relative_to(first.parent)
    assert second.is_relative_to(temporary)
