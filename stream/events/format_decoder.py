"""Reading events by a format: nested JSON, behaviours by name, ids put together, times of any form."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.arrays import Ints
from models.events import SKIPPED_EVENT, Behaviour, Event
from models.ids.texts import Texts
from models.log.format import SOURCES, LogFormat
from models.log.json_leaves import (
    TYPES,
    JsonLeaves,
    NotTogetherError,
    json_object,
    text_of,
    texts_of_leaf,
    value_at,
)
from models.log.sources import KeyPath
from models.log.times import each_time_of
from models.log.values import WHOLE_ID, whole_id
from models.plain_json import MISSING, TEXT
from stream.events.columns import (
    EVENT_ID,
    GEOHASH,
    DecodedEvents,
    WholeEvents,
    numbers_of_column,
    texts_of_column,
)
from stream.events.fields import Fields

#: In place of a behaviour: the event is to be skipped; or nobody said what its text means.
SKIPPED, UNKNOWN = 0, -1

#: Floats from here on may, as times, be integers of microseconds, which are floored.
EXACT_TIME = 10**14

#: The names in SOURCES of what `WholeEvents` have as text, in that order.
WHOLE = ("user", "item", "category", "geohash", "event_id")

#: Fewer events are read sooner one by one.
MANY = 32


@dataclass(frozen=True, slots=True)
class Together:
    """E events as columns of Arrow: texts by the names of SOURCES, and the places of DecodedEvents."""

    places: Ints | None
    behaviour: Ints
    time_ms: Ints
    texts: dict[str, Any]


class FormatDecoder:
    """Decodes all values together into columns; one by one where they are not alike."""

    def __init__(self, log_format: LogFormat) -> None:
        self.log_format = log_format
        self._sources = {name: log_format.source(name) for name in SOURCES}
        #: Where texts are wanted from.
        self.text_paths = tuple({path: None for each in self._sources.values() for path in each.paths})
        self._leaves = JsonLeaves((*self.text_paths, log_format.time_path))

    def columns(self, values: Sequence[bytes | None]) -> DecodedEvents | None:
        """Return those not to be skipped as columns, None where any is not as the rest."""
        found = self._together(values)
        return None if found is None else self.decoded_columns(found)

    def whole(self, values: Sequence[bytes | None]) -> WholeEvents | None:
        """Return those not to be skipped with all that they have, None where any is not as the rest."""
        found = self._together(values)
        return None if found is None else self.whole_events(found)

    def whole_events(self, found: Together) -> WholeEvents:
        """Return events that are together with all that they have."""
        texts = [texts_of_column(found.texts[name]) for name in WHOLE]
        kinds = np.full((len(found.behaviour), len(WHOLE)), TEXT, np.uint8)
        for optional in (GEOHASH, EVENT_ID):
            kinds[texts[optional].lengths() == 0, optional] = MISSING
        is_odd = np.zeros(len(kinds), np.bool_)
        return WholeEvents(texts, kinds, found.behaviour, found.time_ms, is_odd, found.places)

    def decoded_columns(self, found: Together) -> DecodedEvents:
        """Return events that are together as columns."""
        users = found.texts["user"].dictionary_encode()
        return DecodedEvents(
            user_ids=users.dictionary.to_pylist(),
            user=numbers_of_column(users.indices, np.int32).astype(np.int64),
            users=texts_of_column(found.texts["user"]),
            item=texts_of_column(found.texts["item"]),
            category=texts_of_column(found.texts["category"]),
            behaviour=found.behaviour,
            time_ms=found.time_ms,
            event_ids=_event_ids(texts_of_column(found.texts["event_id"])),
            places=found.places,
        )

    def events(self, values: Sequence[bytes | None]) -> list[Event | None]:
        """Return each event, SKIPPED_EVENT for what is to be skipped, None for what cannot be read."""
        found = self._together(values) if len(values) >= MANY else None
        return self.events_one_by_one(values) if found is None else self.decoded_events(found, len(values))

    def decoded_events(self, found: Together, count: int) -> list[Event | None]:
        """Return `count` events that are together one by one, SKIPPED_EVENT for what is to be skipped."""
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
        all_events: list[Event | None] = [SKIPPED_EVENT] * count
        for place, event in zip(found.places.tolist(), events, strict=True):
            all_events[place] = event
        return all_events

    def events_one_by_one(self, values: Sequence[bytes | None]) -> list[Event | None]:
        """Return what `events` does, reading each value by itself."""
        objects = [json_object(value) for value in values]
        path = self.log_format.time_path
        given = [None if each is None else value_at(each, path) for each in objects]
        times = times_of_values(given, self.log_format.time_unit)
        return [
            None if each is None else self._event(each, time_ms)
            for each, time_ms in zip(objects, times, strict=True)
        ]

    def given(self, value: bytes | None) -> tuple[dict[str, str], Any] | None:
        """Return the texts of a value, by the names of SOURCES, and its time as it is; None of no JSON."""
        found = json_object(value)
        return None if found is None else (self._texts_in(found), value_at(found, self.log_format.time_path))

    def paths_in(self, value: bytes | None) -> Sequence[str]:
        """Return the paths that there are in a value, as a format names them."""
        return json_paths(value)

    def texts_of(self, text_at: Callable[[KeyPath], str]) -> dict[str, str]:
        """Return the texts, by the names of SOURCES, of an event that has these at its paths."""
        return {name: source.text(text_at) for name, source in self._sources.items()}

    def _texts_in(self, found: dict[str, Any]) -> dict[str, str]:
        return self.texts_of({path: text_of(value_at(found, path)) for path in self.text_paths}.__getitem__)

    def _event(self, found: dict[str, Any], time_ms: int) -> Event:
        texts = self._texts_in(found)
        behaviour = self._behaviour(texts["behaviour"])
        if behaviour == SKIPPED:
            return SKIPPED_EVENT
        if self.log_format.whole_ids:
            texts |= {name: whole_id(texts[name]) for name in ("user", "item")}
        names = ("user", "item"), ("category", "geohash", "event_id")
        (user, item), others = ([texts[name] for name in some] for some in names)
        return _event_of(user, item, behaviour, time_ms, *others)

    def _behaviour(self, text: str) -> int:
        if not self._sources["behaviour"].templates:
            return Behaviour.VIEW
        return int(self.log_format.behaviours.get(text, UNKNOWN) or SKIPPED)

    def _together(self, values: Sequence[bytes | None]) -> "Together | None":
        """Return the events as Arrow's columns, None where any is not as the rest."""
        if None in values:
            return None
        try:
            leaves = self._leaves.together(cast(Sequence[bytes], values))
            texts = {path: texts_of_leaf(leaves[path]) for path in self.text_paths}
            times_ms = self._times(leaves[self.log_format.time_path])
        except NotTogetherError:
            return None
        return self.together(Fields(texts, times_ms), len(values))

    def together(self, fields: Fields, rows: int) -> Together:
        """Return the events that fields (R,) make, but those to be skipped."""
        texts, times_ms, places = fields.texts, fields.times_ms, None
        behaviour = self._behaviours(texts, rows)
        behaviour[[*fields.refused]] = UNKNOWN  # they are not skipped
        if not behaviour.all():
            places = np.flatnonzero(behaviour)
            behaviour, times_ms = behaviour[places], times_ms[places]
            texts = {path: column.take(pa.array(places)) for path, column in texts.items()}
        found = {name: self._texts(name, texts, len(behaviour)) for name in SOURCES if name != "behaviour"}
        return Together(places, behaviour, times_ms, found)

    def _behaviours(self, texts: Mapping[KeyPath, Any], rows: int) -> Ints:
        """Return the behaviours (R,), SKIPPED or UNKNOWN where there is none."""
        if not self._sources["behaviour"].templates:
            return np.full(rows, Behaviour.VIEW, np.int64)
        encoded = self._texts("behaviour", texts, rows).dictionary_encode()
        meanings = np.array([self._behaviour(text) for text in encoded.dictionary.to_pylist()], np.int64)
        found: Ints = meanings[numbers_of_column(encoded.indices, np.int32)]
        return found

    def _texts(self, name: str, texts_at: Mapping[KeyPath, Any], rows: int) -> Any:
        texts = self._sources[name].column(texts_at, rows)
        if self.log_format.whole_ids and name in ("user", "item"):
            return pc.replace_substring_regex(texts, f"^{WHOLE_ID.pattern}$", "\\1")
        return texts

    def _times(self, leaf: Any) -> Ints:
        """Return the times (R,), epoch ms, 0 where there is none."""
        unit = self.log_format.time_unit
        if leaf.type == pa.float64():
            # Integers among floats look like them here.
            largest = pc.max(pc.abs(leaf)).as_py() or 0
            if unit in ("microseconds", "nanoseconds") or largest >= EXACT_TIME:
                raise NotTogetherError
        if leaf.type == pa.bool_():
            raise NotTogetherError
        return each_time_of(leaf, unit).ms


def _event_ids(texts: Texts) -> Texts | list[str | None]:
    """Return ids as they are where every event has one, else None for those of no text."""
    return texts if texts.lengths().all() else [text or None for text in texts.to_list()]


def _event_of(
    user: str, item: str, behaviour: int, time_ms: int, category: str, geohash: str, event_id: str
) -> Event:
    return Event(user, item, behaviour, time_ms, category, geohash or None, event_id or None)


def times_of_values(values: Sequence[Any], time_unit: str) -> list[int]:
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
            read = each_time_of(pa.array(some, TYPES[kind]), time_unit)
            for place, time_ms in zip(places, read.ms.tolist(), strict=True):
                found[place] = time_ms
    return found


def json_paths(value: bytes | None) -> Sequence[str]:
    """Return the paths of what stands in a JSON object, as a format names them; none of no object."""
    return tuple(_paths_in(json_object(value) or {}))


def _paths_in(found: dict[str, Any], before: str = "") -> Iterator[str]:
    """Yield the paths of what stands in an object, as a format names them."""
    for name, value in found.items():
        path = before + (f'"{name}"' if re.search(r'[.{}\s"]', name) else name)
        if isinstance(value, dict) and value:
            yield from _paths_in(value, f"{path}.")
        else:
            yield path
