"""A writer's Avro schema as a table of steps that machine code follows over its records.

Only what stands at the wanted paths is kept; all else is stepped over, whatever its type is. So a field that
was added, removed or moved, and an int that became a long, are nothing special: paths are found by name in
the schema that a record was written with.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import fastavro
import numpy as np

from models.arrays import Ints
from models.log.sources import KeyPath

#: The steps; those from INT on begin with a number, those up to RECORD do not.
NULL, BOOLEAN, FLOAT, DOUBLE, FIXED, RECORD, INT, LONG, ENUM, TEXT, UNION, ARRAY, MAP = range(13)
#: What a value is: nothing, a text, a number, or a point in time by its unit.
NOTHING, IS_TEXT, IS_WHOLE, IS_FLOAT, IS_MILLIS, IS_MICROS, IS_NANOS, IS_DAYS = range(8)

_STEPS = {
    "null": (NULL, NOTHING),
    "boolean": (BOOLEAN, IS_TEXT),
    "int": (INT, IS_WHOLE),
    "long": (LONG, IS_WHOLE),
    "float": (FLOAT, IS_FLOAT),
    "double": (DOUBLE, IS_FLOAT),
    "string": (TEXT, IS_TEXT),
    "bytes": (TEXT, IS_TEXT),
}
_LOGICAL = {
    "timestamp-millis": IS_MILLIS,
    "timestamp-micros": IS_MICROS,
    "timestamp-nanos": IS_NANOS,
    "local-timestamp-millis": IS_MILLIS,
    "local-timestamp-micros": IS_MICROS,
    "local-timestamp-nanos": IS_NANOS,
    "date": IS_DAYS,
}


#: Columns of `Program.steps`.
STEP, KIND, SLOT, FIRST, COUNT, KEY = range(6)


class Program(NamedTuple):
    """steps (N, 6): what each is, what its value is, the column that it fills (-1: none), where its children
    stand in `children` and how many; the first step is the record's.

    A FIXED's `first` is its size, an ENUM's the first of its symbols. An array has one child; a map one for
    its other keys and one for each of `count` wanted ones, whose texts begin with the one at `key`.
    text_starts (T + 1,): where the texts of booleans, symbols and keys begin in the bytes that go with the
    program.
    """

    steps: Ints
    children: Ints
    text_starts: Ints


@dataclass(slots=True)
class _Wanted:
    """What is wanted below a place: its own value, and that of names."""

    slot: int = -1
    names: dict[str, "_Wanted"] = field(default_factory=dict)


def program_of(
    schema: str, paths: Sequence[KeyPath], named: Sequence[str] = ()
) -> tuple[Program, bytes, tuple[str, ...]]:
    """Return the program that finds paths in records of a schema, its texts, and the paths that there are.

    named: schemas that it refers to. Raises what fastavro raises of a schema that is none, and ValueError.
    """
    types: dict[str, Any] = {}
    for each in named:
        fastavro.parse_schema(json.loads(each), named_schemas=types)
    parsed = fastavro.parse_schema(json.loads(schema), named_schemas=types)
    compiler = _Compiler(types)
    compiler.add(parsed, _wanted(paths))
    return (*compiler.program(), tuple(_paths_in(parsed, types, ())))


def _wanted(paths: Sequence[KeyPath]) -> _Wanted:
    root = _Wanted()
    for slot, path in enumerate(paths):
        place = root
        for name in path:
            place = place.names.setdefault(name, _Wanted())
        place.slot = slot
    return root


class _Compiler:
    """Adds steps to a program; types: by their full names."""

    def __init__(self, types: Mapping[str, Any]) -> None:
        self._types = types
        self._rows: list[list[int]] = []
        self._children: list[int] = []
        self._texts: list[bytes] = [b"false", b"true"]
        #: The steps of types that nothing is wanted of: a type may be part of itself.
        self._skips: dict[str, int] = {}

    def program(self) -> tuple[Program, bytes]:
        """Return the program, and the bytes of its texts."""
        starts = np.cumsum([0, *map(len, self._texts)], dtype=np.int64)
        program = Program(np.array(self._rows, np.int64), np.array(self._children, np.int64), starts)
        return program, b"".join(self._texts)

    def add(self, schema: Any, wanted: _Wanted | None) -> int:
        """Add the steps of a schema, and return the first."""
        if isinstance(schema, str) and schema in self._types:
            schema = self._types[schema]
        if isinstance(schema, list):
            children = [self.add(each, wanted) for each in schema]
            return self._row(UNION, NOTHING, None, self._family(children), len(children))
        kind = schema if isinstance(schema, str) else schema["type"]
        if isinstance(kind, (dict, list)):
            return self.add(kind, wanted)
        if isinstance(kind, str) and kind in self._types:
            return self.add(self._types[kind], wanted)
        if kind in ("record", "error"):
            return self._record(schema, wanted)
        if kind == "array":
            return self._row(ARRAY, NOTHING, None, self._family([self.add(schema["items"], None)]), 0)
        if kind == "map":
            return self._map(schema, wanted)
        return self._value(schema, kind, wanted)

    def _value(self, schema: Any, kind: str, wanted: _Wanted | None) -> int:
        if kind == "fixed":
            return self._row(FIXED, IS_TEXT, wanted, schema["size"], 0)
        if kind == "enum":
            symbols = [each.encode() for each in schema["symbols"]]
            self._texts += symbols
            return self._row(ENUM, IS_TEXT, wanted, len(self._texts) - len(symbols), len(symbols))
        step, value = _STEPS[kind]
        if isinstance(schema, dict) and step in (INT, LONG):
            value = _LOGICAL.get(schema.get("logicalType", ""), value)
        return self._row(step, value, wanted, 0, 0)

    def _record(self, schema: Any, wanted: _Wanted | None) -> int:
        names = wanted.names if wanted else {}
        if not names and schema["name"] in self._skips:
            return self._skips[schema["name"]]
        row = self._row(RECORD, NOTHING, None, 0, len(schema["fields"]))
        if not names:
            self._skips[schema["name"]] = row
        children = [self.add(each["type"], names.get(each["name"])) for each in schema["fields"]]
        self._rows[row][3] = self._family(children)
        return row

    def _map(self, schema: Any, wanted: _Wanted | None) -> int:
        names = wanted.names if wanted else {}
        children = [self.add(schema["values"], each) for each in (None, *names.values())]
        row = self._row(MAP, NOTHING, None, self._family(children), len(names), len(self._texts))
        self._texts += [name.encode() for name in names]
        return row

    def _row(self, step: int, kind: int, wanted: _Wanted | None, first: int, count: int, key: int = 0) -> int:
        self._rows.append([step, kind, wanted.slot if wanted else -1, first, count, key])
        return len(self._rows) - 1

    def _family(self, children: Sequence[int]) -> int:
        """Put children side by side, and return where the first stands."""
        self._children += children
        return len(self._children) - len(children)


def _paths_in(schema: Any, types: Mapping[str, Any], above: tuple[str, ...]) -> list[str]:
    """Return the paths of values that a schema's records have, down to types that were met above."""
    if isinstance(schema, str):
        schema = types.get(schema, schema)
    if isinstance(schema, list):
        found = [path for each in schema for path in _paths_in(each, types, above)]
        return [*dict.fromkeys(found)]
    if not isinstance(schema, dict) or schema.get("type") not in ("record", "error"):
        return []
    if schema["name"] in above:
        return []
    paths: list[str] = []
    for each in schema["fields"]:
        below = _paths_in(each["type"], types, (*above, schema["name"]))
        paths += [f"{each['name']}.{path}" for path in below] or [each["name"]]
    return paths
