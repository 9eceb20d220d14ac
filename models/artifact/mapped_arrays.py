"""A safetensors file's arrays as they are mapped into memory: the workers of a host share them; no torch."""

from pathlib import Path

import msgspec
import numpy as np

from models.arrays import Bytes, Floats
from models.zeros import Array, with_zeros

#: What the header calls the type of nearly all arrays, and the other types that a compressed model has.
_SINGLE = "F32"
_TYPES = {_SINGLE: np.float32, "I8": np.int8, "U8": np.uint8}


class _Place(msgspec.Struct, frozen=True):
    """Where an array is, behind the header, and what it is like."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def mapped_arrays(path: Path) -> dict[str, Floats]:
    """Return the file's arrays by name; what is changed of one is changed in this process alone.

    safetensors' own reader copies them. Raises ValueError where the file is not one of float32 arrays.
    """
    found = _mapped(path)
    for name, array in found.items():
        if array.dtype != np.float32:
            raise ValueError(f"{name} is of the type {array.dtype}, not float32")
    return found


def mapped_or_compressed(path: Path) -> dict[str, Array]:
    """Return a file's arrays, of bytes too; what is stored without its zeros has them again, as a copy."""
    return with_zeros(_mapped(path))


def _mapped(path: Path) -> dict[str, Array]:
    content = np.memmap(path, np.uint8, mode="c").view(np.ndarray)
    begin = 8 + int.from_bytes(content[:8].tobytes(), "little")
    header = msgspec.json.decode(content[8:begin].tobytes(), type=dict[str, msgspec.Raw])
    places = {name: msgspec.json.decode(raw, type=_Place) for name, raw in header.items() if name[:2] != "__"}
    return {name: _array(content[begin:], name, place) for name, place in places.items()}


def _array(content: Bytes, name: str, place: _Place) -> Array:
    if place.dtype not in _TYPES:
        raise ValueError(f"{name} is of the type {place.dtype}, not of {', '.join(_TYPES)}")
    first, last = place.data_offsets
    return content[first:last].view(_TYPES[place.dtype]).reshape(place.shape)
