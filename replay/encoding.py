"""Events of a replay as Avro or Protobuf, with the frame of a schema registry, which gets their schema."""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from stream.registry.connection import RegistryConnection
from stream.registry.schemas import Schemas

#: What --encode may be.
ENCODINGS = ("json", "avro", "protobuf")

#: The events of plain JSON, field by field.
AVRO = json.dumps(
    {
        "type": "record",
        "name": "Event",
        "namespace": "twintide",
        "fields": [
            {"name": "event_id", "type": "string"},
            {"name": "user_id", "type": "string"},
            {"name": "item_id", "type": "string"},
            {"name": "behavior_type", "type": "int"},
            {"name": "user_geohash", "type": ["null", "string"], "default": None},
            {"name": "item_category", "type": "string", "default": ""},
            {"name": "time", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        ],
    }
)
PROTOBUF = """\
syntax = "proto3";
package twintide;

message Event {
  string event_id = 1;
  string user_id = 2;
  string item_id = 3;
  int32 behavior_type = 4;
  optional string user_geohash = 5;
  string item_category = 6;
  int64 time = 7;
}
"""

#: Turns values of plain JSON into others.
Encode = Callable[[Sequence[bytes]], list[bytes]]


def make_encode(encoding: str, registry: RegistryConnection, topic: str) -> Encode | None:
    """Return what encodes the values of a topic, None for JSON; the registry gets the schema.

    Raises SettingsError where no registry is named or it does not take the schema, UnreachableError where it
    is down.
    """
    if encoding == "json":
        return None
    schemas = Schemas(registry)
    text, kind = (AVRO, "AVRO") if encoding == "avro" else (PROTOBUF, "PROTOBUF")
    return encoder(encoding, schemas.register(f"{topic}-value", text, kind))


def encoder(encoding: str, schema_id: int) -> Encode:
    """Return what encodes values of plain JSON by the schema of an id."""
    is_avro = encoding == "avro"
    write = _avro_writer() if is_avro else _protobuf_writer()
    head = b"\0" + schema_id.to_bytes(4, "big") + (b"" if is_avro else b"\0")
    return lambda values: [head + _payload(value, write) for value in values]


def _payload(value: bytes, write: Callable[[Mapping[str, Any]], bytes]) -> bytes:
    """Return a value encoded; one that was spoiled on purpose is no payload either."""
    try:
        event = msgspec.json.decode(value)
    except msgspec.DecodeError:
        return value
    return write(event)


def _avro_writer() -> Callable[[Mapping[str, Any]], bytes]:
    import fastavro

    schema = fastavro.parse_schema(json.loads(AVRO))

    def write(event: Mapping[str, Any]) -> bytes:
        buffer = io.BytesIO()
        fastavro.schemaless_writer(buffer, schema, event)
        return buffer.getvalue()

    return write


def _protobuf_writer() -> Callable[[Mapping[str, Any]], bytes]:
    from google.protobuf.message_factory import GetMessageClass

    from stream.registry.protobuf_files import descriptor_pool

    pool, _ = descriptor_pool(PROTOBUF, {})
    message = GetMessageClass(pool.FindMessageTypeByName("twintide.Event"))
    return lambda event: bytes(message(**event).SerializeToString())
