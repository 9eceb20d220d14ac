"""Values written with one Protobuf schema: read as columns by ptars."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from ptars import HandlerPool, PtarsConfig

from models.log.json_leaves import text_of
from models.log.sources import KeyPath
from models.log.times import each_time_of
from models.payloads import Payloads, payloads_of
from stream.events.fields import Fields, joined_fields, no_fields
from stream.registry.protobuf_files import descriptor_pool, message_names

#: Bytes of the registry's frame before the place of the message in its file.
FRAME_BYTES = 5
#: Points in time as microseconds: nanoseconds end in 2262.
CONFIG = PtarsConfig(timestamp_unit="us", enum_repr="string")
#: Numbers in the place of a message at most.
DEEPEST = 32


class ProtobufReader:
    """Reads values of the messages of one schema."""

    def __init__(
        self,
        schema: str,
        references: dict[str, str],
        text_paths: Sequence[KeyPath],
        time_path: KeyPath,
        time_unit: str,
        said_paths: Sequence[KeyPath],
    ) -> None:
        """references: the files that the schema imports, by name. Raises ValueError where it is none.

        said_paths: where a number that is not on the wire means 0; elsewhere it is missing.
        """
        self._said_paths = frozenset(said_paths)
        self._text_paths, self._time_path, self._time_unit = tuple(text_paths), time_path, time_unit
        pool, name = descriptor_pool(schema, references)
        self._file = pool.FindFileByName(name)
        self._names = message_names(self._file)
        self._pool = HandlerPool([self._file], config=CONFIG)
        self._handlers: dict[bytes, Any] = {}

    def fields(self, values: Sequence[bytes]) -> Fields:
        """Return what stands in the values."""
        given = payloads_of(values)
        head = _head(values[0]) if values else b""
        if head and given.common(FRAME_BYTES, FRAME_BYTES + len(head)) == head:
            return self._of_message(head, given)
        heads = [_head(value) for value in values]
        parts, rows = [], []
        for head in dict.fromkeys(heads):
            places = [place for place, each in enumerate(heads) if each == head]
            parts.append(self._of_message(head, payloads_of([values[place] for place in places])))
            rows.append(np.array(places, np.int64))
        return joined_fields(parts, rows)

    def paths_in(self, value: bytes) -> Sequence[str]:
        """Return the paths that there are in a value, as a format names them."""
        name = self._names.get(_place(_head(value)))
        return _paths_in(self._handler(name).schema(), "") if name else ()

    def time_of(self, value: bytes) -> Any:
        """Return the time of a value as it is given, None where there is none."""
        head = _head(value)
        name = self._names.get(_place(head))
        if name is None or (batch := _batch(self._handler(name), [value[FRAME_BYTES + len(head) :]])) is None:
            return None
        return _leaf(batch, self._time_path)[0].as_py()

    def _handler(self, name: str) -> Any:
        return self._pool.get_for_message(self._file.pool.FindMessageTypeByName(name))

    def _of_message(self, head: bytes, values: Payloads) -> Fields:
        if not head:
            return no_fields(self._text_paths, ["frame"] * len(values))
        name = self._names.get(_place(head))
        if name is None:
            return no_fields(self._text_paths, ["schema"] * len(values))
        start = FRAME_BYTES + len(head)
        return self._decoded(self._handler(name), values.tails(start))

    def _decoded(self, handler: Any, payloads: Sequence[bytes]) -> Fields:
        """Return what stands in payloads; where some are none, halves are tried until it is known which."""
        batch = _batch(handler, payloads)
        if batch is not None and (fields := self._fields(batch)) is not None:
            return fields
        if len(payloads) == 1:
            return no_fields(self._text_paths, ["payload"])
        half = len(payloads) // 2
        parts = [self._decoded(handler, some) for some in (payloads[:half], payloads[half:])]
        return joined_fields(parts, [np.arange(half), np.arange(half, len(payloads))])

    def _fields(self, batch: Any) -> Fields | None:
        """Return what stands in a batch, None where there are bytes that are no text."""
        try:
            texts = {path: self._texts(batch, path) for path in self._text_paths}
        except pa.ArrowInvalid:
            return None
        return Fields(texts, each_time_of(_time(_leaf(batch, self._time_path)), self._time_unit).ms)

    def _texts(self, batch: Any, path: KeyPath) -> Any:
        leaf, types = _leaf(batch, path), pa.types
        is_number = types.is_integer(leaf.type) or types.is_floating(leaf.type)
        if is_number and path not in self._said_paths and not _is_optional(batch.schema, path):
            leaf = pc.if_else(pc.equal(leaf, pa.scalar(0, leaf.type)), None, leaf)
        return _texts(leaf)


def _head(value: bytes) -> bytes:
    """Return the place of the message in its file as it stands behind the frame, empty where there is none.

    It is how many numbers there are, and the numbers: the message's, and of those inside it. A single 0 is
    short for the first message of all.
    """
    if value[FRAME_BYTES : FRAME_BYTES + 1] == b"\0":
        return b"\0"
    count, end = _number(value, FRAME_BYTES)
    if not 0 < count <= DEEPEST:
        return b""
    for _ in range(count):
        number, end = _number(value, end)
        if number < 0:
            return b""
    return value[FRAME_BYTES:end]


def _place(head: bytes) -> tuple[int, ...]:
    count, end = _number(head, 0)
    numbers = []
    for _ in range(count):
        number, end = _number(head, end)
        numbers.append(number)
    return tuple(numbers) or (0,)


def _number(value: bytes, position: int) -> tuple[int, int]:
    """Return the number that is written here, and where it ends; -1 where there is none."""
    number = shift = 0
    while position < len(value) and shift < 35:
        byte = value[position]
        number |= (byte & 127) << shift
        shift, position = shift + 7, position + 1
        if byte < 128:
            return (number >> 1) ^ -(number & 1), position
    return -1, position


def _batch(handler: Any, payloads: Sequence[bytes]) -> Any:
    """Return payloads as a batch of Arrow, None where any is no such message."""
    try:
        return handler.list_to_record_batch(list(payloads))
    except (ValueError, OverflowError, pa.ArrowException):
        return None


def _leaf(batch: Any, path: KeyPath) -> Any:
    """Return what stands at a path of a batch: nothing, where there is no such path."""
    rows, (first, *others) = batch.num_rows, path
    column = batch.column(first) if first in batch.schema.names else None
    for name in others:
        kind = None if column is None else column.type
        if kind is not None and pa.types.is_struct(kind) and kind.get_field_index(name) >= 0:
            column = pc.struct_field(column, name)
        elif kind is not None and pa.types.is_map(kind) and pa.types.is_string(kind.key_type):
            column = pc.map_lookup(column, pa.scalar(name), "last")
        else:
            column = None
    return pa.nulls(rows) if column is None else column


def _is_optional(schema: Any, path: KeyPath) -> bool:
    """Return whether messages say if they have a field, even one of 0."""
    first, *others = path
    kind = schema.field(first)
    for name in others:
        if not pa.types.is_struct(kind.type):
            return True
        kind = kind.type.field(name)
    return bool(kind.nullable)


def _texts(leaf: Any) -> Any:
    """Return a column as texts; what has no text is null. Raises ArrowInvalid where bytes are no UTF-8."""
    kind = leaf.type
    if pa.types.is_string(kind):
        return leaf
    if pa.types.is_floating(kind):
        found = [None if each is None else text_of(each) for each in leaf.to_pylist()]
        return pa.array(found, pa.string())
    if pa.types.is_nested(kind) or pa.types.is_null(kind):
        return pa.nulls(len(leaf), pa.string())
    return leaf.cast(pa.string())


def _time(leaf: Any) -> Any:
    """Return a column of times: nothing where it is of a type that is none."""
    types, kind = pa.types, leaf.type
    is_time = types.is_string(kind) or types.is_integer(kind) or types.is_floating(kind)
    return leaf if is_time or types.is_timestamp(kind) else pa.nulls(len(leaf), pa.int64())


def _paths_in(schema: Any, above: str) -> tuple[str, ...]:
    """Return the paths of values that a schema of Arrow has."""
    paths: list[str] = []
    for each in schema:
        if pa.types.is_struct(each.type):
            paths += _paths_in(each.type, f"{above}{each.name}.")
        else:
            paths.append(above + each.name)
    return tuple(paths)
