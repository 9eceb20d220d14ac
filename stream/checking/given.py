"""What stands in a record where a deployment's settings look, before anybody has judged it."""

from collections.abc import Callable
from typing import Any

from models.log.format import LogFormat, read_log_format
from stream.events.format_decoder import FormatDecoder
from stream.events.json_decoder import mapped_names

#: Fields of plain JSON, by what a format calls them.
PLAIN = {
    "user": "user_id",
    "item": "item_id",
    "behaviour": "behavior_type",
    "geohash": "user_geohash",
    "category": "item_category",
    "event_id": "event_id",
    "time": "time",
}

#: Returns the texts of a value, by the names of SOURCES, and its time as it is; None where it is no JSON.
GivenOf = Callable[[bytes | None], tuple[dict[str, str], Any] | None]


def format_of(event_fields: str, event_format: str) -> LogFormat:
    """Return the format by which plain JSON is read, or other JSON by these settings."""
    if event_format:
        return read_log_format(event_format, "TWINTIDE_EVENT_FORMAT")
    mapped = mapped_names(event_fields)
    names: dict[str, Any] = {each: f'"{mapped.get(name, name)}"' for each, name in PLAIN.items()}
    return LogFormat(**names, time_unit="milliseconds")


def given_by(log_format: LogFormat) -> GivenOf:
    """Return what reads the texts and the time of a value where a format looks for them."""
    return FormatDecoder(log_format).given
