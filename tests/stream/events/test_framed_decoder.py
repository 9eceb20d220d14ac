"""Events by the schemas of a real registry: the same format reads the same, whatever the encoding is."""

import io
import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import fastavro
import numpy as np
import pytest
from fastavro.utils import generate_many
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import settings as with_settings
from hypothesis import strategies as st

from local.registry import RegistryServer
from models.events import SKIPPED_EVENT, Event
from models.log.format import read_log_format
from stream.events.avro_reader import AvroReader
from stream.events.columns import REFUSED, reason_refused
from stream.events.decoder import format_decoder, make_decoder
from stream.events.format_decoder import FormatDecoder
from stream.events.incoming import complaint
from stream.registry.connection import RegistryConnection
from stream.registry.protobuf_files import descriptor_pool
from stream.registry.schemas import Schemas

pytestmark = pytest.mark.integration

FORMAT = """
encoding = "{encoding}"
user = "{{shop}}:{{payload.user.id}}"
item = "payload.item"
category = ["payload.category", "payload.labels.category"]
geohash = ""
behaviour = "action"
time = "at"
event_id = "id"
[behaviours]
look = "view"
take = "buy"
scroll = "skip"
"""
START_MS = 1_417_000_000_000
#: Writes an event with one of the schemas.
Write = Callable[[dict[str, Any]], bytes]
ENCODINGS = ("avro", "protobuf", "json-schema")
LATEST_MS = 2_000_000_000_000

USER: dict[str, Any] = {"type": "record", "name": "User", "fields": [{"name": "id", "type": "int"}]}
PAYLOAD: list[dict[str, Any]] = [
    {"name": "user", "type": USER},
    {"name": "item", "type": "string"},
    {"name": "category", "type": ["null", "string"], "default": None},
    {"name": "labels", "type": {"type": "map", "values": "string"}, "default": {}},
    {"name": "seen", "type": {"type": "array", "items": "long"}, "default": []},
]
ACTION = {"type": "enum", "name": "Action", "symbols": ["look", "take", "scroll", "rate"]}
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}


def record(*fields: dict[str, Any], payload: Sequence[dict[str, Any]] = PAYLOAD) -> str:
    """Return a schema of Avro."""
    inner = {"name": "payload", "type": {"type": "record", "name": "Payload", "fields": [*payload]}}
    return json.dumps({"type": "record", "name": "Click", "namespace": "shop", "fields": [*fields, inner]})


ID, SHOP = {"name": "id", "type": "string"}, {"name": "shop", "type": "string"}
AT, ACT = {"name": "at", "type": MILLIS}, {"name": "action", "type": ACTION}
LONG_USER: dict[str, Any] = {"name": "user", "type": USER | {"fields": [{"name": "id", "type": "long"}]}}
#: The first schema; a later one with fields moved, added, removed, and a long for an int; one without users.
AVRO = {
    "first": record(ID, SHOP, AT, ACT),
    "later": record(
        ACT, {"name": "page", "type": "string", "default": ""}, AT, SHOP, ID,
        payload=[PAYLOAD[1], PAYLOAD[3], LONG_USER],
    ),
    "no user": record(ID, SHOP, AT, ACT, payload=PAYLOAD[1:]),
    "lie": record(ID, {"name": "shop", "type": "boolean"}, AT, ACT),
}  # fmt: skip

PROTO = """
syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
message Other {{ int64 nothing = 1; }}
message Click {{
  {fields}
  message Payload {{ {payload} }}
  message User {{ {number} id = 1; }}
  enum Action {{ look = 0; take = 1; scroll = 2; rate = 3; }}
}}
"""
FIELDS = (
    "string id = 1; {shop} shop = 2; google.protobuf.Timestamp at = 3;"
    " Action action = 4; Payload payload = 5;"
)
ITEM, CATEGORY = "string item = 2;", "optional string category = 3;"
LABELS = "map<string, string> labels = 4; repeated int64 seen = 5;"


def proto(payload: str, number: str = "int32", shop: str = "string", more: str = "") -> str:
    return PROTO.format(fields=FIELDS.format(shop=shop) + more, payload=payload, number=number)


PROTOBUF = {
    "first": proto(f"User user = 1; {ITEM} {CATEGORY} {LABELS}"),
    "later": proto(f"{LABELS} {ITEM} User user = 1;", number="int64", more="string page = 9;"),
    "no user": proto(f"{ITEM} {CATEGORY} {LABELS}"),
    "lie": proto(f"User user = 1; {ITEM} {CATEGORY} {LABELS}", shop="double"),
}


def json_schema(user: Any, shop: str = "string", **fields: Any) -> str:
    payload = {"type": "object", "properties": {"item": {"type": "string"}} | user}
    properties = {"shop": {"type": shop}, "at": {"type": "integer"}, "payload": payload} | fields
    return json.dumps({"type": "object", "properties": properties, "required": ["shop"]})


JSON = {
    "first": json_schema({"user": {"type": "object"}}),
    "later": json_schema({"user": {"type": "object"}}, page={"type": "string"}),
    "no user": json_schema({}),
    "lie": json_schema({}, shop="number"),
}
SCHEMAS = {"avro": AVRO, "protobuf": PROTOBUF, "json-schema": JSON}
KINDS = {"avro": "AVRO", "protobuf": "PROTOBUF", "json-schema": "JSON"}


def click(number: int, **fields: Any) -> dict[str, Any]:
    """Return an event as plain JSON has it."""
    payload = {"user": {"id": 1 + number % 7}, "item": f"ü{number % 5}"}
    payload |= (
        {"category": f"c{number % 3}"} if number % 2 else {"labels": {"a": "b", "category": "labelled"}}
    )
    action = ("look", "take", "scroll")[number % 3]
    at = START_MS + number * 1_000
    return {"id": f"e{number}", "shop": "eu", "action": action, "at": at, "payload": payload} | fields


def avro_payload(schema: str, event: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, fastavro.parse_schema(json.loads(schema)), event)
    return buffer.getvalue()


@cache
def click_of(schema: str) -> Any:
    """Return the class of a schema's events."""
    pool, _ = descriptor_pool(schema, {})
    return GetMessageClass(pool.FindMessageTypeByName("shop.Click"))


def protobuf_payload(schema: str, event: dict[str, Any]) -> bytes:
    message = click_of(schema)()
    fields = {name for name in message.Payload.DESCRIPTOR.fields_by_name}
    payload = {name: value for name, value in event["payload"].items() if name in fields}
    whole, milliseconds = divmod(event["at"], 1_000)
    at = {"seconds": whole, "nanos": milliseconds * 1_000_000}
    return bytes(type(message)(**event | {"payload": payload, "at": at}).SerializeToString())


class Registered:
    """The schemas of an encoding in the registry, and what writes events with them."""

    def __init__(self, encoding: str, connection: RegistryConnection, folder: Path) -> None:
        self.encoding = encoding
        file = folder / f"{encoding}.toml"
        file.write_text(FORMAT.format(encoding=encoding))
        self.format = read_log_format(str(file))
        schemas, subject = Schemas(connection), uuid4().hex
        self.ids = {
            name: schemas.register(f"{subject}-{number}", text, KINDS[encoding])
            for number, (name, text) in enumerate(SCHEMAS[encoding].items())
        }
        self.decoder = format_decoder(self.format, connection)

    def head(self, name: str) -> bytes:
        """Return what stands before a payload."""
        place = b"\4\2" if self.encoding == "protobuf" else b""  # of one message in the file: the second
        place = place and b"\2\2"
        return b"\0" + self.ids[name].to_bytes(4, "big") + place

    def write(self, event: dict[str, Any], name: str = "first") -> bytes:
        """Return the value of an event."""
        schema = SCHEMAS[self.encoding][name]
        if self.encoding == "avro":
            return self.head(name) + avro_payload(schema, event)
        if self.encoding == "protobuf":
            return self.head(name) + protobuf_payload(schema, event)
        return self.head(name) + json.dumps(event, ensure_ascii=False).encode()


@pytest.fixture(scope="module", params=ENCODINGS)
def registered(
    request: pytest.FixtureRequest,
    registry_server: RegistryServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Registered:
    """Give each encoding's schemas."""
    connection = RegistryConnection(registry_server.url)
    return Registered(request.param, connection, tmp_path_factory.mktemp("formats"))


def expected(events: Sequence[dict[str, Any]], tmp: Path) -> list[Event | None]:
    """Return what the same format makes of plain JSON."""
    (tmp / "json.toml").write_text(FORMAT.format(encoding="json"))
    decoder = make_decoder("", "", str(tmp / "json.toml"))
    return decoder.events([json.dumps(each).encode() for each in events])


def without(event: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return an event that lacks some of its payload."""
    payload = {name: value for name, value in event["payload"].items() if name not in names}
    return event | {"payload": payload}


def reasons(events: Sequence[Event | None]) -> list[str]:
    """Return what a worker has to say of events that are well keyed, empty where it applies or skips them."""
    return [
        ""
        if each is SKIPPED_EVENT
        else complaint(each, str(each.user_id).encode() if each else b"", LATEST_MS)
        for each in events
    ]


def test_the_same_format_reads_the_same_events_whatever_the_encoding(
    registered: Registered, tmp_path: Path
) -> None:
    clicks = [click(number) for number in range(100)]
    found = registered.decoder.events([registered.write(each) for each in clicks])
    assert found == expected(clicks, tmp_path)
    assert found[2] is SKIPPED_EVENT
    assert isinstance(registered.decoder, FormatDecoder)
    given = registered.decoder.given(registered.write(clicks[3]))
    assert given is not None
    texts, time = given
    assert (texts["user"], texts["item"], texts["behaviour"]) == ("eu:4", "ü3", "look")
    assert clicks[3]["at"] == (time if isinstance(time, int) else time.timestamp() * 1_000)
    assert "shop" in registered.decoder.paths_in(registered.write(clicks[3]))


def test_schemas_evolve_while_events_of_all_of_them_come(registered: Registered, tmp_path: Path) -> None:
    clicks, values = [click(number) for number in range(60)], []
    for number, event in enumerate(clicks):
        if number % 2:
            event = clicks[number] = without(event, "category")
            event["payload"]["user"] = {"id": 2**31 + number if registered.encoding != "json-schema" else 5}
            clicks[number] = event
        named = {"page": "new"} if number % 2 else {}
        values.append(registered.write(event | named, "later" if number % 2 else "first"))
    found = registered.decoder.events(values)
    assert found == expected(clicks, tmp_path)
    kept = [value for value, event in zip(values, found, strict=True) if event is not SKIPPED_EVENT]
    columns = registered.decoder.columns(kept)
    assert columns is not None and columns.places is None
    assert columns.time_ms.tolist() == [each.time for each in found if each and each is not SKIPPED_EVENT]
    dropped = registered.write(without(click(1), "user"), "no user")
    assert reasons(registered.decoder.events([*values[:2], dropped])) == ["", "", "no_user"]


def malformed(registered: Registered) -> dict[str, tuple[bytes | None, str]]:
    """Return values that are no events, and why."""
    good, head = registered.write(click(1)), registered.head("first")
    is_proto, is_avro = registered.encoding == "protobuf", registered.encoding == "avro"
    other = {"avro": b"\0" + good[1:5] + b"\xff" * 20, "protobuf": head + b"\xff" * 20}
    found = {
        "no value": (None, "frame"),
        "empty": (b"", "frame"),
        "plain JSON": (json.dumps(click(1)).encode(), "frame"),
        "cut in the frame": (good[:3], "frame"),
        "another magic byte": (b"\1" + good[1:], "frame"),
        "unknown id": (b"\0\x7f\xff\xff\xfe" + good[5:], "schema"),
        "an id below 0": (b"\0\xff\xff\xff\xff" + good[5:], "schema"),
        "cut in the payload": (good[:-3], "payload"),
        "more behind it": (good + b"\x07", "payload"),
        "no UTF-8": (good.replace("ü".encode(), b"\xc3\xff"), "payload"),
        "garbage": (other.get(registered.encoding, head + b"\xff" * 20), "payload"),
        "of another type": (registered.head("lie") + good[len(head) :], "payload"),
        "no item": (registered.write(click(1, payload=click(1)["payload"] | {"item": ""})), "no_item"),
        "another behaviour": (registered.write(click(1, action="rate")), "behaviour"),
        "before 1970": (registered.write(click(1, at=-5_000)), "time"),
    }
    if is_proto:  # a field of another type is one that nobody knows, as the format has it: missing
        found["of another type"] = (found["of another type"][0], "no_user")
        found["no such message"] = (head[:5] + b"\2\x0c" + good[len(head) :], "schema")
        found["no place of a message"] = (head[:5] + b"\xff" * 9, "frame")
    if is_avro:
        found["an enum's number"] = (good[:-1] + b"\x7f", "payload")
    return found


def test_each_malformed_kind_is_refused_for_its_reason_and_the_rest_is_read(
    registered: Registered, tmp_path: Path
) -> None:
    clicks = [click(number) for number in range(40)]
    good, bad = [registered.write(each) for each in clicks], malformed(registered)
    values = [*good[:20], *(value for value, _ in bad.values()), *good[20:]]
    events = registered.decoder.events(values)
    found = dict(zip(bad, reasons(events[20 : 20 + len(bad)]), strict=True))
    assert found == {name: reason for name, (_, reason) in bad.items()}
    assert events[:20] + events[20 + len(bad) :] == expected(clicks, tmp_path)
    assert registered.decoder.columns(values) is None
    alone = [registered.decoder.events([value])[0] for value, _ in bad.values()]
    assert reasons(alone) == [*found.values()]
    nothing = registered.decoder.columns([])  # what is left of a fetch in which nothing can be read
    assert nothing is not None and len(nothing.time_ms) == len(nothing.event_ids) == 0
    assert reason_refused(REFUSED["schema"]) == "schema" and not reason_refused(Event("", "", 0, 0))


def test_schema_of_another_encoding_is_of_no_use(registry_server: RegistryServer, tmp_path: Path) -> None:
    connection = RegistryConnection(registry_server.url)
    avro, json_kind = (Registered(each, connection, tmp_path) for each in ("avro", "json-schema"))
    (event,) = avro.decoder.events([json_kind.write(click(1))])
    assert event is REFUSED["schema"]


VALUES = st.sampled_from(["null", "boolean", "int", "long", "float", "double", "string", "bytes"])
SCHEMA = st.recursive(
    VALUES | st.just({"type": "enum", "symbols": ["a", "b"]}) | st.just({"type": "fixed", "size": 3}),
    lambda inner: (
        inner.map(
            lambda each: {
                "type": "array",
                "items": ["null", each] if isinstance(each, str) and each != "null" else "int",
            }
        )
        | inner.map(lambda each: {"type": "map", "values": each})
        | st.lists(inner, max_size=3).map(
            lambda some: {
                "type": "record",
                "fields": [{"name": f"f{n}", "type": one} for n, one in enumerate(some)],
            }
        )
    ),
    max_leaves=6,
)


def named(schema: Any, counter: list[int]) -> Any:
    """Return a schema in which every type that needs a name has one of its own."""
    if isinstance(schema, list):
        return [named(each, counter) for each in schema]
    if not isinstance(schema, dict):
        return schema
    counter[0] += 1
    found = (
        {**schema, "name": f"n{counter[0]}"} if schema["type"] in ("enum", "fixed", "record") else {**schema}
    )
    for inner in ("items", "values"):
        if inner in found:
            found[inner] = named(found[inner], counter)
    if "fields" in found:
        found["fields"] = [{**each, "type": named(each["type"], counter)} for each in found["fields"]]
    return found


@with_settings(max_examples=25)
@given(st.lists(SCHEMA, min_size=1, max_size=4), st.integers(0, 2**32), st.data())
def test_machine_code_reads_what_fastavro_writes_and_nothing_of_what_is_cut(
    types: list[Any], seed: int, data: st.DataObject
) -> None:
    counter = [0]
    fields = [{"name": f"f{place}", "type": named(each, counter)} for place, each in enumerate(types)]
    schema = {"type": "record", "name": "whole", "fields": [*fields, {"name": "last", "type": "string"}]}
    parsed = fastavro.parse_schema(schema)
    np.random.seed(seed % 2**32)
    event = next(iter(generate_many(parsed, 1)))
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, parsed, event)
    payload = buffer.getvalue()
    reader = AvroReader(json.dumps(schema), (), [("last",)], ("time",), "auto")
    found = reader.fields([b"\0\0\0\0\1" + payload])
    assert found.texts[("last",)].to_pylist() == [event["last"]] and not found.refused
    cut = data.draw(st.integers(0, len(payload) - 1))
    assert reader.fields([b"\0\0\0\0\1" + payload[:cut]]).refused == {0: "payload"}
    assert reader.fields([b"\0\0\0\0\1" + payload + b"\0"]).refused == {0: "payload"}
