"""The item side that is given: a Parquet file of `item_id`, `vec` and, where there are, `category`."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet

from models.arrays import Floats
from models.errors import DataError


def read_items(file: Path) -> tuple[dict[str, str], Floats]:
    """Return item id -> category (empty for none) and the vectors (I, D), in the order of the file.

    It is what `offline.export --to parquet` writes. Raises DataError where it cannot be used.
    """
    table = _table(file)
    ids = [str(each) for each in table["item_id"].to_pylist()]
    (often, count), *_ = Counter(ids).most_common(1)
    if count > 1:
        raise DataError(f"{file}: item {often!r} is there {count} times")
    categories = table["category"].to_pylist() if "category" in table.column_names else [None] * len(ids)
    vectors = _vectors(file, ids, table["vec"].combine_chunks())
    return {each: "" if of is None else str(of) for each, of in zip(ids, categories, strict=True)}, vectors


def _table(file: Path) -> pa.Table:
    try:
        table = pyarrow.parquet.read_table(file)
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{file} cannot be read as Parquet ({reason})") from error
    for name in ("item_id", "vec"):
        if name not in table.column_names:
            raise DataError(f"{file} has no column {name}, only {', '.join(table.column_names)}")
        if table[name].null_count or not len(table):
            raise DataError(f"{file}: column {name} has {table[name].null_count} nulls in {len(table)} rows")
    return table


def _vectors(file: Path, ids: list[str], column: pa.Array) -> Floats:
    """Return the column's vectors (I, D)."""
    kinds = pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list
    if not any(is_kind(column.type) for is_kind in kinds):
        raise DataError(f"{file}: column vec is of type {column.type}; it must be lists of numbers")
    lengths = np.asarray(pa.compute.list_value_length(column))
    odd = np.flatnonzero(lengths != lengths[0])
    if len(odd):
        raise DataError(
            f"{file}: item {ids[0]!r} has {lengths[0]} dimensions, item {ids[odd[0]]!r} {lengths[odd[0]]}"
        )
    values = column.flatten()
    if not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)) or not lengths[0]:
        raise DataError(f"{file}: column vec is of type {column.type}; it must be lists of numbers")
    vectors: Floats = np.array(values.to_numpy(zero_copy_only=False), np.float32).reshape(len(ids), -1)
    wrong = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(wrong):
        raise DataError(f"{file}: the vector of item {ids[wrong[0]]!r} holds NaN or inf")
    return vectors
