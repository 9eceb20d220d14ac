"""Reading the JSON of the topic: flat, with numbered behaviours and epoch ms, under these names or others."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.arrays import Flags
from models.errors import SettingsError
from models.events import Event
from models.log.json_table import json_table, parse_options
from models.payloads import payloads_of
from models.plain_json import MISSING, NULL, NUMBER, OTHER, TEXT, PlainObjects, read_each_plain, read_plain
from stream.events.columns import (
    CATEGORY,
    DecodedEvents,
    WholeEvents,
    column_of_texts,
    numbers_of_column,
    texts_of_column,
)
from stream.events.function_decoder import FunctionDecoder

#: Fields of an event that are ids: text, or numbers that mean the same as their text.
IDS = ("user_id", "item_id", "item_category", "event_id")

#: Where a smaller share of events is plain, Arrow tries to read them all: one by one takes twice as long.
MOSTLY = 0.7


class JsonDecoder(FunctionDecoder):
    """Decodes all values together into columns, outside the interpreter lock."""

    def __init__(self, names: Mapping[str, str]) -> None:
        super().__init__(msgspec.json.Decoder(_event_type(names)).decode)
        self._names = {each: names.get(each, each) for each in (*IDS, "behavior_type", "time")}
        self._geohash = names.get("user_geohash", "user_geohash")
        self._options: dict[tuple[bool, ...], Any] = {}

    def columns(self, values: Sequence[bytes | None]) -> DecodedEvents | None:
        """Return all of them as columns, None where any is not as the first is."""
        first = self._event(values[0]) if values and None not in values else None
        if first is None:
            return None
        if plain := read_plain(values, [*self._names.values()]):
            return _columns_of_plain(plain)
        table = json_table(cast(Sequence[bytes], values), self._options_of(first))
        return None if table is None else self._columns(table)

    def whole(self, values: Sequence[bytes | None]) -> WholeEvents | None:
        """Return all of them with all that they have."""
        plain, are_plain = read_each_plain(values, [*self._names.values(), self._geohash])
        if np.count_nonzero(are_plain) < MOSTLY * len(values) and (found := self._whole(values)):
            return found
        return _whole_of_plain(plain, are_plain)

    def _options_of(self, first: Event, *, has_geohash: bool = False) -> Any:
        """Return how events with ids like this one's are read; with their geohashes, if these are texts."""
        kinds = has_geohash, *(isinstance(getattr(first, name), int) for name in IDS)
        if kinds not in self._options:
            types = [pa.int64() if is_number else pa.string() for is_number in kinds[1:]]
            fields = [*zip(self._names.values(), [*types, pa.int64(), pa.int64()], strict=True)]
            schema = pa.schema(fields + [(self._geohash, pa.string())] * has_geohash)
            self._options[kinds] = parse_options(schema)
        return self._options[kinds]

    def _needed(self, table: Any) -> dict[str, Any] | None:
        """Return the columns of a table by what they mean, None where what every event needs is missing."""
        columns = {each: table.column(name).combine_chunks() for each, name in self._names.items()}
        needed = ("user_id", "item_id", "behavior_type", "time")
        return None if any(columns[each].null_count for each in needed) else columns

    def _whole(self, values: Sequence[bytes | None]) -> WholeEvents | None:
        """Return all of them, read by Arrow, None where any is not as the first is."""
        first = self._event(values[0]) if None not in values else None
        if first is None:
            return None
        table = json_table(cast(Sequence[bytes], values), self._options_of(first, has_geohash=True))
        columns = None if table is None else self._needed(table)
        if columns is None:
            return None
        columns["user_geohash"] = table.column(self._geohash).combine_chunks()
        names = ("user_id", "item_id", "item_category", "user_geohash", "event_id")
        kinds = np.empty((len(table), len(names)), np.uint8)
        texts = []
        for number, column in enumerate(columns[name] for name in names):
            kinds[:, number] = NUMBER if column.type == pa.int64() else TEXT
            if column.null_count:
                is_null = numbers_of_column(column.is_null().cast(pa.int8()), np.int8) != 0
                kinds[is_null, number] = MISSING
                column = pc.fill_null(column.cast(pa.string()), "")
            texts.append(texts_of_column(column.cast(pa.string())))
        # A category that is null is passed on as null; where there is none, as "".
        may_be_null = b"null" in payloads_of(values).text.tobytes()
        is_odd = (kinds[:, CATEGORY] == MISSING) & may_be_null
        behaviour, time_ms = (
            numbers_of_column(columns[each], np.int64) for each in ("behavior_type", "time")
        )
        return WholeEvents(texts, kinds, behaviour, time_ms, is_odd)

    def _columns(self, table: Any) -> DecodedEvents | None:
        columns = self._needed(table)
        if columns is None:
            return None
        ids = {each: columns[each].cast(pa.string()) for each in IDS}
        if ids["item_category"].null_count:  # another import of pandas, which most need not wait for
            ids["item_category"] = pc.fill_null(ids["item_category"], "")
        users = ids["user_id"].dictionary_encode()
        return DecodedEvents(
            user_ids=users.dictionary.to_pylist(),
            user=numbers_of_column(users.indices, np.int32).astype(np.int64),
            users=texts_of_column(ids["user_id"]),
            item=texts_of_column(ids["item_id"]),
            category=texts_of_column(ids["item_category"]),
            behaviour=numbers_of_column(columns["behavior_type"], np.int64),
            # A copy, as the fold is compiled for what can be written.
            time_ms=numbers_of_column(columns["time"], np.int64).copy(),
            event_ids=ids["event_id"].to_pylist(),
        )


def _columns_of_plain(plain: PlainObjects) -> DecodedEvents | None:
    """Return the columns of objects with the fields of `_names`, None where Arrow must say what they are."""
    user, item, category, event_id, behaviour, time = range(6)
    are_there = all(plain.are(field, TEXT, NUMBER) for field in (user, item))
    are_numbers = all(plain.are(field, NUMBER) for field in (behaviour, time))
    are_named, are_nameless = plain.are(event_id, TEXT, NUMBER), plain.are(event_id, MISSING, NULL)
    if not (are_there and are_numbers and plain.are(category, MISSING, TEXT, NUMBER, NULL)):
        return None
    if not (are_named or are_nameless):
        return None
    users = plain.texts(user)
    known = column_of_texts(users).dictionary_encode()
    return DecodedEvents(
        user_ids=known.dictionary.to_pylist(),
        user=numbers_of_column(known.indices, np.int32).astype(np.int64),
        users=users,
        item=plain.texts(item),
        category=plain.texts(category),
        behaviour=plain.numbers(behaviour),
        time_ms=plain.numbers(time),
        event_ids=plain.texts(event_id) if are_named else [None] * len(users),
    )


def _whole_of_plain(plain: PlainObjects, are_plain: Flags) -> WholeEvents:
    """Return objects with the fields of `_names`, and the geohash behind them, with all that they have.

    are_plain (E,): the others are odd.
    """
    user, item, category, event_id, behaviour, time, geohash = range(7)
    kinds = plain.kinds
    is_odd = ~are_plain | (kinds == OTHER).any(axis=1)
    for field in (user, item):
        is_odd |= (kinds[:, field] != TEXT) & (kinds[:, field] != NUMBER)
    for field in (behaviour, time):
        is_odd |= kinds[:, field] != NUMBER
    fields = [user, item, category, geohash, event_id]
    texts = [plain.texts(field) for field in fields]
    return WholeEvents(texts, kinds[:, fields], plain.numbers(behaviour), plain.numbers(time), is_odd)


def mapped_names(event_fields: str) -> dict[str, str]:
    """Return the name of each field that has another one, of pairs such as user_id=uid,time=ts."""
    names = dict(pair.split("=", 1) for pair in event_fields.split(",") if "=" in pair)
    known = [each.name for each in msgspec.structs.fields(Event)]
    for name in names:
        if name not in known:
            raise SettingsError(f"TWINTIDE_EVENT_FIELDS maps {name!r}; an event has {', '.join(known)}")
    if event_fields and not names:
        raise SettingsError(
            f"TWINTIDE_EVENT_FIELDS is {event_fields!r}; write pairs such as user_id=uid,time=ts"
        )
    return names


def _event_type(names: Mapping[str, str]) -> type[Event]:
    if not names:
        return Event
    mapped = msgspec.defstruct(
        "MappedEvent",
        [
            (each.name, each.type, msgspec.field(default=each.default, name=names.get(each.name)))
            for each in msgspec.structs.fields(Event)
        ],
        bases=(Event,),
        frozen=True,
        gc=False,
    )
    return cast(type[Event], mapped)
