"""A behaviour log as it was read once, kept under the hash of its files: the next time takes seconds."""

import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import xxhash

from models.cache_directory import default_directory
from models.log.behaviour_log import BehaviourLog, read_behaviour_log
from models.log.files import LogFile, LogPath, find_files, name_of
from models.log.format import TIANCHI, LogFormat
from models.log.parts import read_in_parts
from models.log.stored_log import LogWriter, read_stored

logger = logging.getLogger(__name__)

#: Part of every key; raise it when what is read from a file, or the layout of the cache, changes.
CACHE_FORMAT = 3
#: Bytes that are hashed at a time.
BLOCK_BYTES = 1 << 23
#: Smaller logs are read as fast as their cache would be (bytes).
MIN_BYTES = 32 << 20
#: Logs that a cache keeps, those used last.
KEPT = 4

#: Larger ones are never in memory as a whole (bytes).
MAX_WHOLE_BYTES = 128 << 20

#: What reading a damaged entry may raise.
UNUSABLE = (OSError, ValueError, KeyError, TypeError, pa.ArrowException)


def read_cached(
    paths: LogPath | Sequence[LogPath], log_format: LogFormat = TIANCHI, directory: Path | None = None
) -> BehaviourLog:
    """Return what `read_behaviour_log` does, from the cache where it read this content in this format before.

    Of a large log it is read in parts, and its rows stay in the cache's files. directory: the cache's;
    `default_directory()` where None. One that cannot be written, or an entry that is damaged, costs a warning
    and the time, and the memory, to read the files.
    """
    files = find_files(paths)
    size = sum(file.size for file in files)
    if size < MIN_BYTES:
        return read_behaviour_log(paths, log_format)
    directory = directory or default_directory()
    entry = directory / f"log-{_key(files, log_format)}"
    log = _load(entry, name_of(paths), files)
    if log is None and size >= MAX_WHOLE_BYTES:
        _save(lambda folder: _write_in_parts(folder, paths, log_format), entry)
        log = _load(entry, name_of(paths), files)
    if log is None:
        log = whole = read_behaviour_log(paths, log_format)
        _save(lambda folder: _write_whole(folder, whole), entry)
    return log


def _key(files: Sequence[LogFile], log_format: LogFormat) -> str:
    """Return the hash of what is read: of each file its content, or where it is far away its version."""
    digest = xxhash.xxh3_128(f"{CACHE_FORMAT} {log_format!r}".encode())
    for file in files:
        digest.update(f"\0{file.size} {dict(file.partitions)!r}".encode())
        if not file.is_local:
            digest.update(f"\0{file.name} {file.written_ns}".encode())
            continue
        with file.open() as stream:
            while block := stream.read(BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()


def _load(entry: Path, name: str, files: Sequence[LogFile]) -> BehaviourLog | None:
    """Return the log of an entry, None where there is none that can be used."""
    if not entry.exists():
        return None
    try:
        log = read_stored(entry, name, files)
        entry.touch()
    except UNUSABLE as error:
        logger.warning("%s is damaged (%s): reading %s itself", entry, error, name)
        return None
    logger.info("%s: %d rows from %s", name, len(log), entry)
    return log


def _save(write: Callable[[Path], None], entry: Path) -> None:
    """Write an entry whole or not at all, and remove those that were not used for longest."""
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=entry.parent, prefix=".part-", ignore_cleanup_errors=True) as part:
            write(Path(part))
            shutil.rmtree(entry, ignore_errors=True)
            Path(part).rename(entry)
        by_age = sorted(entry.parent.glob("log-*"), key=lambda each: each.stat().st_mtime)
        for old in by_age[:-KEPT]:
            old.unlink() if old.is_file() else shutil.rmtree(old)
    except OSError as error:
        logger.warning("%s cannot be written (%s): the log will be read anew next time", entry, error)


def _write_whole(folder: Path, log: BehaviourLog) -> None:
    with LogWriter(folder) as writer:
        writer.add(log)
        writer.finish(log.bad_rows, log.places)


def _write_in_parts(folder: Path, paths: LogPath | Sequence[LogPath], log_format: LogFormat) -> None:
    parts = read_in_parts(paths, log_format)
    with LogWriter(folder) as writer:
        while True:
            try:
                writer.add(next(parts))
            except StopIteration as end:
                return writer.finish(end.value.bad_rows, end.value.places)
