"""Values of JSON that must be as a registry's JSON Schema says."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import jsonschema_rs
import numpy as np
import pyarrow as pa

from models.arrays import Ints
from models.log.json_leaves import json_object, text_of, value_at
from models.log.sources import KeyPath
from stream.events.fields import Fields
from stream.events.format_decoder import json_paths, times_of_values

#: Bytes of the registry's frame.
FRAME_BYTES = 5


class JsonSchemaReader:
    """Reads values of one schema, each by itself."""

    def __init__(
        self,
        schema: str,
        references: Mapping[str, str],
        text_paths: Sequence[KeyPath],
        time_path: KeyPath,
        time_unit: str,
    ) -> None:
        """references: the schemas that it refers to, by the names it has for them. Raises ValueError."""
        self._text_paths, self._time_path, self._time_unit = tuple(text_paths), time_path, time_unit
        known = {name: json.loads(text) for name, text in references.items()}
        parsed = json.loads(schema)
        self._validator = jsonschema_rs.validator_for(parsed, retriever=_only(known))

    def fields(self, values: Sequence[bytes]) -> Fields:
        """Return what stands in the values."""
        objects = [self._object(value) for value in values]
        texts = {path: _texts_at(objects, path) for path in self._text_paths}
        refused = {row: "payload" for row, each in enumerate(objects) if each is None}
        return Fields(texts, self._times_ms(objects), refused)

    def paths_in(self, value: bytes) -> Sequence[str]:
        """Return the paths that there are in a value, as a format names them."""
        return json_paths(value[FRAME_BYTES:])

    def time_of(self, value: bytes) -> Any:
        """Return the time of a value as it is given, None where there is none."""
        return value_at(self._object(value), self._time_path)

    def _object(self, value: bytes) -> dict[str, Any] | None:
        found = json_object(value[FRAME_BYTES:])
        return found if found is not None and self._validator.is_valid(found) else None

    def _times_ms(self, objects: Sequence[Any]) -> Ints:
        given = [value_at(each, self._time_path) for each in objects]
        return np.array(times_of_values(given, self._time_unit), np.int64)


def _texts_at(objects: Sequence[Any], path: KeyPath) -> Any:
    """Return texts that UTF-8 can write; JSON may escape halves of characters."""
    texts = [text_of(value_at(each, path)) for each in objects]
    return pa.array([text.encode(errors="replace").decode() for text in texts], pa.string())


def _only(known: Mapping[str, Any]) -> Any:
    """Return what gives the schemas that a schema refers to: the registry's, and nothing from elsewhere."""

    def retrieve(uri: str) -> Any:
        for name, schema in known.items():
            if uri == name or uri.endswith(f"/{name}"):
                return schema
        raise ValueError(f"it refers to {uri}, which the registry does not have for it")

    return retrieve
