"""By which numbers an adopted encoder knows items, categories and behaviours."""

from dataclasses import dataclass, fields

import numpy as np
import safetensors.numpy

from models.arrays import Ints

#: Stands for what the encoder does not know: an event of such an item or behaviour is left out.
LEFT_OUT = -1


@dataclass(frozen=True, slots=True)
class Indices:
    """Our index -> the encoder's.

    items (I + 2,) and categories (C + 2,), by the indices of a `Vocabulary`: padding, unknown, then the known
    ones; behaviours (5,), by `Behaviour`, padding at 0. LEFT_OUT in items and behaviours.
    """

    items: Ints
    categories: Ints
    behaviours: Ints

    def to_bytes(self) -> bytes:
        """Return them as safetensors."""
        arrays = {each.name: getattr(self, each.name) for each in fields(self)}
        content: bytes = safetensors.numpy.save(arrays)
        return content

    @classmethod
    def from_bytes(cls, value: bytes) -> "Indices":
        """Return the indices of `to_bytes`. Raises SafetensorError, KeyError where the bytes are none."""
        stored = safetensors.numpy.load(value)
        return cls(*(stored[each.name].astype(np.int64) for each in fields(cls)))
