"""The columns of a behaviour log as values: its texts, its ids, and what its behaviours mean."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.events import Behaviour
from models.log.bad_rows import BadRows
from models.log.format import LogFormat
from models.log.sources import Source, name_of

#: An id that became a float on its way, as pandas makes them of columns with gaps.
WHOLE_ID = re.compile(r"([0-9]+)\.0")
#: In place of a behaviour: the row is left out.
SKIPPED = 0


@dataclass(frozen=True, slots=True)
class Column:
    """One column of R strings, each distinct string held once."""

    #: (R,) index into `values`.
    codes: NDArray[np.int32]
    #: The distinct strings of the log, in the order of their first row; `select` keeps them all.
    values: NDArray[np.object_]

    def strings(self) -> NDArray[np.object_]:
        """Return the R strings themselves."""
        strings: NDArray[np.object_] = self.values[self.codes]
        return strings

    def joined_values(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Return where each of `values` begins, and ends, in the bytes of all of them."""
        texts = pa.array(self.values, pa.large_string())
        _, offsets, text = texts.buffers()
        ends = np.frombuffer(offsets, np.int64, len(self.values) + 1)
        return ends, np.frombuffer(text, np.uint8, int(ends[-1])) if text else np.zeros(0, np.uint8)


def column_of(table: Any, source: Source, bad: BadRows) -> Column:
    """Return what a source gives in each row of a table of coded bytes; "" where it is missing."""
    if source.is_path:
        return _column_at(table, source.label, bad)
    texts = {
        path: pa.array(_column_at(table, name_of(path), bad).strings(), pa.string()) for path in source.paths
    }
    encoded = source.column(texts, len(bad.line)).dictionary_encode()
    codes = np.asarray(np.from_dlpack(encoded.indices), np.int32)
    return Column(codes, np.array(encoded.dictionary.to_pylist(), dtype=object))


def _column_at(table: Any, name: str, bad: BadRows) -> Column:
    """Return a column of coded bytes as strings."""
    chunks = table.column(name).chunks
    codes = np.concatenate([np.from_dlpack(chunk.indices) for chunk in chunks])
    texts = chunks[0].dictionary
    try:
        return Column(codes, np.array(texts.cast(pa.string()).to_pylist(), dtype=object))
    except pa.ArrowInvalid:
        return _decoded(Column(codes, np.array(texts.to_pylist(), dtype=object)), name, bad)


def _decoded(column: Column, name: str, bad: BadRows) -> Column:
    """Return a column of bytes as one of strings; rows with bytes that are not UTF-8 are bad."""
    decoded = np.array([each.decode(errors="replace") for each in column.values], dtype=object)
    wrong = [code for code, text in enumerate(decoded) if text.encode() != column.values[code]]
    bad.add(
        np.flatnonzero(np.isin(column.codes, wrong)),
        lambda row: f"{name} is not UTF-8 text: {column.values[column.codes[row]]!r}; save the file as UTF-8",
    )
    return Column(column.codes, decoded)


def id_column_of(table: Any, source: Source, bad: BadRows, *, are_whole: bool) -> Column:
    """Return a column in which no row may be empty; are_whole: ids such as 266079.0 mean 266079."""
    column = column_of(table, source, bad)
    empty = np.flatnonzero(column.values == "")
    if len(empty):
        rows = np.flatnonzero(column.codes == empty[0])
        bad.add(rows, lambda _: f"{source.label} is empty; every row needs one")
    return _as_whole(column) if are_whole else column


def _as_whole(column: Column) -> Column:
    """Return the column with ids such as 266079.0 as 266079; two that become one share a code."""
    place: dict[str, int] = {}
    whole = (whole_id(text) for text in column.values)
    moved = np.array([place.setdefault(text, len(place)) for text in whole], dtype=np.int32)
    return Column(moved[column.codes], np.array(list(place), dtype=object))


def whole_id(text: str) -> str:
    """Return an id such as 266079.0 as 266079."""
    return text[:-2] if WHOLE_ID.fullmatch(text) else text


def behaviours_of(column: Column, log_format: LogFormat, bad: BadRows) -> NDArray[np.uint8]:
    """Return the behaviours (R,), SKIPPED where the format says so; a text without meaning is bad."""
    label = log_format.source("behaviour").label
    if not label:
        return np.full(len(column.codes), Behaviour.VIEW, dtype=np.uint8)
    meaning = log_format.behaviours
    unknown = [code for code, text in enumerate(column.values) if text not in meaning]
    if unknown:
        known = ", ".join(
            f"{text} ({name.name.lower() if name else 'skipped'})" for text, name in meaning.items()
        )
        bad.add(
            np.flatnonzero(np.isin(column.codes, unknown)),
            lambda row: f"{label} is {column.values[column.codes[row]]!r}; it must be one of {known}",
        )
    by_code = np.array([meaning.get(text) or SKIPPED for text in column.values], dtype=np.uint8)
    return by_code[column.codes]
