"""JSON objects that tell of several events at once, as an order does of its items: an object for each."""

from collections.abc import Sequence

import msgspec
import numpy as np

from models.arrays import Ints
from models.log.json_leaves import json_object, value_at
from models.log.sources import KeyPath

#: Bytes of what one value becomes, about, at most: all around its list is there once for each element.
MOST_BYTES = 16 << 20

_encode = msgspec.json.Encoder().encode


def unfolded(values: Sequence[bytes | None], path: KeyPath) -> tuple[list[bytes | None], Ints]:
    """Return each value once for each element of its list at a path, which stands there instead of the list.

    Of an empty list there is none. What has no list there, or is no object, stays as it is, and so does what
    would become more than MOST_BYTES. The second array (P,) says which of the values each comes from.
    """
    parts = [_parts_of(value, path) for value in values]
    places = np.repeat(np.arange(len(parts)), [len(each) for each in parts])
    return [part for each in parts for part in each], places


def part_numbers(places: Ints) -> Ints:
    """Return of each part (P,) how many of the same value stand before it."""
    place = np.arange(len(places))
    is_first = np.diff(places, prepend=-1) != 0
    return place - np.maximum.accumulate(np.where(is_first, place, 0))


def _parts_of(value: bytes | None, path: KeyPath) -> list[bytes | None]:
    found = json_object(value)
    around = value_at(found, path[:-1])
    elements = around.get(path[-1]) if isinstance(around, dict) else None
    if not isinstance(elements, list) or len(elements) * len(value or b"") > MOST_BYTES:
        return [value]
    parts: list[bytes | None] = []
    for element in elements:
        around[path[-1]] = element
        parts.append(_encode(found))
    return parts
