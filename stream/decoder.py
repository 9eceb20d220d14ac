"""Reading events: the JSON of the topic, other people's JSON, or a decoder of their own."""

from collections.abc import Callable
from importlib import import_module
from typing import cast

import msgspec

from models.errors import SettingsError
from models.events import Event

#: Turns a record's value into an event; msgspec.MsgspecError or ValueError where it cannot.
Decode = Callable[[bytes], Event]


def make_decoder(event_fields: str, event_decoder: str) -> Decode:
    """Return the decoder that the settings name: a field mapping, a `module:function`, or plain JSON."""
    if event_fields and event_decoder:
        raise SettingsError("TWINTIDE_EVENT_FIELDS and TWINTIDE_EVENT_DECODER exclude each other; set one")
    if event_decoder:
        return _named_decoder(event_decoder)
    return _json_decoder(_mapping(event_fields))


def _json_decoder(names: dict[str, str]) -> Decode:
    if not names:
        return msgspec.json.Decoder(Event).decode
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
    return cast(Decode, msgspec.json.Decoder(mapped).decode)


def _mapping(event_fields: str) -> dict[str, str]:
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


def _named_decoder(name: str) -> Decode:
    module_name, _, function_name = name.partition(":")
    try:
        return cast(Decode, getattr(import_module(module_name), function_name))
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(
            f"TWINTIDE_EVENT_DECODER is {name!r}, which cannot be loaded ({error}); write module:function"
        ) from error
