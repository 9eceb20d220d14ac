"""A behaviour log as it was read once, kept under the hash of the file: the next time takes seconds."""

import logging
import os
import zipfile
import zlib
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from models.log.behaviour_log import BLOCK_BYTES, BehaviourLog, read_behaviour_log
from models.log.format import TIANCHI, LogFormat
from models.log.values import Column

logger = logging.getLogger(__name__)

#: Part of every key; raise it when what is read from a file, or the layout of the cache, changes.
CACHE_FORMAT = 1
#: Smaller files are read as fast as their cache would be (bytes).
MIN_BYTES = 32 << 20
#: Logs that a cache keeps, those used last.
KEPT = 4

#: What reading a damaged entry may raise.
UNUSABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, pa.ArrowException)

COLUMNS = ("user", "item", "category", "geohash")
ARRAYS = ("behaviour", "time_ms", "line")
NUMBERS = ("precision_ms", "bad_rows")


def default_directory() -> Path:
    """Return where logs are kept unless told otherwise: twintide/ in the user's cache directory."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "twintide"


def read_cached(path: Path, log_format: LogFormat = TIANCHI, directory: Path | None = None) -> BehaviourLog:
    """Return what `read_behaviour_log` does, from the cache where it read this content in this format before.

    directory: the cache's; `default_directory()` where None. One that cannot be written, or an entry that is
    damaged, costs a warning and the time to read the file.
    """
    if not path.is_file() or path.stat().st_size < MIN_BYTES:
        return read_behaviour_log(path, log_format)
    directory = directory or default_directory()
    entry = directory / f"log-{_key(path, log_format)}.npz"
    log = _load(entry, path)
    if log is None:
        log = read_behaviour_log(path, log_format)
        _save(log, entry)
    return log


def _key(path: Path, log_format: LogFormat) -> str:
    digest = xxhash.xxh3_128(f"{CACHE_FORMAT} {log_format!r}".encode())
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _load(entry: Path, path: Path) -> BehaviourLog | None:
    """Return the log of an entry, None where there is none that can be used."""
    try:
        with entry.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            log = _from_arrays(stored, path)
        entry.touch()
    except FileNotFoundError:
        return None
    except UNUSABLE as error:
        logger.warning("%s is damaged (%s): reading %s itself", entry, error, path)
        return None
    logger.info("%s: %d rows from %s", path, len(log), entry)
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
        offsets, text = _joined(column.values)
        arrays |= {f"{name}.codes": column.codes, f"{name}.offsets": offsets, f"{name}.text": text}
    return {"fingerprint": np.array(log.fingerprint), **arrays}


def _from_arrays(stored: Any, path: Path) -> BehaviourLog:
    values: dict[str, Any] = {name: stored[name] for name in ARRAYS}
    values |= {name: int(stored[name]) for name in NUMBERS}
    for name in COLUMNS:
        strings = _parted(stored[f"{name}.offsets"], stored[f"{name}.text"])
        values[name] = Column(stored[f"{name}.codes"], strings)
    return BehaviourLog(path=path, fingerprint=str(stored["fingerprint"]), **values)


def _joined(values: NDArray[np.object_]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Return where each string begins, and ends, in the bytes of all of them."""
    texts = pa.array(values, pa.large_string())
    _, offsets, text = texts.buffers()
    ends = np.frombuffer(offsets, np.int64, len(values) + 1)
    return ends, np.frombuffer(text, np.uint8, int(ends[-1])) if text else np.zeros(0, np.uint8)


def _parted(offsets: NDArray[np.int64], text: NDArray[np.uint8]) -> NDArray[np.object_]:
    """Return the strings that `_joined` joined."""
    buffers = [pa.py_buffer(offsets), pa.py_buffer(text)]
    texts = pa.LargeStringArray.from_buffers(len(offsets) - 1, *buffers)
    texts.validate(full=True)
    values: NDArray[np.object_] = np.array(texts.to_pylist(), dtype=object)
    return values
