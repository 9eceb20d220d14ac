"""What a format's paths lead to in some values, however these are encoded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from models.arrays import Ints
from models.log.sources import KeyPath
from stream.registry.schemas import RegisteredSchema


@dataclass(frozen=True, slots=True)
class Fields:
    """Of R values: the texts (R,) at each path, null where there is none, and times_ms (R,), 0 where none is.

    refused: why values are no events at all, by their place; they have nothing at any path.
    """

    texts: Mapping[KeyPath, Any]
    times_ms: Ints
    refused: Mapping[int, str] = field(default_factory=dict)


class SchemaReader(Protocol):
    """Reads values that were written with one schema of a registry; they still have the registry's frame."""

    def paths_in(self, value: bytes) -> Sequence[str]:
        """Return the paths that there are in a value, as a format names them."""

    def fields(self, values: Sequence[bytes]) -> Fields:
        """Return what stands in the values."""

    def time_of(self, value: bytes) -> Any:
        """Return the time of a value as it is given, None where there is none."""


class SchemaSource(Protocol):
    """Knows schemas by their ids (stream/registry/)."""

    def schema(self, schema_id: int) -> RegisteredSchema | None:
        """Return the schema of an id, None where there is none; RegistryDownError where nobody says."""


def no_fields(paths: Sequence[KeyPath], reasons: Sequence[str]) -> Fields:
    """Return the fields of values that are refused for these reasons (R,)."""
    nothing = pa.nulls(len(reasons), pa.string())
    return Fields(
        {path: nothing for path in paths}, np.zeros(len(reasons), np.int64), dict(enumerate(reasons))
    )


def joined_fields(parts: Sequence[Fields], rows: Sequence[Ints]) -> Fields:
    """Return the fields of some parts as one; rows: at which places (R,) the values of each part stand."""
    if len(parts) == 1:
        return parts[0]
    places = np.concatenate(rows)
    order = np.argsort(places)
    texts = {
        path: pa.concat_arrays([part.texts[path] for part in parts]).take(pa.array(order))
        for path in parts[0].texts
    }
    times_ms = np.concatenate([part.times_ms for part in parts])[order]
    refused = {
        int(some[row]): reason
        for part, some in zip(parts, rows, strict=True)
        for row, reason in part.refused.items()
    }
    return Fields(texts, times_ms, refused)
