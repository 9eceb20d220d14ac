"""A behaviour log as it was read once, kept under the hash of its files: the next time takes seconds."""

import logging
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from models.cache_directory import default_directory
from models.log.behaviour_log import BehaviourLog, read_behaviour_log
from models.log.files import LogFile, LogPath, find_files, name_of
from models.log.format import TIANCHI, LogFormat
from models.log.places import Places
from models.log.values import Column

logger = logging.getLogger(__name__)

#: Part of every key; raise it when what is read from a file, or the layout of the cache, changes.
CACHE_FORMAT = 2
#: Bytes that are hashed at a time.
BLOCK_BYTES = 1 << 23
#: Smaller logs are read as fast as their cache would be (bytes).
MIN_BYTES = 32 << 20
#: Logs that a cache keeps, those used last.
KEPT = 4

#: What reading a damaged entry may raise.
UNUSABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, pa.ArrowException)

COLUMNS = ("user", "item", "category", "geohash")
ARRAYS = ("behaviour", "time_ms", "line")
NUMBERS = ("precision_ms", "bad_rows")


def read_cached(
    paths: LogPath | Sequence[LogPath], log_format: LogFormat = TIANCHI, directory: Path | None = None
) -> BehaviourLog:
    """Return what `read_behaviour_log` does, from the cache where it read this content in this format before.

    directory: the cache's; `default_directory()` where None. One that cannot be written, or an entry that is
    damaged, costs a warning and the time to read the files.
    """
    files = find_files(paths)
    if sum(file.size for file in files) < MIN_BYTES:
        return read_behaviour_log(paths, log_format)
    directory = directory or default_directory()
    entry = directory / f"log-{_key(files, log_format)}.npz"
    log = _load(entry, name_of(paths), files)
    if log is None:
        log = read_behaviour_log(paths, log_format)
        _save(log, entry)
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
    try:
        with entry.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            log = _from_arrays(stored, name, files)
        entry.touch()
    except FileNotFoundError:
        return None
    except UNUSABLE as error:
        logger.warning("%s is damaged (%s): reading %s itself", entry, error, name)
        return None
    logger.info("%s: %d rows from %s", name, len(log), entry)
    return log


def _save(log: BehaviourLog, entry: Path) -> None:
    """Write an entry whole or not at all, and remove those that were not used for longest."""
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=entry.parent, prefix=".part-", delete=False) as part:
            try:
                np.savez(part, **_to_arrays(log))
                part.close()
                Path(part.name).replace(entry)
            finally:
                Path(part.name).unlink(missing_ok=True)
        by_age = sorted(entry.parent.glob("log-*.npz"), key=lambda each: each.stat().st_mtime)
        for old in by_age[:-KEPT]:
            old.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("%s cannot be written (%s): the log will be read anew next time", entry, error)


def _to_arrays(log: BehaviourLog) -> dict[str, Any]:
    arrays = {name: getattr(log, name) for name in ARRAYS + NUMBERS}
    for name in COLUMNS:
        column: Column = getattr(log, name)
        offsets, text = column.joined_values()
        arrays |= {f"{name}.codes": column.codes, f"{name}.offsets": offsets, f"{name}.text": text}
    places = {"before": np.array(log.places.before), "units": np.array(log.places.units)}
    return {"fingerprint": np.array(log.fingerprint), **places, **arrays}


def _from_arrays(stored: Any, name: str, files: Sequence[LogFile]) -> BehaviourLog:
    values: dict[str, Any] = {name: stored[name] for name in ARRAYS}
    values |= {name: int(stored[name]) for name in NUMBERS}
    for column in COLUMNS:
        strings = _parted(stored[f"{column}.offsets"], stored[f"{column}.text"])
        values[column] = Column(stored[f"{column}.codes"], strings)
    before, units = (tuple(stored[name].tolist()) for name in ("before", "units"))
    places = Places(tuple(file.name for file in files), before, units)
    return BehaviourLog(path=name, fingerprint=str(stored["fingerprint"]), places=places, **values)


def _parted(offsets: NDArray[np.int64], text: NDArray[np.uint8]) -> NDArray[np.object_]:
    """Return the strings that `Column.joined_values` joined."""
    buffers = [pa.py_buffer(offsets), pa.py_buffer(text)]
    texts = pa.LargeStringArray.from_buffers(len(offsets) - 1, *buffers)
    texts.validate(full=True)
    values: NDArray[np.object_] = np.array(texts.to_pylist(), dtype=object)
    return values
