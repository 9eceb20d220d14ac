"""Values written with one Avro schema: read as columns by machine code (models/avro/)."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.arrays import Ints
from models.avro.kernels import Found, copy_texts, found_of, read_records
from models.avro.program import (
    IS_DAYS,
    IS_FLOAT,
    IS_MICROS,
    IS_MILLIS,
    IS_NANOS,
    IS_TEXT,
    IS_WHOLE,
    NOTHING,
    program_of,
)
from models.log.json_leaves import text_of
from models.log.sources import KeyPath
from models.log.times import each_time_of
from models.payloads import payloads_of
from stream.events.fields import Fields

#: Bytes of the registry's frame: 0, and the schema's id.
FRAME_BYTES = 5
#: How many of the units of a point in time are a millisecond, and how many of these a day.
_PER_MS = {IS_MILLIS: 1, IS_MICROS: 1_000, IS_NANOS: 1_000_000}
_DAY_MS = 86_400_000


class AvroReader:
    """Reads values of one schema."""

    def __init__(
        self,
        schema: str,
        named: Sequence[str],
        text_paths: Sequence[KeyPath],
        time_path: KeyPath,
        time_unit: str,
    ) -> None:
        """named: the schemas that the schema refers to. Raises Exception of any kind where it is none."""
        self._text_paths, self._time_unit = tuple(text_paths), time_unit
        wanted = (*self._text_paths, time_path)
        self._columns = len(wanted)
        self._program, self._texts, self._paths = program_of(schema, wanted, named)

    def fields(self, values: Sequence[bytes]) -> Fields:
        """Return what stands in the values."""
        text, found = self._read(values)
        texts = [_texts(text, found, slot) for slot in range(self._columns - 1)]
        refused = set(np.flatnonzero(found.is_bad).tolist()).union(*(bad for _, bad in texts))
        columns = dict(zip(self._text_paths, (column for column, _ in texts), strict=True))
        times_ms = _times_ms(text, found, self._columns - 1, self._time_unit)
        return Fields(columns, times_ms, dict.fromkeys(sorted(refused), "payload"))

    def paths_in(self, value: bytes) -> Sequence[str]:
        """Return the paths that there are in a value, as a format names them."""
        return self._paths

    def time_of(self, value: bytes) -> Any:
        """Return the time of a value as it is given, None where there is none."""
        text, found = self._read([value])
        slot = self._columns - 1
        match found.kind[0, slot]:
            case 0:
                return None
            case 1:
                return _texts(text, found, slot)[0][0].as_py()
            case 2:
                return int(found.number[0, slot])
            case 3:
                return float(found.real[0, slot])
        (time_ms,) = _times_ms(text, found, slot, self._time_unit).tolist()
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms)

    def _read(self, values: Sequence[bytes]) -> tuple[NDArray[np.uint8], Found]:
        """Return all bytes, those of the program's texts behind them, and what was found in them."""
        given = payloads_of(values)
        starts, ends = given.starts[:-1] + FRAME_BYTES, given.starts[1:].copy()
        text = np.concatenate((given.text, np.frombuffer(self._texts, np.uint8)))
        text.setflags(write=False)  # the loops are compiled for that
        found = found_of(self._columns, len(values))
        read_records(text, starts, ends, len(given.text), self._program, found)
        found.kind[found.is_bad] = NOTHING
        return text, found


def _texts(text: NDArray[np.uint8], found: Found, slot: int) -> tuple[Any, set[int]]:
    """Return a column as texts, null where there is nothing, and the rows whose bytes are none."""
    kinds = found.kind[:, slot]
    column, bad = _copied(text, found, slot, kinds == IS_TEXT)
    if (is_float := kinds == IS_FLOAT).any():
        floats = found.real[:, slot].tolist()
        some = [text_of(each) if is_one else None for each, is_one in zip(floats, is_float, strict=True)]
        column = pc.coalesce(column, pa.array(some, pa.string()))
    if (is_whole := (kinds == IS_WHOLE) | (kinds > IS_FLOAT)).any():
        whole = pa.array(np.ascontiguousarray(found.number[:, slot]), pa.int64(), mask=~is_whole)
        column = pc.coalesce(column, whole.cast(pa.string()))
    return column, bad


def _copied(
    text: NDArray[np.uint8], found: Found, slot: int, is_text: NDArray[np.bool_]
) -> tuple[Any, set[int]]:
    """Return texts side by side, and the rows that are no UTF-8; nothing stands there."""
    ends = np.zeros(len(is_text) + 1, np.int64)
    np.cumsum(np.where(is_text, found.size[:, slot], 0), out=ends[1:])
    copied = np.empty(int(ends[-1]), np.uint8)
    copy_texts(text, np.ascontiguousarray(found.number[:, slot]), ends, copied)
    buffers = [
        None if is_text.all() else pa.py_buffer(np.packbits(is_text, bitorder="little")),
        pa.py_buffer(ends.astype(np.int32)),
        pa.py_buffer(copied),
    ]
    column = pa.Array.from_buffers(pa.string(), len(is_text), buffers)
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        bad = _rows_not_utf8(column)
        is_sound = is_text.copy()
        is_sound[sorted(bad)] = False
        return _copied(text, found, slot, is_sound)[0], bad
    return column, set()


def _rows_not_utf8(column: Any) -> set[int]:
    bad = set()
    for row, content in enumerate(column.cast(pa.binary()).to_pylist()):
        try:
            (content or b"").decode()
        except UnicodeDecodeError:
            bad.add(row)
    return bad


def _times_ms(text: NDArray[np.uint8], found: Found, slot: int, unit: str) -> Ints:
    """Return a column as times (R,), epoch ms, 0 where there is none; a point in time has its own unit."""
    kinds, numbers = found.kind[:, slot], found.number[:, slot]
    times_ms = np.zeros(len(kinds), np.int64)
    for kind in np.unique(kinds).tolist():
        rows = np.flatnonzero(kinds == kind)
        if kind in _PER_MS:
            times_ms[rows] = numbers[rows] // _PER_MS[kind]
        elif kind == IS_DAYS:
            times_ms[rows] = numbers[rows] * _DAY_MS
        elif kind == IS_WHOLE:
            times_ms[rows] = each_time_of(pa.array(numbers[rows]), unit).ms
        elif kind == IS_FLOAT:
            times_ms[rows] = each_time_of(pa.array(found.real[:, slot][rows]), unit).ms
        elif kind == IS_TEXT:
            texts, _ = _copied(text, found, slot, kinds == IS_TEXT)
            times_ms[rows] = each_time_of(texts.take(pa.array(rows)), unit).ms
    return times_ms


def compile_avro() -> None:
    """Have the machine code ready before the first record comes."""
    schema = '{"type": "record", "name": "nothing", "fields": [{"name": "text", "type": "string"}]}'
    AvroReader(schema, (), [("text",)], ("time",), "auto").fields([b"\0\0\0\0\1\0"])
