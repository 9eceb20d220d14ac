"""Windows' values in one buffer, as compiled functions see them; what stands where is said by layout.py."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from models.arrays import Bytes, Ints
from models.compiled import compiled
from models.windows.layout import HEADER_BYTES, HEADER_TYPES, WINDOW_FORMAT, Header, Places, places_of

_HEADER_DTYPE = np.dtype(
    [(name, "<" + type_) for name, type_ in zip(Header._fields, HEADER_TYPES, strict=True)]
)
_HEADER_INT64S = HEADER_BYTES // 8


class Buffer(NamedTuple):
    """Values one behind the other, as arrays of their numbers: that of w bytes at byte b is number b // w.

    headers: one for every byte b that is a multiple of 8, header b // 8.
    """

    headers: npt.NDArray[np.void]
    int64s: Ints
    uint16s: npt.NDArray[np.uint16]
    uint8s: Bytes


@compiled
def buffer_of(int64s: Ints) -> Buffer:
    """Return a buffer on this memory."""
    whole = int64s[: len(int64s) // _HEADER_INT64S * _HEADER_INT64S].view(_HEADER_DTYPE)
    headers = as_strided(whole, (max(len(int64s) - _HEADER_INT64S + 1, 0),), (8,))
    return Buffer(headers, int64s, int64s.view(np.uint16), int64s.view(np.uint8))


#: `places_of` for compiled functions.
compiled_places_of = compiled(places_of)


@compiled
def find_places(headers: npt.NDArray[np.void], start: int, size: int) -> Places:
    """Return where the parts are of the value of `size` bytes at byte `start`; all -1 where it is damaged."""
    damaged = Places(-1, -1, -1, -1, -1, -1, -1, -1, -1, -1)
    if size < HEADER_BYTES:
        return damaged
    header = headers[start // 8]
    if header.format != WINDOW_FORMAT or min(header.events, header.item_bytes, header.category_bytes) < 0:
        return damaged
    places = compiled_places_of(
        start,
        header.events,
        header.edge_hashes,
        header.item_bytes,
        header.category_bytes,
        header.topic_bytes,
    )
    return places if places.end == start + size else damaged
