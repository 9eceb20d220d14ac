"""Columns of events -> plain JSON, byte for byte what one event by itself becomes."""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.arrays import Bytes, Ints
from models.ids.texts import Texts
from models.json_objects import BARE, NULL, QUOTED, json_objects
from models.payloads import Payloads
from models.plain_json import MISSING, NUMBER, TEXT
from models.plain_json import NULL as IS_NULL
from stream.events.columns import (
    CATEGORY,
    EVENT_ID,
    GEOHASH,
    ITEM,
    USER,
    WholeEvents,
    column_of_numbers,
    column_of_texts,
    texts_of_column,
)

#: What stands between an event's id and its number among the events of its record, where that is not 0.
PART = "-"


class Origins(NamedTuple):
    """Where E events come from.

    source: names topic and partition; offsets (E,) of their records; numbers (E,): how many events of the
    same record stand before each.
    """

    source: str
    offsets: Ints
    numbers: Ints


def keys_of(events: WholeEvents) -> Payloads:
    """Return the keys: the users."""
    users = events.texts[USER]
    return Payloads(users.text, users.starts, np.zeros(len(users), np.bool_))


def values_of(events: WholeEvents, origins: Origins) -> Payloads:
    """Return the values; what has no id is known by where it comes from.

    An event that has all that the default format wants is passed on as it is: numbers stay numbers.
    """
    has_geohash = _is_given(events, GEOHASH)
    stays = ~has_geohash & (events.kinds[:, EVENT_ID] == TEXT)
    are_bare = np.full(len(events), BARE, np.uint8)

    def as_given(field: int) -> tuple[Texts, Bytes]:
        kinds = events.kinds[:, field]
        how = np.where(stays & (kinds == NUMBER), BARE, QUOTED)
        how[stays & (kinds == IS_NULL)] = NULL
        return events.texts[field], how.astype(np.uint8)

    return json_objects(
        {
            "user_id": as_given(USER),
            "item_id": as_given(ITEM),
            "behavior_type": (_digits(events.behaviour), are_bare),
            "time": (_digits(events.time_ms), are_bare),
            "item_category": as_given(CATEGORY),
            "user_geohash": (events.texts[GEOHASH], np.where(has_geohash, QUOTED, NULL).astype(np.uint8)),
            "event_id": (_ids(events, origins), np.full(len(events), QUOTED, np.uint8)),
        }
    )


def _is_given(events: WholeEvents, field: int) -> Any:
    kinds = events.kinds[:, field]
    return (kinds != MISSING) & (kinds != IS_NULL)


def _ids(events: WholeEvents, origins: Origins) -> Texts:
    """Return each event's own id, or its place where it has none; both numbered behind the record's first."""
    ids = _record_ids(events, origins)
    if not origins.numbers.any():
        return ids
    numbers = column_of_numbers(origins.numbers)
    suffixes = pc.binary_join_element_wise("", numbers.cast(pa.string()), PART)
    return texts_of_column(
        pc.binary_join_element_wise(column_of_texts(ids), pc.if_else(pc.equal(numbers, 0), "", suffixes), "")
    )


def _record_ids(events: WholeEvents, origins: Origins) -> Texts:
    is_given = _is_given(events, EVENT_ID)
    if is_given.all():
        return events.texts[EVENT_ID]
    offsets = column_of_numbers(origins.offsets).cast(pa.string())
    places = pc.binary_join_element_wise(origins.source, offsets, "/")
    if not is_given.any():
        return texts_of_column(places)
    given = column_of_texts(events.texts[EVENT_ID])
    return texts_of_column(
        pc.if_else(column_of_numbers(is_given.astype(np.int64)).cast(pa.bool_()), given, places)
    )


def _digits(numbers: Ints) -> Texts:
    return texts_of_column(column_of_numbers(numbers).cast(pa.string()))
