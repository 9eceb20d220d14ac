"""Columns of events -> plain JSON, byte for byte what one event by itself becomes."""

from typing import Any

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


def keys_of(events: WholeEvents) -> Payloads:
    """Return the keys: the users."""
    users = events.texts[USER]
    return Payloads(users.text, users.starts, np.zeros(len(users), np.bool_))


def values_of(events: WholeEvents, offsets: Ints, source: str) -> Payloads:
    """Return the values; what has no id is known by its offset (E,) in the source.

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
            "event_id": (_ids(events, offsets, source), np.full(len(events), QUOTED, np.uint8)),
        }
    )


def _is_given(events: WholeEvents, field: int) -> Any:
    kinds = events.kinds[:, field]
    return (kinds != MISSING) & (kinds != IS_NULL)


def _ids(events: WholeEvents, offsets: Ints, source: str) -> Texts:
    """Return each event's own id, or its place where it has none."""
    is_given = _is_given(events, EVENT_ID)
    if is_given.all():
        return events.texts[EVENT_ID]
    places = pc.binary_join_element_wise(source, column_of_numbers(offsets).cast(pa.string()), "/")
    if not is_given.any():
        return texts_of_column(places)
    given = column_of_texts(events.texts[EVENT_ID])
    return texts_of_column(
        pc.if_else(column_of_numbers(is_given.astype(np.int64)).cast(pa.bool_()), given, places)
    )


def _digits(numbers: Ints) -> Texts:
    return texts_of_column(column_of_numbers(numbers).cast(pa.string()))
