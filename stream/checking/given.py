"""What stands in a record where a deployment's settings look, before anybody has judged it."""

from collections.abc import Sequence
from typing import Any, Protocol

from models.log.format import LogFormat, read_log_format
from stream.events.columns import Decoder
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


class Given(Protocol):
    """Reads what stands in a value."""

    def given(self, value: bytes | None) -> tuple[dict[str, str], Any] | None:
        """Return its texts, by the names of SOURCES, and its time as it is; None where it cannot be read."""

    def paths_in(self, value: bytes | None) -> Sequence[str]:
        """Return the paths that there are, as a format names them."""


def format_of(event_fields: str, event_format: str) -> LogFormat:
    """Return the format by which plain JSON is read, or other JSON by these settings."""
    if event_format:
        return read_log_format(event_format, "TWINTIDE_EVENT_FORMAT")
    mapped = mapped_names(event_fields)
    names: dict[str, Any] = {each: f'"{mapped.get(name, name)}"' for each, name in PLAIN.items()}
    return LogFormat(**names, time_unit="milliseconds")


def given_by(decoder: Decoder, event_fields: str, event_format: str) -> Given:
    """Return what reads values where settings look that have this decoder, and no function."""
    return (
        decoder
        if isinstance(decoder, FormatDecoder)
        else FormatDecoder(format_of(event_fields, event_format))
    )
