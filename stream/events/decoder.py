"""Which decoder reads the events of a deployment: plain JSON, a format's, or a function of the user's."""

from typing import Protocol

from models.errors import SettingsError
from models.log.format import LogFormat, read_log_format
from models.log.sources import KeyPath
from stream.events.columns import DecodedEvents as DecodedEvents
from stream.events.columns import Decoder as Decoder
from stream.events.columns import WholeEvents as WholeEvents
from stream.events.columns import columns_of_events as columns_of_events
from stream.events.format_decoder import FormatDecoder
from stream.events.function_decoder import FunctionDecoder, named_function
from stream.events.json_decoder import JsonDecoder, mapped_names
from stream.registry.connection import RegistryConnection

EXCLUSIVE = ("TWINTIDE_EVENT_FORMAT", "TWINTIDE_EVENT_FIELDS", "TWINTIDE_EVENT_DECODER")


class DecoderSettings(Protocol):
    """What of the settings says how events are read."""

    @property
    def event_fields(self) -> str: ...
    @property
    def event_decoder(self) -> str: ...
    @property
    def event_format(self) -> str: ...
    @property
    def registry(self) -> RegistryConnection: ...


def decoder_of(settings: DecoderSettings) -> Decoder:
    """Return the decoder of a deployment, which makes one event of a record; errors as `make_decoder`."""
    decoder = decoder_of_parts(settings)
    if each_path_of(decoder):
        raise SettingsError(
            f"{settings.event_format} has each, and a record of a worker's topic is one event: "
            "`python -m stream.rekey --format` makes a topic of them"
        )
    return decoder


def decoder_of_parts(settings: DecoderSettings) -> Decoder:
    """Return what decodes the parts that records are taken apart into, where a format says so, or records."""
    return make_decoder(
        settings.event_fields, settings.event_decoder, settings.event_format, settings.registry
    )


def each_path_of(decoder: Decoder) -> KeyPath:
    """Return the path of the list by which records are taken apart; empty where a record is an event."""
    return decoder.log_format.each_path if isinstance(decoder, FormatDecoder) else ()


def make_decoder(
    event_fields: str,
    event_decoder: str,
    event_format: str = "",
    registry: RegistryConnection = RegistryConnection(),  # noqa: B008
) -> Decoder:
    """Return the decoder that the settings name: a format, a field mapping, a function, or plain JSON.

    Raises SettingsError where they make no sense, or a registry that the format needs does not let us in.
    """
    given = zip(EXCLUSIVE, (event_format, event_fields, event_decoder), strict=True)
    named = [name for name, value in given if value]
    if len(named) > 1:
        raise SettingsError(f"{' and '.join(named)} exclude each other; set one")
    if event_decoder:
        return FunctionDecoder(named_function(event_decoder))
    if event_format:
        return format_decoder(read_log_format(event_format, "TWINTIDE_EVENT_FORMAT"), registry)
    return JsonDecoder(mapped_names(event_fields))


def format_decoder(log_format: LogFormat, registry: RegistryConnection) -> FormatDecoder:
    """Return what reads events by a format; errors as `make_decoder`."""
    if log_format.encoding == "json":
        return FormatDecoder(log_format)
    from stream.events.framed_decoder import FramedDecoder  # a second of imports that few need
    from stream.registry.schemas import Schemas

    schemas = Schemas(registry)
    schemas.check()
    return FramedDecoder(log_format, schemas)
