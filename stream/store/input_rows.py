"""Live inputs as bytes: some rows of the table of what items have become as they enter a user's vector.

It is written and read as live items are (item_writer.py, item_series.py), apart from them: workers read it,
and rankers need not. An item is known by its hash (models/ids/hashes.py). A row may be another item's once
its own is gone; what is not among the rows enters as it was trained.
"""

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from models.arrays import Flags, Floats, Ints, Words
from models.quantised import Bytes8


@dataclass(frozen=True, slots=True)
class InputRows:
    """n rows of the table, as they were at one moment.

    row, hash (n,); values (n, D) int8, times scale (n,), the item's input vector; is_gone (n,) where there is
    no such item any more.
    """

    row: Ints
    hash: Words
    values: Bytes8
    scale: Floats
    is_gone: Flags

    def __len__(self) -> int:
        return len(self.row)

    def select(self, places: Ints) -> "InputRows":
        """Return some of them."""
        return InputRows(
            self.row[places],
            self.hash[places],
            self.values[places],
            self.scale[places],
            self.is_gone[places],
        )

    def to_bytes(self, snapshot: int) -> bytes:
        """Return them as the bytes of this snapshot: a MessagePack map, arrays little-endian, row by row."""
        packed = {
            name: np.ascontiguousarray(getattr(self, name), kind).tobytes() for name, kind in _TYPES.items()
        }
        return msgspec.msgpack.encode(_Packed(snapshot, self.values.shape[1], **packed))


class _Packed(msgspec.Struct, frozen=True):
    """Rows as they are written."""

    snapshot: int
    dimension: int
    row: bytes
    hash: bytes
    values: bytes
    scale: bytes
    is_gone: bytes


_TYPES: dict[str, np.dtype[Any]] = {
    "row": np.dtype("<u4"),
    "hash": np.dtype("<u8"),
    "values": np.dtype("i1"),
    "scale": np.dtype("<f4"),
    "is_gone": np.dtype("?"),
}

_DECODER = msgspec.msgpack.Decoder(_Packed)


def input_row_bytes(dimension: int) -> int:
    """Return the bytes of a row."""
    return sum(kind.itemsize * (dimension if name == "values" else 1) for name, kind in _TYPES.items())


def input_rows_from_bytes(value: bytes) -> tuple[int, InputRows]:
    """Return the snapshot and the rows of `InputRows.to_bytes`."""
    packed = _DECODER.decode(value)
    arrays = {name: np.frombuffer(getattr(packed, name), kind) for name, kind in _TYPES.items()}
    return packed.snapshot, InputRows(
        arrays["row"].astype(np.int64),
        arrays["hash"],
        arrays["values"].reshape(-1, packed.dimension),
        arrays["scale"],
        arrays["is_gone"],
    )


def number_of(run: int, snapshot: int) -> str:
    """Return what a snapshot is called where it is stored with users."""
    return f"{run}.{snapshot}"
