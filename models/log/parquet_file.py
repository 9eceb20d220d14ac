"""A Parquet file's rows as Arrow columns, found by name, whatever types they have."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet

from models.errors import DataError
from models.log.content import DAMAGED
from models.log.file_rows import CODED, FileRows, columns_of, file_rows
from models.log.files import LogFile, unreadable
from models.log.format import LogFormat
from models.log.places import ROW

#: Rows that are decoded at a time.
BATCH_ROWS = 1 << 18


def read_parquet(file: LogFile, log_format: LogFormat, progress: Callable[[int], object]) -> FileRows:
    """Return the rows of a Parquet file; DataError where it cannot be read."""
    try:
        with file.open() as stream:
            # Spark's old timestamps have nanoseconds, which end in 2262: a year 9999 would come out as 1816.
            parquet = pyarrow.parquet.ParquetFile(stream, coerce_int96_timestamp_unit="ms")
            names = columns_of(file, names_of(parquet), log_format)
            columns = _columns_of(file, parquet, names, log_format, progress)
    except DAMAGED as error:
        raise unreadable(file.name, error) from error
    line = np.arange(1, parquet.metadata.num_rows + 1, dtype=np.int64)
    return file_rows(file, log_format, columns, line, len(line), unit=ROW)


def names_of(parquet: Any) -> list[str]:
    """Return the names of a file's columns, and of what lies in them, with dots between."""
    names: list[str] = parquet.schema_arrow.names
    return names + [name for name in _types_of(parquet.schema_arrow) if name not in names]


def _columns_of(
    file: LogFile, parquet: Any, names: list[str], log_format: LogFormat, progress: Callable[[int], object]
) -> dict[str, Any]:
    """Return the columns of a file, by name: times as they are, all others CODED."""
    found: dict[str, list[Any]] = {name: [] for name in names}
    rows = 0
    for batch in parquet.iter_batches(BATCH_ROWS, columns=names):
        for name in names:
            column = _column_at(batch, name)
            found[name].append(column if name == log_format.time_column else _coded(file, name, column))
        rows += len(batch)
        progress(file.size * rows // parquet.metadata.num_rows)
    types = {name: CODED for name in names}
    types[log_format.time_column] = _types_of(parquet.schema_arrow)[log_format.time_column]
    return {name: pa.chunked_array(chunks, types[name]) for name, chunks in found.items()}


def _types_of(fields: Any, before: str = "") -> dict[str, Any]:
    """Return the types of a file's columns, and of what lies in them under their names with dots between."""
    found = {}
    for field in fields:
        found[before + field.name] = field.type
        if pa.types.is_struct(field.type):
            found |= _types_of(field.type, f"{before}{field.name}.")
    return found


def _column_at(batch: Any, name: str) -> Any:
    """Return the column of this name, which may lie in another."""
    if name in batch.schema.names:
        return batch.column(name)
    outer = max((each for each in batch.schema.names if name.startswith(f"{each}.")), key=len)
    return pa.compute.struct_field(batch.column(outer), name.removeprefix(f"{outer}.").split("."))


def _coded(file: LogFile, name: str, column: Any) -> Any:
    """Return a column of any type as CODED; what is null is empty."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
    try:
        stored = column.storage if isinstance(kind, pa.BaseExtensionType) else column
        encoded = stored.dictionary_encode(null_encoding="encode")
        texts = _texts(kind, encoded.dictionary).fill_null(b"").dictionary_encode()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"{file.name}: {name} is of type {kind}; it must be texts or numbers") from error
    codes = texts.indices.take(encoded.indices)  # two values that are one text share a code
    return pa.DictionaryArray.from_arrays(codes, texts.dictionary)


def _texts(kind: Any, values: Any) -> Any:
    """Return the bytes of the texts of values of a type."""
    if isinstance(kind, pa.BaseExtensionType):  # a UUID
        found = pa.ExtensionArray.from_storage(kind, values).to_pylist()
        return pa.array([None if value is None else str(value).encode() for value in found], pa.binary())
    if pa.types.is_floating(values.type):
        return pa.array([_number(value) for value in values.to_pylist()], pa.binary())
    if pa.types.is_binary(values.type) or pa.types.is_fixed_size_binary(values.type):
        return values.cast(pa.binary())
    return values.cast(pa.string()).cast(pa.binary())


def _number(value: float | None) -> bytes | None:
    """Return a float as it is written; a whole one has no point: integers with gaps are stored so."""
    if value is None or value != value:
        return None
    return str(int(value) if value.is_integer() else value).encode()
