"""A worker's disk: it holds windows of one changelog, and is emptied where that is another one by now.

RocksDB says up to which offset of the changelog it is. Beside another changelog, that of another deployment
or one that was deleted and made again, that says nothing: what the new one has before that offset would never
be read, and windows that it does not have would stay.
"""

import fcntl
import logging
import shutil
from pathlib import Path

from models.errors import SettingsError

logger = logging.getLogger(__name__)

#: The file that holds the id of the changelog, and what the databases of its partitions are called.
CHANGELOG, DATABASES = "changelog", "*.db"


def hold_windows_of(tables: Path, topic: str, topic_id: str) -> None:
    """Have a directory of databases hold windows of no other changelog than this topic as it is now.

    What is there without a word of whose it is, as of before this was written down, is taken for this one's.
    Raises SettingsError where nothing can be written there, or what would go is another worker's, who runs.
    """
    file = tables / CHANGELOG
    try:
        held = file.read_text() if file.exists() else topic_id
        if held != topic_id:
            logger.warning(
                "%s holds windows of another changelog than %s is now: they go, and are restored from it",
                *(tables, topic),
            )
            databases = list(tables.glob(DATABASES))
            for database in databases:
                _refuse_used(database)
            for database in databases:
                shutil.rmtree(database)
        tables.mkdir(parents=True, exist_ok=True)
        part = tables / f".{CHANGELOG}"
        part.write_text(topic_id)
        part.replace(file)
    except OSError as error:
        raise SettingsError(
            f"TWINTIDE_DATA_DIR: {error.filename or tables} cannot be read or written ({error.strerror})"
        ) from error


def _refuse_used(database: Path) -> None:
    """Raise SettingsError where a process has a database open: RocksDB holds a lock on a file in it."""
    try:
        with (database / "LOCK").open("r+") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return
    except BlockingIOError as error:
        raise SettingsError(
            f"TWINTIDE_DATA_DIR: {database} is another worker's, who runs, with another changelog: give each "
            "worker a directory of its own"
        ) from error
