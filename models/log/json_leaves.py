"""What stands at some paths of many JSON objects: together as columns, or one by one, with one result."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from models.log.json_table import json_table, parse_options
from models.log.sources import KeyPath

#: Objects that are looked at to see of which types their fields are.
SAMPLE = 16
#: What Arrow reads each type of JSON as; of several in a sample the last is taken.
TYPES: dict[type, Any] = {str: pa.string(), bool: pa.bool_(), int: pa.int64(), float: pa.float64()}
#: Floats up to these hold whole numbers exactly.
EXACT_FLOAT = 2**53

#: What there is at each path.
Leaves = dict[KeyPath, Any]


class NotTogetherError(Exception):
    """Objects cannot be read as columns, but one by one."""


class JsonLeaves:
    """Reads what stands at these paths."""

    def __init__(self, paths: Sequence[KeyPath]) -> None:
        self._paths = tuple(paths)
        #: Whether no path leads on from the end of another: then that is of one type.
        self._are_apart = not any(
            one != other and one == other[: len(one)] for one in self._paths for other in self._paths
        )
        self._types: Leaves = {}
        self._options: dict[tuple[Any, ...], Any] = {}

    def together(self, values: Sequence[bytes]) -> Leaves:
        """Return a column of Arrow (R,) for each path, null where there is nothing.

        Raises NotTogetherError where any value is no JSON object or is not as the rest.
        """
        if not values or not self._are_apart:
            raise NotTogetherError
        self._learn_types(values)
        table = json_table(values, self._options_of_types())
        if table is None:
            raise NotTogetherError
        return {path: _leaf(table, path) for path in self._paths}

    def _learn_types(self, values: Sequence[bytes]) -> None:
        """Note of which type each field is, as far as some of the objects have it."""
        sample = [json_object(value) for value in values[:: 1 + len(values) // SAMPLE]]
        for path in self._paths:
            kinds = {type(value_at(each, path)) for each in sample if each is not None} - {type(None)}
            if kinds:
                known = [each for each in TYPES if each in kinds]
                self._types[path] = TYPES[known[-1] if known else str]

    def _options_of_types(self) -> Any:
        """Return how objects with fields of these types are read."""
        types = tuple(self._types.get(path, pa.string()) for path in self._paths)
        if types not in self._options:
            tree: dict[str, Any] = {}
            for path, kind in zip(self._paths, types, strict=True):
                inner = tree
                for name in path[:-1]:
                    inner = inner.setdefault(name, {})
                inner[path[-1]] = kind
            self._options[types] = parse_options(pa.schema(_fields(tree)))
        return self._options[types]


def json_object(value: bytes | None) -> dict[str, Any] | None:
    """Return the JSON object that a value is, None where it is none."""
    try:
        found = msgspec.json.decode(value or b"")
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def value_at(found: Any, path: KeyPath) -> Any:
    """Return what stands at a path, None where nothing does."""
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def text_of(value: Any) -> str:
    """Return a value as text, "" for what has none: null, an object or a list."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return str(int(value)) if value.is_integer() else repr(value)
    return ""


def _fields(tree: dict[str, Any]) -> list[Any]:
    """Return the fields of a tree of types, in which an object is a dict."""
    return [
        pa.field(name, pa.struct(_fields(kind)) if isinstance(kind, dict) else kind)
        for name, kind in tree.items()
    ]


def _leaf(table: Any, path: KeyPath) -> Any:
    """Return the column at a path."""
    column = table.column(path[0]).combine_chunks()
    return pc.struct_field(column, list(path[1:])) if len(path) > 1 else column


def texts_of_leaf(leaf: Any) -> Any:
    """Return a column as texts; NotTogetherError where Python writes its numbers otherwise."""
    if leaf.type != pa.float64():
        return leaf if leaf.type == pa.string() else leaf.cast(pa.string())
    is_whole = pc.and_(pc.equal(pc.floor(leaf), leaf), pc.less(pc.abs(leaf), EXACT_FLOAT))
    if not pc.all(is_whole, min_count=0).as_py():
        raise NotTogetherError
    return leaf.cast(pa.int64()).cast(pa.string())
