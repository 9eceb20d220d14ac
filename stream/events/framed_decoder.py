"""Reading events that were written with a registry's schemas: a 0, the schema's id, and the payload."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from models.arrays import Ints
from models.events import Event
from models.log.format import LogFormat
from models.payloads import payloads_of
from stream.events.columns import REFUSED, DecodedEvents, WholeEvents
from stream.events.fields import Fields, SchemaReader, SchemaSource, joined_fields, no_fields
from stream.events.format_decoder import FormatDecoder
from stream.registry.schemas import RegisteredSchema

logger = logging.getLogger(__name__)

#: What stands before a payload: 0, and the schema's id in four bytes.
FRAME_BYTES = 5
#: What a registry calls the encodings.
KINDS = {"avro": "AVRO", "protobuf": "PROTOBUF", "json-schema": "JSON"}
#: How often the log says that a schema cannot be used (s).
SAY_EVERY_S = 60.0

#: Makes what reads the values of a schema.
MakeReader = Callable[[RegisteredSchema], SchemaReader]


class FramedDecoder(FormatDecoder):
    """Decodes values by the schema that each names; its calls raise RegistryDownError."""

    def __init__(self, log_format: LogFormat, schemas: SchemaSource) -> None:
        super().__init__(log_format)
        self.schemas = schemas
        self._make = self._maker(log_format.encoding)
        self._readers: dict[bytes, SchemaReader] = {}
        self._unusable: dict[bytes, str] = {}
        self._said_s = -SAY_EVERY_S

    def columns(self, values: Sequence[bytes | None]) -> DecodedEvents | None:
        """Return those not to be skipped as columns, None where any is refused."""
        fields = self._read(values)
        return None if fields.refused else self.decoded_columns(self.together(fields, len(values)))

    def whole(self, values: Sequence[bytes | None]) -> WholeEvents | None:
        """Return those not to be skipped with all that they have; what is refused is odd."""
        fields = self._read(values)
        found = self.whole_events(self.together(fields, len(values)))
        places = np.arange(len(values)) if found.places is None else found.places
        return replace(found, is_odd=np.isin(places, [*fields.refused]))

    def events(self, values: Sequence[bytes | None]) -> list[Event | None]:
        """Return each event, SKIPPED_EVENT for what is to be skipped, of REFUSED for what cannot be read."""
        if not values:
            return []
        fields = self._read(values)
        events = self.decoded_events(self.together(fields, len(values)), len(values))
        for place, reason in fields.refused.items():
            events[place] = REFUSED[reason]
        return events

    def given(self, value: bytes | None) -> tuple[dict[str, str], Any] | None:
        """Return the texts of a value, by the names of SOURCES, and its time as it is; None of no payload."""
        fields = self._read([value])
        if value is None or fields.refused:
            return None
        texts = {path: column[0].as_py() or "" for path, column in fields.texts.items()}
        return self.texts_of(texts.__getitem__), self._readers[value[:FRAME_BYTES]].time_of(value)

    def paths_in(self, value: bytes | None) -> Sequence[str]:
        """Return the paths that there are in a value, as a format names them."""
        reader = self._reader((value or b"")[:FRAME_BYTES])
        return () if value is None or isinstance(reader, str) else reader.paths_in(value)

    def _read(self, values: Sequence[bytes | None]) -> Fields:
        """Return what stands in values of any schemas."""
        if not values:
            return no_fields(self.text_paths, [])
        values = payloads_of(values)
        head = values.common(0, FRAME_BYTES)
        if head is not None and not isinstance(reader := self._reader(head), str):
            return reader.fields(cast(Sequence[bytes], values))
        heads = [b"" if value is None else value[:FRAME_BYTES] for value in values]
        rows: dict[bytes, Ints] = {}
        if len(kinds := set(heads)) == 1:
            rows[heads[0]] = np.arange(len(heads))
        else:
            places: dict[bytes, list[int]] = {head: [] for head in kinds}
            for place, head in enumerate(heads):
                places[head].append(place)
            rows = {head: np.array(some, np.int64) for head, some in places.items()}
        parts = []
        for head, some in rows.items():
            reader = self._reader(head)
            if isinstance(reader, str):
                parts.append(no_fields(self.text_paths, [reader] * len(some)))
            else:
                of_schema = values if len(some) == len(values) else [values[place] for place in some.tolist()]
                parts.append(reader.fields(of_schema))  # type: ignore[arg-type]
        return joined_fields(parts, [*rows.values()])

    def _reader(self, head: bytes) -> SchemaReader | str:
        """Return what reads the values that begin like this, or why nothing does."""
        if head in self._readers:
            return self._readers[head]
        if len(head) < FRAME_BYTES or head[0]:
            return "frame"
        if head in self._unusable:
            return "schema"
        schema_id = int.from_bytes(head[1:], "big", signed=True)
        schema = self.schemas.schema(schema_id)
        if schema is None:
            self._say(schema_id, "the registry has no such schema")
            return "schema"
        try:
            if schema.kind != KINDS[self.log_format.encoding]:
                raise ValueError(f"it is of type {schema.kind}")
            self._readers[head] = self._make(schema)
        except (
            Exception
        ) as error:  # a schema is data, and each library has errors of its own for what is none
            self._unusable[head] = str(error)
            self._say(schema_id, str(error))
            return "schema"
        return self._readers[head]

    def _say(self, schema_id: int, why: str) -> None:
        """Log why a schema cannot be used, but not for each of many."""
        if time.monotonic() - self._said_s >= SAY_EVERY_S:
            self._said_s = time.monotonic()
            logger.warning(
                "schema %d cannot be used for encoding %r: %.300s", schema_id, self.log_format.encoding, why
            )

    def _maker(self, encoding: str) -> MakeReader:
        """Return what makes readers of an encoding; only then are its libraries imported."""
        wanted = (self.text_paths, self.log_format.time_path, self.log_format.time_unit)
        if encoding == "avro":
            from stream.events.avro_reader import AvroReader, compile_avro

            compile_avro()
            return lambda schema: AvroReader(schema.text, [*schema.all_references().values()], *wanted)
        if encoding == "protobuf":
            from stream.events.protobuf_reader import ProtobufReader

            numbers = self.log_format.source("behaviour").paths
            return lambda schema: ProtobufReader(schema.text, schema.all_references(), *wanted, numbers)
        from stream.events.json_schema_reader import JsonSchemaReader

        return lambda schema: JsonSchemaReader(schema.text, schema.all_references(), *wanted)
