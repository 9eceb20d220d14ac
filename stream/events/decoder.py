"""Reading events: the JSON of the topic, other people's JSON, or a decoder of their own."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import count
from typing import Any, Protocol, cast

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from models.arrays import Ints
from models.errors import SettingsError
from models.events import Event
from models.ids.texts import Texts, texts_of

#: What Arrow accepts as a number and JSON does not.
NO_NUMBER = re.compile(rb"[:,\[]\s*-?(NaN|Inf)")

#: Fields of an event that are ids: text, or numbers that mean the same as their text.
IDS = ("user_id", "item_id", "item_category", "event_id")


@dataclass(frozen=True, slots=True)
class DecodedEvents:
    """E events as they were sent: whether they make sense is not checked yet (incoming.py does).

    user (E,) the event's place in `user_ids`, which stand in the order of their first events; users, item,
    category: E texts each; behaviour, time_ms (E,) int64; event_ids: None where there is none.
    """

    user_ids: list[str]
    user: Ints
    users: Texts
    item: Texts
    category: Texts
    behaviour: Ints
    time_ms: Ints
    event_ids: list[str | None]


class Decoder(Protocol):
    """Turns the values of records into events."""

    def columns(self, values: Sequence[bytes | None]) -> DecodedEvents | None:
        """Return all of them as columns, None where that cannot be: then `events` says what each is."""

    def events(self, values: Sequence[bytes | None]) -> list[Event | None]:
        """Return each event, None for what cannot be read."""


def make_decoder(event_fields: str, event_decoder: str) -> Decoder:
    """Return the decoder that the settings name: a field mapping, a `module:function`, or plain JSON."""
    if event_fields and event_decoder:
        raise SettingsError("TWINTIDE_EVENT_FIELDS and TWINTIDE_EVENT_DECODER exclude each other; set one")
    if event_decoder:
        return OneByOne(_named_decoder(event_decoder))
    return JsonDecoder(_mapping(event_fields))


class OneByOne:
    """Decodes value by value, with a function of the user's."""

    def __init__(self, decode: Callable[[bytes], Event]) -> None:
        self._decode = decode

    def columns(self, values: Sequence[bytes | None]) -> DecodedEvents | None:
        """Return None: a function knows one value at a time."""
        return None

    def events(self, values: Sequence[bytes | None]) -> list[Event | None]:
        """Return each event, None for what cannot be read."""
        return [self._event(value) for value in values]

    def _event(self, value: bytes | None) -> Event | None:
        try:
            event = self._decode(value or b"")
        except Exception:  # a decoder of the user's may raise anything; an event is data, never a crash
            return None
        is_whole = isinstance(event, Event) and type(event.time) is type(event.behavior_type) is int
        return event if is_whole else None


class JsonDecoder(OneByOne):
    """Decodes all values together into columns, outside the interpreter lock."""

    def __init__(self, names: Mapping[str, str]) -> None:
        super().__init__(msgspec.json.Decoder(_event_type(names)).decode)
        self._names = {each: names.get(each, each) for each in (*IDS, "behavior_type", "time")}
        self._options: dict[tuple[bool, ...], pyarrow.json.ParseOptions] = {}

    def columns(self, values: Sequence[bytes | None]) -> DecodedEvents | None:
        """Return all of them as columns, None where any is not as the first is.

        The values become lines of one text. Each must begin and end with a brace, so that none can swallow
        the next: nowhere in JSON do two braces stand `}` newline `{` but between two values.
        """
        first = self._event(values[0]) if values and None not in values else None
        if first is None:
            return None
        lines = b"\n".join(cast(Sequence[bytes], values))
        # Searching for one byte is ten times as fast as searching for three.
        if (b"N" in lines or b"I" in lines) and NO_NUMBER.search(lines):
            return None
        text = np.frombuffer(lines, np.uint8)
        lengths = np.fromiter(map(len, values), np.int64, len(values))  # type: ignore[arg-type]
        if lengths.min() < len(b"{}"):
            return None
        ends = np.cumsum(lengths + 1)
        starts = np.concatenate(([0], ends[:-1]))
        if not ((text[starts] == ord("{")).all() and (text[ends - 2] == ord("}")).all()):
            return None
        try:
            table = pyarrow.json.read_json(
                pa.BufferReader(lines),
                read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=len(lines) + 1),
                parse_options=self._options_of(first),
            )
            lines.decode()  # Arrow takes any bytes for text
            return self._columns(table) if len(table) == len(values) else None
        except (pa.ArrowException, UnicodeDecodeError, OverflowError):
            return None

    def _options_of(self, first: Event) -> "pyarrow.json.ParseOptions":
        """Return how events with ids like this one's are read."""
        are_numbers = tuple(isinstance(getattr(first, name), int) for name in IDS)
        if are_numbers not in self._options:
            types = [pa.int64() if is_number else pa.string() for is_number in are_numbers]
            names = [*self._names.values()]
            self._options[are_numbers] = pyarrow.json.ParseOptions(
                explicit_schema=pa.schema(zip(names, [*types, pa.int64(), pa.int64()], strict=True)),
                unexpected_field_behavior="ignore",
            )
        return self._options[are_numbers]

    def _columns(self, table: "pa.Table") -> DecodedEvents | None:
        columns = {each: table.column(name).combine_chunks() for each, name in self._names.items()}
        if any(columns[each].null_count for each in ("user_id", "item_id", "behavior_type", "time")):
            return None
        ids = {each: columns[each].cast(pa.string()) for each in IDS}
        if ids["item_category"].null_count:  # another import of pandas, which most need not wait for
            ids["item_category"] = pc.fill_null(ids["item_category"], "")
        users = ids["user_id"].dictionary_encode()
        return DecodedEvents(
            user_ids=users.dictionary.to_pylist(),
            user=_numbers(users.indices, np.int32).astype(np.int64),
            users=_texts(ids["user_id"]),
            item=_texts(ids["item_id"]),
            category=_texts(ids["item_category"]),
            behaviour=_numbers(columns["behavior_type"], np.int64),
            # A copy, as the fold is compiled for what can be written.
            time_ms=_numbers(columns["time"], np.int64).copy(),
            event_ids=ids["event_id"].to_pylist(),
        )


def columns_of_events(events: Sequence[Event]) -> DecodedEvents:
    """Return the columns of events that make sense."""
    user_ids = [str(event.user_id) for event in events]
    numbers = dict(zip(dict.fromkeys(user_ids), count(), strict=False))
    event_ids = [event.event_id for event in events]
    return DecodedEvents(
        user_ids=list(numbers),
        user=np.array([numbers[user_id] for user_id in user_ids], np.int64),
        users=texts_of(user_ids),
        item=texts_of([str(event.item_id) for event in events]),
        category=texts_of([event.category for event in events]),
        behaviour=np.array([event.behavior_type for event in events], np.int64),
        time_ms=np.array([event.time for event in events], np.int64),
        event_ids=[None if event_id is None else str(event_id) for event_id in event_ids],
    )


def _numbers(column: "pa.Array", kind: type[np.signedinteger[Any]]) -> npt.NDArray[Any]:
    """Return the numbers of a column without nulls, which share its memory.

    The column's own `to_numpy` imports pandas: a quarter of a second, and 50 MB.
    """
    _, content = column.buffers()
    return np.frombuffer(content, kind)[column.offset : column.offset + len(column)]


def _texts(column: "pa.StringArray") -> Texts:
    """Return the texts of a column without nulls, which share its memory."""
    _, offsets, content = column.buffers()
    starts = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1].astype(
        np.int64
    )
    text = np.frombuffer(content if content is not None else b"", np.uint8)
    text.setflags(write=False)  # as all texts: the fold is compiled for that
    return Texts(text[starts[0] : starts[-1]], starts - starts[0])


def _event_type(names: Mapping[str, str]) -> type[Event]:
    if not names:
        return Event
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
    return cast(type[Event], mapped)


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


def _named_decoder(name: str) -> Callable[[bytes], Event]:
    module_name, _, function_name = name.partition(":")
    try:
        return cast(Callable[[bytes], Event], getattr(import_module(module_name), function_name))
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(
            f"TWINTIDE_EVENT_DECODER is {name!r}, which cannot be loaded ({error}); write module:function"
        ) from error
