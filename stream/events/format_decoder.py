"""Reading events by a format: nested JSON, behaviours by name, ids put together, times of any form."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.arrays import Ints
from models.events import SKIPPED_EVENT, Behaviour, Event
from models.log.format import SOURCES, LogFormat
from models.log.json_table import json_table, parse_options
from models.log.sources import KeyPath
from models.log.times import each_time_of
from models.log.values import WHOLE_ID, whole_id
from stream.events.columns import DecodedEvents, numbers_of_column, texts_of_column

#: In place of a behaviour: the event is to be skipped; or nobody said what its text means.
SKIPPED, UNKNOWN = 0, -1

#: Events of a batch that are looked at to see of which types its fields are.
SAMPLE = 16
#: What Arrow reads each type of JSON as; of several in a sample the last is taken.
TYPES: dict[type, Any] = {str: pa.string(), bool: pa.bool_(), int: pa.int64(), float: pa.float64()}
#: Floats up to these hold whole numbers exactly, and as times no integer of microseconds, which are floored.
EXACT_FLOAT, EXACT_TIME = 2**53, 10**14

#: Fewer events are read sooner one by one.
MANY = 32

#: What there is at each path.
Leaves = dict[KeyPath, Any]


class NotTogetherError(Exception):
    """The events cannot be read as columns, but one by one."""


@dataclass(frozen=True, slots=True)
class _Together:
    """E events as columns of Arrow: texts by the names of SOURCES, and the places of DecodedEvents."""

    places: Ints | None
    behaviour: Ints
    time_ms: Ints
    texts: dict[str, Any]


class FormatDecoder:
    """Decodes all values together into columns; one by one where they are not alike."""

    def __init__(self, log_format: LogFormat) -> None:
        self._format = log_format
        self._sources = {name: log_format.source(name) for name in SOURCES}
        self._text_paths = tuple({path: None for each in self._sources.values() for path in each.paths})
        self._paths = (*self._text_paths, log_format.time_path)
        #: Whether no path leads on from the end of another: then that is of one type.
        self._are_apart = not any(
            one != other and one == other[: len(one)] for one in self._paths for other in self._paths
        )
        self._types: Leaves = {}
        self._options: dict[tuple[Any, ...], Any] = {}

    def columns(self, values: Sequence[bytes | None]) -> DecodedEvents | None:
        """Return those not to be skipped as columns, None where any is not as the rest."""
        found = self._together(values)
        if found is None:
            return None
        users = found.texts["user"].dictionary_encode()
        return DecodedEvents(
            user_ids=users.dictionary.to_pylist(),
            user=numbers_of_column(users.indices, np.int32).astype(np.int64),
            users=texts_of_column(found.texts["user"]),
            item=texts_of_column(found.texts["item"]),
            category=texts_of_column(found.texts["category"]),
            behaviour=found.behaviour,
            time_ms=found.time_ms,
            event_ids=[event_id or None for event_id in found.texts["event_id"].to_pylist()],
            places=found.places,
        )

    def events(self, values: Sequence[bytes | None]) -> list[Event | None]:
        """Return each event, SKIPPED_EVENT for what is to be skipped, None for what cannot be read."""
        found = self._together(values) if len(values) >= MANY else None
        if found is None:
            return self.events_one_by_one(values)
        user, item, category, geohash, event_id = (
            found.texts[name].to_pylist() for name in ("user", "item", "category", "geohash", "event_id")
        )
        rows = zip(
            user,
            item,
            found.behaviour.tolist(),
            found.time_ms.tolist(),
            category,
            geohash,
            event_id,
            strict=True,
        )
        events = [_event_of(*row) for row in rows]
        if found.places is None:
            return [*events]
        all_events: list[Event | None] = [SKIPPED_EVENT] * len(values)
        for place, event in zip(found.places.tolist(), events, strict=True):
            all_events[place] = event
        return all_events

    def events_one_by_one(self, values: Sequence[bytes | None]) -> list[Event | None]:
        """Return what `events` does, reading each value by itself."""
        objects = [json_object(value) for value in values]
        path = self._format.time_path
        times = _times_of([None if each is None else value_at(each, path) for each in objects], self._format)
        return [
            None if each is None else self._event(each, time_ms)
            for each, time_ms in zip(objects, times, strict=True)
        ]

    def given(self, value: bytes | None) -> tuple[dict[str, str], Any] | None:
        """Return the texts of a value, by the names of SOURCES, and its time as it is; None of no JSON."""
        found = json_object(value)
        if found is None:
            return None
        try:
            return self._texts_in(found), value_at(found, self._format.time_path)
        except ValueError:  # a number of more digits than Python makes a text of
            return None

    def _texts_in(self, found: dict[str, Any]) -> dict[str, str]:
        at = {path: text_of(value_at(found, path)) for path in self._text_paths}
        return {name: source.text(at.__getitem__) for name, source in self._sources.items()}

    def _event(self, found: dict[str, Any], time_ms: int) -> Event | None:
        try:
            texts = self._texts_in(found)
        except ValueError:  # a number of more digits than Python makes a text of
            return None
        behaviour = self._behaviour(texts["behaviour"])
        if behaviour == SKIPPED:
            return SKIPPED_EVENT
        if self._format.whole_ids:
            texts |= {name: whole_id(texts[name]) for name in ("user", "item")}
        names = ("user", "item"), ("category", "geohash", "event_id")
        (user, item), others = ([texts[name] for name in some] for some in names)
        return _event_of(user, item, behaviour, time_ms, *others)

    def _behaviour(self, text: str) -> int:
        if not self._sources["behaviour"].templates:
            return Behaviour.VIEW
        return int(self._format.behaviours.get(text, UNKNOWN) or SKIPPED)

    def _learn_types(self, values: Sequence[bytes | None]) -> None:
        """Note of which type each field is, as far as some of the events have it."""
        sample = [json_object(value) for value in values[:: 1 + len(values) // SAMPLE]]
        for path in self._paths:
            kinds = {type(value_at(each, path)) for each in sample if each is not None} - {type(None)}
            if kinds:
                known = [each for each in TYPES if each in kinds]
                self._types[path] = TYPES[known[-1] if known else str]

    def _options_of_types(self) -> Any:
        """Return how events with fields of these types are read."""
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

    def _together(self, values: Sequence[bytes | None]) -> "_Together | None":
        """Return the events as Arrow's columns, None where any is not as the rest."""
        if not values or None in values or not self._are_apart:
            return None
        self._learn_types(values)
        table = json_table(cast(Sequence[bytes], values), self._options_of_types())
        try:
            return None if table is None else self._fields(table)
        except NotTogetherError:
            return None

    def _fields(self, table: Any) -> "_Together":
        leaves = {path: _leaf(table, path) for path in self._paths}
        behaviour, places = self._behaviours(leaves, len(table)), None
        if not behaviour.all():
            places = np.flatnonzero(behaviour)
            behaviour = behaviour[places]
            leaves = {path: leaf.take(pa.array(places)) for path, leaf in leaves.items()}
        texts = {name: self._texts(name, leaves, len(behaviour)) for name in SOURCES if name != "behaviour"}
        return _Together(places, behaviour, self._times(leaves[self._format.time_path]), texts)

    def _behaviours(self, leaves: Leaves, rows: int) -> Ints:
        """Return the behaviours (R,), SKIPPED or UNKNOWN where there is none."""
        if not self._sources["behaviour"].templates:
            return np.full(rows, Behaviour.VIEW, np.int64)
        texts = self._texts("behaviour", leaves, rows).dictionary_encode()
        meanings = np.array([self._behaviour(text) for text in texts.dictionary.to_pylist()], np.int64)
        found: Ints = meanings[numbers_of_column(texts.indices, np.int32)]
        return found

    def _texts(self, name: str, leaves: Leaves, rows: int) -> Any:
        source = self._sources[name]
        texts = source.column({path: _texts_of(leaves[path]) for path in source.paths}, rows)
        if self._format.whole_ids and name in ("user", "item"):
            return pc.replace_substring_regex(texts, f"^{WHOLE_ID.pattern}$", "\\1")
        return texts

    def _times(self, leaf: Any) -> Ints:
        """Return the times (R,), epoch ms, 0 where there is none."""
        unit = self._format.time_unit
        if leaf.type == pa.float64():
            # Integers among floats look like them here.
            largest = pc.max(pc.abs(leaf)).as_py() or 0
            if unit in ("microseconds", "nanoseconds") or largest >= EXACT_TIME:
                raise NotTogetherError
        if leaf.type == pa.bool_():
            raise NotTogetherError
        return each_time_of(leaf, unit).ms


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


def _event_of(
    user: str, item: str, behaviour: int, time_ms: int, category: str, geohash: str, event_id: str
) -> Event:
    return Event(user, item, behaviour, time_ms, category, geohash or None, event_id or None)


def _times_of(values: Sequence[Any], log_format: LogFormat) -> list[int]:
    """Return times of any types, epoch ms, 0 where there is none."""
    found = [0] * len(values)
    for kind in (str, int, float):
        places = [place for place, value in enumerate(values) if type(value) is kind]
        if kind is int:
            places = [place for place in places if -(2**63) <= values[place] < 2**63]
        some = [values[place] for place in places]
        if kind is str:
            some = [text.encode(errors="replace").decode() for text in some]
        if places:
            read = each_time_of(pa.array(some, TYPES[kind]), log_format.time_unit)
            for place, time_ms in zip(places, read.ms.tolist(), strict=True):
                found[place] = time_ms
    return found


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


def _texts_of(leaf: Any) -> Any:
    """Return a column as texts; NotTogetherError where Python writes its numbers otherwise."""
    if leaf.type != pa.float64():
        return leaf if leaf.type == pa.string() else leaf.cast(pa.string())
    is_whole = pc.and_(pc.equal(pc.floor(leaf), leaf), pc.less(pc.abs(leaf), EXACT_FLOAT))
    if not pc.all(is_whole).as_py():
        raise NotTogetherError
    return leaf.cast(pa.int64()).cast(pa.string())
