"""A safetensors file's arrays as they are mapped into memory: the workers of a host share them; no torch."""

from pathlib import Path

import msgspec
import numpy as np

from models.arrays import Bytes, Floats

#: What the header calls the only type that artifacts hold.
_SINGLE = "F32"


class _Place(msgspec.Struct, frozen=True):
    """Where an array is, behind the header, and what it is like."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def mapped_arrays(path: Path) -> dict[str, Floats]:
    """Return the file's arrays by name; what is changed of one is changed in this process alone.

    safetensors' own reader copies them. Raises ValueError where the file is not one of float32 arrays.
    """
    content = np.memmap(path, np.uint8, mode="c").view(np.ndarray)
    begin = 8 + int.from_bytes(content[:8].tobytes(), "little")
    header = msgspec.json.decode(content[8:begin].tobytes(), type=dict[str, msgspec.Raw])
    places = {name: msgspec.json.decode(raw, type=_Place) for name, raw in header.items() if name[:2] != "__"}
    return {name: _array(content[begin:], name, place) for name, place in places.items()}


def _array(content: Bytes, name: str, place: _Place) -> Floats:
    if place.dtype != _SINGLE:
        raise ValueError(f"{name} is of the type {place.dtype}, not {_SINGLE}")
    first, last = place.data_offsets
    return content[first:last].view(np.float32).reshape(place.shape)
