"""The rows of one file of a log as Arrow columns, the same whatever the file was."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.errors import DataError
from models.log.bad_rows import SHOWN
from models.log.files import LogFile
from models.log.format import LogFormat
from models.log.places import LINE

#: Every column but the time: an index into distinct bytes, of which nobody has said yet that they are UTF-8.
CODED = pa.dictionary(pa.int32(), pa.binary())


@dataclass(slots=True)
class BrokenLines:
    """Lines that are no rows: how many, and what is wrong with the first of them, by line."""

    count: int = 0
    reasons: dict[int, str] = field(default_factory=dict)

    def add(self, line: int, reason: str) -> None:
        """Note a line."""
        self.count += 1
        if self.count <= SHOWN:
            self.reasons[line] = reason


@dataclass(frozen=True, slots=True)
class FileRows:
    """R rows of a file."""

    #: The columns that the format names, but for the time: CODED (R,).
    coded: Any
    #: (R,) texts, numbers or timestamps: what the file has.
    time: Any
    #: (R,) line in the file; the header is line 1. In Parquet, the row, from 1 on.
    line: NDArray[np.int64]
    #: Lines of the file, with those that are no rows.
    line_count: int
    broken: BrokenLines = field(default_factory=BrokenLines)
    #: What `line` counts, LINE or ROW.
    unit: str = LINE


def columns_of(file: LogFile, names: list[str], log_format: LogFormat) -> list[str]:
    """Return which of the format's columns are in a file of these columns; the others are in its path.

    Raises DataError where one is neither here nor there, or twice.
    """
    if log_format.each:
        raise DataError(f"{file.name}: the format has each, which is of JSON alone: leave it out")
    shown = ",".join(names)[:200]
    twice = sorted({name for name in log_format.columns if names.count(name) > 1})
    if twice:
        raise DataError(f"{file.name}: it has {', '.join(twice)} more than once: {shown!r}; rename one")
    missing = [name for name in log_format.columns if name not in names and name not in file.partitions]
    if missing:
        found = repr(shown) if "\ufffd" not in shown else "what is not UTF-8 text"
        raise DataError(
            f"{file.name}: it lacks {', '.join(missing)}; found {found}, expected "
            f"{','.join(log_format.columns)}; what a log calls its columns is said by --format"
        )
    return [name for name in log_format.columns if name in names]


def file_rows(
    file: LogFile,
    log_format: LogFormat,
    columns: dict[str, Any],
    line: NDArray[np.int64],
    line_count: int,
    broken: BrokenLines | None = None,
    unit: str = LINE,
) -> FileRows:
    """Return the rows of a file with these columns, by name, and with those that its path has instead."""
    codes = pa.array(np.zeros(len(line), dtype=np.int32))
    values = {
        name: pa.array([file.partitions[name].encode()]) for name in log_format.columns if name not in columns
    }
    constant = {name: pa.DictionaryArray.from_arrays(codes, value) for name, value in values.items()}
    columns = columns | {name: pa.chunked_array([array], CODED) for name, array in constant.items()}
    time = columns.pop(log_format.time_column)
    return FileRows(pa.table(columns), time, line, line_count, broken or BrokenLines(), unit)
