"""A log that may be too large for memory, sorted on the disk."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.errors import DataError, TwintideError
from models.log.behaviour_log import BehaviourLog, Column
from models.log.event_ids import EventIds
from models.log.files import name_of
from models.log.format import LogFormat
from models.log.parts import read_in_parts
from replay import ordered_log
from replay.ordered_log import Chunk
from replay.selection import Selection, no_rows
from replay.timeline import Timeline, timeline_of

TEXTS = ("user", "item", "category", "geohash")
NUMBERS = {"behaviour": pa.uint8(), "time_ms": pa.int64(), "line": pa.int64()}
SCHEMA = pa.schema({name: pa.string() for name in TEXTS} | NUMBERS)

#: What sorting may hold in memory; beyond that it uses the disk.
SORT_MEMORY = "512MB"
#: Rows of a batch on the disk.
BATCH_ROWS = 1 << 16


class LogOnDisk:
    """The chosen rows of a log in time order, in a temporary file that is removed on exit."""

    def __init__(self, paths: Sequence[str], log_format: LogFormat, selection: Selection) -> None:
        self.name = name_of(paths)
        self._directory = tempfile.TemporaryDirectory(prefix="twintide-replay-")
        self._file = Path(self._directory.name) / "sorted.arrow"
        try:
            self.timeline = self._sorted(_ChosenRows(paths, log_format, selection), selection.limit)
        except BaseException:
            self._directory.cleanup()
            raise

    def __enter__(self) -> "LogOnDisk":
        return self

    def __exit__(self, *_error: object) -> None:
        self._directory.cleanup()

    def chunks(self) -> Iterator[Chunk]:
        """Yield all rows; no two chunks have rows of the same unit of time."""
        position = 0
        for table in self._tables():
            log = self._log_of(table)
            yield Chunk(log, EventIds(log), 0, len(log), position)
            position += len(log)

    def _sorted(self, rows: "_ChosenRows", limit: int | None) -> Timeline:
        """Write the rows to the file, by time and then by line, and return their timeline."""
        try:
            with closing(duckdb.connect()) as database:
                database.execute(f"SET memory_limit = '{SORT_MEMORY}'")
                database.execute("SET temp_directory = ?", [self._directory.name])
                found = database.from_arrow(pa.RecordBatchReader.from_batches(SCHEMA, rows.batches()))
                if limit is not None:
                    found = found.order("time_ms, line").limit(limit)
                ordered = iter(found.order("time_ms, line").to_arrow_reader(BATCH_ROWS))
                first = next(ordered)  # by then all rows have been read
                return timeline_of(rows.precision_ms, self._written(chain([first], ordered)))
        except (duckdb.Error, OSError, pa.ArrowException) as error:
            raise rows.error or _unsortable(self.name, self._directory.name, error) from error

    def _written(self, batches: Iterable[Any]) -> Iterator[NDArray[np.int64]]:
        """Write batches to the file; yield the times of each."""
        with pa.ipc.new_file(self._file, SCHEMA) as file:
            for batch in batches:
                file.write_batch(batch)
                yield batch.column("time_ms").to_numpy()

    def _tables(self) -> Iterator[Any]:
        """Yield the rows in tables of whole units of time."""
        with pa.OSFile(str(self._file)) as file:
            reader = pa.ipc.open_file(file)
            rest = SCHEMA.empty_table()
            for number in range(reader.num_record_batches):
                rest = pa.concat_tables([rest, pa.Table.from_batches([reader.get_batch(number)])])
                if len(rest) < ordered_log.CHUNK_ROWS:
                    continue
                units = self.timeline.units(rest.column("time_ms").to_numpy())
                if end := int(np.searchsorted(units, units[-1])):
                    yield rest.slice(0, end)
                    rest = rest.slice(end)
            if len(rest):
                yield rest

    def _log_of(self, table: Any) -> BehaviourLog:
        columns: dict[str, Any] = {name: _column(table.column(name)) for name in TEXTS}
        columns |= {name: table.column(name).to_numpy() for name in NUMBERS}
        return BehaviourLog(path=self.name, fingerprint="", precision_ms=self.timeline.unit_ms, **columns)


class _ChosenRows:
    """The rows of a log that are chosen, part by part, and what is known of them at the end."""

    def __init__(self, paths: Sequence[str], log_format: LogFormat, selection: Selection) -> None:
        self._paths, self._log_format, self._selection = paths, log_format, selection
        self.precision_ms = 0
        #: What went wrong with the log, in the midst of Arrow's and DuckDB's work.
        self.error: TwintideError | None = None

    def batches(self) -> Iterator[Any]:
        """Yield the rows as Arrow batches."""
        low_ms, high_ms, count = 2**63, -(2**63), 0
        try:
            for part in read_in_parts(self._paths, self._log_format):
                self.precision_ms = min(self.precision_ms or part.precision_ms, part.precision_ms)
                low_ms, high_ms = min(low_ms, int(part.time_ms.min())), max(high_ms, int(part.time_ms.max()))
                if len(chosen := self._selection.rows_of(part)):
                    count += len(chosen)
                    yield _batch(chosen)
            if not count:
                raise no_rows(name_of(self._paths), low_ms, high_ms)
        except TwintideError as error:
            self.error = error
            raise


def _batch(log: BehaviourLog) -> Any:
    texts = [_texts(getattr(log, name)) for name in TEXTS]
    numbers = [pa.array(getattr(log, name)) for name in NUMBERS]
    return pa.record_batch(texts + numbers, schema=SCHEMA)


def _texts(column: Column) -> Any:
    return pa.array(column.values, pa.string()).take(pa.array(column.codes))


def _column(texts: Any) -> Column:
    encoded = texts.combine_chunks().dictionary_encode()
    values = np.array(encoded.dictionary.to_pylist(), dtype=object)
    return Column(encoded.indices.to_numpy(), values)


def _unsortable(name: str, directory: str, error: Exception) -> DataError:
    reason = str(error).splitlines()[0]
    return DataError(
        f"{name}: cannot be sorted in {directory} ({reason}): give room there, or set TMPDIR to a directory "
        "with as much room as the log has twice"
    )
