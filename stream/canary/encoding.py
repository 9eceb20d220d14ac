"""The canary's events as the worker reads them: JSON, with other field names, or by a function of yours."""

from collections.abc import Callable
from importlib import import_module
from typing import cast

import msgspec

from models.errors import SettingsError
from models.events import Event
from stream.events.decoder import Decoder
from stream.settings import Settings

#: Turns an event into the value of its record.
Encoder = Callable[[Event], bytes]


def make_encoder(settings: Settings, decoder: Decoder, name: str) -> Encoder:
    """Return what writes events as the decoder reads them; `name` is a `module:function`, empty: none.

    Raises SettingsError where the decoder does not read what it writes.
    """
    encoder = _named(name) if name else _json(settings.event_fields)
    probe = Event("user", "item", 1, 1_417_000_000_000, event_id="id")
    (read,) = decoder.events([encoder(probe)])
    if read is None or msgspec.structs.asdict(read) != msgspec.structs.asdict(probe):
        raise SettingsError(
            "workers with these settings do not read what the canary would write: give --event-encoder "
            "module:function, which takes a models.events.Event and returns the value of its record (bytes)"
        )
    return encoder


def _json(event_fields: str) -> Encoder:
    names = dict(pair.split("=", 1) for pair in event_fields.split(",") if "=" in pair)

    def encode(event: Event) -> bytes:
        fields = msgspec.structs.asdict(event)
        return msgspec.json.encode({names.get(name, name): value for name, value in fields.items()})

    return encode


def _named(name: str) -> Encoder:
    module_name, _, function_name = name.partition(":")
    try:
        return cast(Encoder, getattr(import_module(module_name), function_name))
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(
            f"--event-encoder is {name!r}, which cannot be loaded ({error}); write module:function"
        ) from error
