"""A behaviour log as a folder of files, a column each, that is written in parts and mapped into memory.

So a log may be larger than memory: its rows are never all there at once, only its distinct texts are.
"""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from models.log.behaviour_log import BehaviourLog, fingerprint_of
from models.log.files import LogFile
from models.log.mapped import map_array
from models.log.places import Places
from models.log.values import Column

TEXTS = ("user", "item", "category", "geohash")
NUMBERS: dict[str, np.dtype[Any]] = {
    "behaviour": np.dtype(np.uint8),
    "time_ms": np.dtype(np.int64),
    "line": np.dtype(np.int64),
}
CODES, OFFSETS, BYTES = np.dtype(np.int32), np.dtype(np.int64), np.dtype(np.uint8)
FILES = [*NUMBERS, *(f"{name}.{part}" for name in TEXTS for part in ("codes", "offsets", "text"))]
CODED = pa.dictionary(pa.int32(), pa.large_string())

#: What a folder holds beside the columns, and the bytes of a file that are hashed at a time.
SUMMARY, BLOCK_BYTES = "summary.json", 1 << 23


class LogWriter:
    """Writes a log part by part into an empty folder; use it in a `with`, and `finish` it there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open = ExitStack()
        self.precision_ms = 0

    def __enter__(self) -> "LogWriter":
        self._numbers = {name: self._file(name) for name in NUMBERS}
        self._texts = {}
        for name in TEXTS:
            stream = pa.ipc.new_stream(self._file(f"{name}.parts"), pa.schema({name: CODED}))
            self._texts[name] = self._open.enter_context(stream)
        return self

    def __exit__(self, *_error: object) -> None:
        self._open.close()

    def add(self, part: BehaviourLog) -> None:
        """Write the next rows."""
        self.precision_ms = min(self.precision_ms or part.precision_ms, part.precision_ms)
        for name, file in self._numbers.items():
            np.ascontiguousarray(getattr(part, name)).tofile(file)
        for name, stream in self._texts.items():
            column: Column = getattr(part, name)
            coded = pa.DictionaryArray.from_arrays(
                pa.array(column.codes), pa.array(column.values, pa.large_string())
            )
            stream.write_batch(pa.record_batch([coded], [name]))

    def finish(self, bad_rows: int, places: Places) -> None:
        """Give texts one code in all parts, and write what is known of the log only now."""
        self._open.close()
        for name in TEXTS:
            self._unify(name)
        summary = {
            "bad_rows": bad_rows,
            "precision_ms": self.precision_ms,
            "before": places.before,
            "units": places.units,
            "fingerprint": "",
        }
        log = _log_of(self._folder, summary, "", [])
        summary["fingerprint"] = fingerprint_of(log)
        summary["hashes"] = _hashes(self._folder)
        (self._folder / SUMMARY).write_text(json.dumps(summary))

    def _file(self, name: str) -> BinaryIO:
        return self._open.enter_context((self._folder / name).open("wb"))

    def _unify(self, name: str) -> None:
        """Write a column's codes and texts; texts come in the order of their first row."""
        parts = self._folder / f"{name}.parts"
        with pa.memory_map(str(parts)) as stream:
            column = pa.ipc.open_stream(stream).read_all().column(name).unify_dictionaries()
            with (self._folder / f"{name}.codes").open("wb") as file:
                for chunk in column.chunks:
                    np.asarray(np.from_dlpack(chunk.indices)).tofile(file)
            values = column.chunks[0].dictionary.to_pylist()
        parts.unlink()
        texts = Column(np.zeros(0, np.int32), np.array(values, dtype=object))
        offsets, text = texts.joined_values()
        offsets.tofile(self._folder / f"{name}.offsets")
        text.tofile(self._folder / f"{name}.text")


def read_stored(folder: Path, name: str, files: Sequence[LogFile]) -> BehaviourLog:
    """Return the log of a folder that a writer finished, its columns mapped; ValueError if damaged."""
    summary = json.loads((folder / SUMMARY).read_text())
    if _hashes(folder) != summary["hashes"]:
        raise ValueError("its files are not those that were written")
    return _log_of(folder, summary, name, files)


def _log_of(folder: Path, summary: dict[str, Any], name: str, files: Sequence[LogFile]) -> BehaviourLog:
    columns: dict[str, Any] = {name: map_array(folder / name, kind) for name, kind in NUMBERS.items()}
    for column in TEXTS:
        columns[column] = Column(map_array(folder / f"{column}.codes", CODES), _strings(folder, column))
    before, units = tuple(summary["before"]), tuple(summary["units"])
    return BehaviourLog(
        path=name,
        fingerprint=summary["fingerprint"],
        precision_ms=summary["precision_ms"],
        bad_rows=summary["bad_rows"],
        places=Places(tuple(file.name for file in files), before, units),
        **columns,
    )


def _strings(folder: Path, name: str) -> NDArray[np.object_]:
    """Return the distinct strings of a column, which `Column.joined_values` joined."""
    offsets = map_array(folder / f"{name}.offsets", OFFSETS)
    text = map_array(folder / f"{name}.text", BYTES)
    texts = pa.LargeStringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(text))
    texts.validate(full=True)
    values: NDArray[np.object_] = np.array(texts.to_pylist(), dtype=object)
    return values


def _hashes(folder: Path) -> dict[str, str]:
    return {name: _hash(folder / name) for name in FILES}


def _hash(path: Path) -> str:
    digest = xxhash.xxh3_64()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
