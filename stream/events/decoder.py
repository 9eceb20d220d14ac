"""Which decoder reads the events of a deployment: plain JSON, a format's, or a function of the user's."""

from typing import Protocol

from models.errors import SettingsError
from models.log.format import read_log_format
from stream.events.columns import DecodedEvents as DecodedEvents
from stream.events.columns import Decoder as Decoder
from stream.events.columns import columns_of_events as columns_of_events
from stream.events.format_decoder import FormatDecoder
from stream.events.function_decoder import FunctionDecoder, named_function
from stream.events.json_decoder import JsonDecoder, mapped_names

EXCLUSIVE = ("TWINTIDE_EVENT_FORMAT", "TWINTIDE_EVENT_FIELDS", "TWINTIDE_EVENT_DECODER")


class DecoderSettings(Protocol):
    """What of the settings says how events are read."""

    @property
    def event_fields(self) -> str: ...
    @property
    def event_decoder(self) -> str: ...
    @property
    def event_format(self) -> str: ...


def decoder_of(settings: DecoderSettings) -> Decoder:
    """Return the decoder of a deployment; errors as `make_decoder`."""
    return make_decoder(settings.event_fields, settings.event_decoder, settings.event_format)


def make_decoder(event_fields: str, event_decoder: str, event_format: str = "") -> Decoder:
    """Return the decoder that the settings name: a format, a field mapping, a function, or plain JSON."""
    given = zip(EXCLUSIVE, (event_format, event_fields, event_decoder), strict=True)
    named = [name for name, value in given if value]
    if len(named) > 1:
        raise SettingsError(f"{' and '.join(named)} exclude each other; set one")
    if event_decoder:
        return FunctionDecoder(named_function(event_decoder))
    if event_format:
        return FormatDecoder(read_log_format(event_format, "TWINTIDE_EVENT_FORMAT"))
    return JsonDecoder(mapped_names(event_fields))
