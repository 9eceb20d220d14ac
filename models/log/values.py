"""The columns of a behaviour log's file as values: what its behaviours mean, and when things happened."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from models.events import Behaviour
from models.log.bad_rows import BadRows
from models.log.format import LogFormat

SECOND_MS = 1_000
#: In place of a behaviour: the row is left out.
SKIPPED = 0
#: Lengths of `YYYY-MM-DD HH`, with minutes, with seconds.
TIME_LENGTHS = (13, 16, 19)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of R strings, each distinct string held once."""

    #: (R,) index into `values`.
    codes: NDArray[np.int32]
    #: The distinct strings of the file, in the order of their first row; `select` keeps them all.
    values: NDArray[np.object_]

    def strings(self) -> NDArray[np.object_]:
        """Return the R strings themselves."""
        strings: NDArray[np.object_] = self.values[self.codes]
        return strings


def behaviours_of(column: Column, log_format: LogFormat, bad: BadRows) -> NDArray[np.uint8]:
    """Return the behaviours (R,), SKIPPED where the format says so; a text without meaning is bad."""
    if not log_format.behaviour:
        return np.full(len(column.codes), Behaviour.VIEW, dtype=np.uint8)
    meaning = log_format.behaviours
    unknown = [code for code, text in enumerate(column.values) if text not in meaning]
    if unknown:
        known = ", ".join(
            f"{text} ({name.name.lower() if name else 'skipped'})" for text, name in meaning.items()
        )
        bad.add(
            np.flatnonzero(np.isin(column.codes, unknown)),
            lambda row: (
                f"{log_format.behaviour} is {column.values[column.codes[row]]!r}; it must be one of {known}"
            ),
        )
    by_code = np.array([meaning.get(text) or SKIPPED for text in column.values], dtype=np.uint8)
    return by_code[column.codes]


def times_of(texts: Any, log_format: LogFormat, bad: BadRows) -> NDArray[np.int64]:
    """Return the times (R,) of a column of texts, epoch ms; 0 where one cannot be read: bad."""
    is_text = log_format.time_unit == "text"
    kind = pa.timestamp("ms") if is_text else pa.int64()
    is_wrong = _has_other_length(texts) if is_text else np.zeros(len(texts), dtype=np.bool_)
    if is_wrong.any() or not _is_castable(texts, kind):
        expected = f"a whole number of {log_format.time_unit} since 1970"
        if is_text:
            expected = "YYYY-MM-DD HH, with :MM and :SS where known"
        is_wrong[list(_uncastable(texts, kind, 0))] = True
        reason = f"{log_format.time} is {{!r}}; it must be {expected}"
        bad.add(np.flatnonzero(is_wrong), lambda row: reason.format(texts[row].as_py()))
        texts = pa.chunked_array([pyarrow.compute.if_else(~is_wrong, texts.combine_chunks(), None)])
    numbers = texts.cast(kind).cast(pa.int64()).fill_null(0)
    times = np.concatenate([np.from_dlpack(chunk) for chunk in numbers.chunks])
    return times * (1 if log_format.time_unit == "milliseconds" or is_text else SECOND_MS)


def _has_other_length(texts: Any) -> NDArray[np.bool_]:
    lengths = [np.from_dlpack(pyarrow.compute.binary_length(chunk)) for chunk in texts.chunks]
    return ~np.isin(np.concatenate(lengths), TIME_LENGTHS)


def _uncastable(texts: Any, kind: Any, first: int) -> Iterator[int]:
    """Yield the rows, counted from `first`, that cannot be cast, by halving what cannot."""
    if _is_castable(texts, kind):
        return
    if len(texts) == 1:
        yield first
        return
    half = len(texts) // 2
    yield from _uncastable(texts.slice(0, half), kind, first)
    yield from _uncastable(texts.slice(half), kind, first + half)


def _is_castable(texts: Any, kind: Any) -> bool:
    try:
        texts.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True
