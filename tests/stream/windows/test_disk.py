"""A worker's disk holds the windows of one changelog: of another one's, nothing is taken for its own."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from models.errors import SettingsError
from stream.windows.disk import hold_windows_of


def disk_with(tables: Path, *databases: str) -> None:
    for name in databases:
        (tables / name).mkdir(parents=True)
        (tables / name / "CURRENT").write_text("MANIFEST-000001\n")


def held(tables: Path) -> list[str]:
    return sorted(path.name for path in tables.glob("*.db"))


def test_disk_of_the_same_changelog_stays_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    hold_windows_of(tmp_path / "tables", "a-windows-changelog", "id-1")
    disk_with(tmp_path / "tables", "windows-0.db", "windows-1.db")
    hold_windows_of(tmp_path / "tables", "a-windows-changelog", "id-1")
    assert held(tmp_path / "tables") == ["windows-0.db", "windows-1.db"]
    assert not caplog.records


def test_disk_of_another_changelog_is_emptied_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    hold_windows_of(tmp_path, "a-windows-changelog", "id-1")
    disk_with(tmp_path, "windows-0.db", "windows-1.db")
    (tmp_path / "theirs.txt").write_text("stays")
    hold_windows_of(tmp_path, "b-windows-changelog", "id-2")
    assert held(tmp_path) == []
    assert (tmp_path / "theirs.txt").read_text() == "stays"
    (said,) = caplog.messages
    assert said.startswith(f"{tmp_path} holds windows of another changelog than b-windows-changelog is now")
    disk_with(tmp_path, "windows-0.db")
    hold_windows_of(tmp_path, "b-windows-changelog", "id-2")
    assert held(tmp_path) == ["windows-0.db"]


def test_emptying_that_was_cut_off_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hold_windows_of(tmp_path, "topic", "id-1")
    disk_with(tmp_path, "windows-0.db", "windows-1.db")
    with monkeypatch.context() as context:
        context.setattr("stream.windows.disk.shutil.rmtree", fails)
        with pytest.raises(SettingsError, match=r"TWINTIDE_DATA_DIR: .* cannot be read or written"):
            hold_windows_of(tmp_path, "topic", "id-2")
    hold_windows_of(tmp_path, "topic", "id-2")
    assert held(tmp_path) == []


def fails(path: Path) -> None:
    raise OSError(30, "Read-only file system", str(path))


def test_disk_of_before_this_was_written_down_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    disk_with(tmp_path, "windows-0.db")
    hold_windows_of(tmp_path, "topic", "id-1")
    assert held(tmp_path) == ["windows-0.db"]
    hold_windows_of(tmp_path, "topic", "id-2")
    assert held(tmp_path) == []


def test_disk_that_another_worker_uses_is_left_to_it(tmp_path: Path) -> None:
    hold_windows_of(tmp_path, "a-windows-changelog", "id-1")
    database = tmp_path / "windows-0.db"
    disk_with(tmp_path, "windows-1.db")
    program = (
        "import sys, rocksdict; database = rocksdict.Rdict(sys.argv[1]); print('open', flush=True); input()"
    )
    command = [sys.executable, "-c", program, str(database)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None and other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(SettingsError, match=r"windows-0\.db is another worker's, who runs"):
            hold_windows_of(tmp_path, "b-windows-changelog", "id-2")
        assert held(tmp_path) == ["windows-0.db", "windows-1.db"]
        other.stdin.write("\n")
    hold_windows_of(tmp_path, "b-windows-changelog", "id-2")
    assert held(tmp_path) == []
