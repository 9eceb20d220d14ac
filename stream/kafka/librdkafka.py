"""librdkafka's C interface, and confluent-kafka's consumer by it; the only file that knows their structs.

confluent-kafka's objects begin with a pointer to librdkafka's. It is used once that is certain: what is there
says by the C interface that it was made for the very Python object (`rd_kafka_opaque`).
"""

import ctypes
import os
from ctypes import POINTER, byref, c_char_p, c_int, c_int32, c_int64, c_size_t, c_void_p
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakSet

import confluent_kafka
import numpy as np
from confluent_kafka import Consumer

from models.arrays import Ints, Words
from models.librdkafka_loops import (
    Functions,
    destroy_events,
    last_headers,
    take_events,
    timestamps_of,
    words_of,
)
from models.payloads import Payloads
from models.produce_loop import ProduceFunctions

#: What a process has mapped, and its memory: reading what is not mapped there is an error and no crash.
MAPS, MEMORY = Path("/proc/self/maps"), Path("/proc/self/mem")


class Place(ctypes.Structure):
    """How an rd_kafka_topic_partition_t begins."""

    _fields_ = (("topic", c_char_p), ("partition", c_int32), ("offset", c_int64))


#: Each function that is used, by its result and its arguments.
FUNCTIONS = {
    "version_str": (c_char_p,),
    "opaque": (c_void_p, c_void_p),
    "queue_new": (c_void_p, c_void_p),
    "queue_get_main": (c_void_p, c_void_p),
    "queue_get_consumer": (c_void_p, c_void_p),
    "queue_forward": (None, c_void_p, c_void_p),
    "queue_destroy": (None, c_void_p),
    "queue_poll": (c_void_p, c_void_p, c_int),
    "event_error": (c_int, c_void_p),
    "event_error_string": (c_char_p, c_void_p),
    "event_error_is_fatal": (c_int, c_void_p),
    "event_topic_partition": (POINTER(Place), c_void_p),
    "event_message_next": (c_void_p, c_void_p),
    "event_destroy": (None, c_void_p),
    "topic_partition_destroy": (None, POINTER(Place)),
    "message_timestamp": (c_int64, c_void_p, POINTER(c_int)),
    "message_headers": (c_int, c_void_p, POINTER(c_void_p)),
    "header_get_last": (c_int, c_void_p, c_char_p, POINTER(c_void_p), POINTER(c_size_t)),
    "header_get_all": (
        *(c_int, c_void_p, c_size_t),
        *(POINTER(c_char_p), POINTER(c_void_p), POINTER(c_size_t)),
    ),
    # Of a producer of our own (column_producer.py).
    "conf_new": (c_void_p,),
    "conf_set": (c_int, c_void_p, c_char_p, c_char_p, c_char_p, c_size_t),
    "conf_set_events": (None, c_void_p, c_int),
    "conf_destroy": (None, c_void_p),
    "new": (c_void_p, c_int, c_void_p, c_char_p, c_size_t),
    "topic_new": (c_void_p, c_void_p, c_char_p, c_void_p),
    "topic_destroy": (None, c_void_p),
    "produceva": (c_void_p, c_void_p, c_void_p, c_size_t),
    "error_code": (c_int, c_void_p),
    "error_destroy": (None, c_void_p),
    "err2str": (c_char_p, c_int),
    "headers_copy": (c_void_p, c_void_p),
    "headers_destroy": (None, c_void_p),
    "flush": (c_int, c_void_p, c_int),
    "outq_len": (c_int, c_void_p),
    "purge": (c_int, c_void_p, c_int),
    "destroy": (None, c_void_p),
}

#: A NamedTuple of addresses, each named as its function without the rd_kafka_.
Addresses = TypeVar("Addresses", Functions, ProduceFunctions)


class NoLibraryError(Exception):
    """The C interface cannot be used here; the text says why."""


class Queue:
    """What librdkafka has fetched for a consumer, which confluent-kafka does not poll any more.

    Events are taken as they are: what else takes something from the queue may call what confluent-kafka has
    registered for errors, which ends the process where confluent-kafka does not call it itself. What concerns
    the whole client, such as that a broker is down, is led into a queue of its own.
    """

    def __init__(self, consumer: Consumer) -> None:
        """Raises NoLibraryError where the C interface is not there."""
        library = self._library = loaded_library()
        handle = _handle(library, consumer)
        self._consumer = consumer  # which must outlive the queues, and whatever came from them
        self._functions = functions_of(library, Functions)
        self._queue, self._news = (
            library.rd_kafka_queue_get_consumer(handle),
            library.rd_kafka_queue_new(handle),
        )
        main = library.rd_kafka_queue_get_main(handle)
        library.rd_kafka_queue_forward(main, self._news)
        library.rd_kafka_queue_destroy(main)
        self._taken: WeakSet[Messages] = WeakSet()

    def empty(self) -> None:
        """Have confluent-kafka take what concerned the client before that was led away.

        The consumer must have no assignment yet.
        """
        while self._consumer.poll(0) is not None:
            pass

    def take(self, at_most: int, timeout_s: float, most_bytes: int) -> "Messages":
        """Return what is there, at most so much; wait so long for the first."""
        limits = round(timeout_s * 1000), at_most, most_bytes
        taken = Messages(
            self, self._library, self._functions, *take_events(self._functions, self._queue, *limits)
        )
        self._taken.add(taken)
        return taken

    def give_back(self) -> None:
        """Give back all messages that are still held somewhere; none of them can be looked at any more.

        A consumer is not closed before it has all of them.
        """
        for messages in [*self._taken]:
            messages.give_back()

    def fatal_error(self) -> str:
        """Take what concerns the client; return the words of an error that it does not survive, if any."""
        words = ""
        while event := self._library.rd_kafka_queue_poll(self._news, 0):
            if self._library.rd_kafka_event_error_is_fatal(event):
                words = _words(self._library, event)
            self._library.rd_kafka_event_destroy(event)
        return words

    def __del__(self) -> None:
        if hasattr(self, "_news"):
            for queue in (self._queue, self._news):
                self._library.rd_kafka_queue_destroy(queue)


class Messages:
    """M messages of librdkafka's, and errors beside them, which live as long as this does, or `give_back`."""

    def __init__(
        self, queue: Queue, library: ctypes.CDLL, functions: Functions, events: Words, messages: Words
    ) -> None:
        self._queue, self._library, self._functions, self._events = queue, library, functions, events
        #: Errors by code, words, and the partition and the offset that they are about, -1 where they are not.
        self.errors = [_error(library, int(event)) for event in events[messages == 0]]
        self._pointers = messages[messages != 0]
        #: What each is (M, MESSAGE_WORDS).
        self.words = words_of(self._pointers)

    def timestamp(self, place: int) -> tuple[int, int]:
        """Return the kind and the value (epoch ms) of a message's timestamp, as confluent-kafka does."""
        kind = c_int()
        value = int(self._library.rd_kafka_message_timestamp(self._pointer(place), byref(kind)))
        return kind.value, value

    def timestamps(self, places: Ints) -> Ints:
        """Return the timestamps (epoch ms) of the messages at some places (V,)."""
        return timestamps_of(self._functions, self._pointers[places])

    def last_headers(self, name: str, places: Ints) -> Payloads:
        """Return the last header of a name that messages have, those at some places (V,)."""
        return last_headers(self._functions, self._pointers[places], name.encode())

    def addresses(self, places: Ints) -> Words:
        """Return where librdkafka has the messages at some places (V,), as long as this lives."""
        found: Words = self._pointers[places]
        return found

    def headers(self, place: int) -> list[tuple[str, bytes]] | None:
        """Return the headers of a message, None where it has none; what is no UTF-8 in a name is replaced."""
        list_of, name, value, size = c_void_p(), c_char_p(), c_void_p(), c_size_t()
        if self._library.rd_kafka_message_headers(self._pointer(place), byref(list_of)):
            return None
        found: list[Any] = []
        out = byref(name), byref(value), byref(size)
        while not self._library.rd_kafka_header_get_all(list_of, len(found), *out):
            content = ctypes.string_at(value, size.value) if value else None
            found.append(((name.value or b"").decode(errors="replace"), content))
        return found

    def _pointer(self, place: int) -> int:
        return int(self._pointers[place])

    def give_back(self) -> None:
        """Give all messages back to librdkafka."""
        destroy_events(self._functions, self._events)
        self._events, self._pointers = self._events[:0], self._pointers[:0]

    def __del__(self) -> None:
        if hasattr(self, "_events"):
            destroy_events(self._functions, self._events)


def _error(library: ctypes.CDLL, event: int) -> tuple[int, str, int, int]:
    code, words, partition, offset = library.rd_kafka_event_error(event), _words(library, event), -1, -1
    if place := library.rd_kafka_event_topic_partition(event):
        partition, offset = place.contents.partition, place.contents.offset
        library.rd_kafka_topic_partition_destroy(place)
    return code, words, partition, offset


def _words(library: ctypes.CDLL, event: int) -> str:
    return (library.rd_kafka_event_error_string(event) or b"").decode(errors="replace")


def functions_of(library: ctypes.CDLL, kind: type[Addresses]) -> Addresses:
    """Return where functions of the library are."""
    found = (getattr(library, f"rd_kafka_{name}") for name in kind._fields)
    return kind(*(np.uint64(ctypes.cast(each, c_void_p).value or 0) for each in found))


@cache
def loaded_library() -> ctypes.CDLL:
    """Return the library that confluent-kafka has loaded, and no other of that name; else NoLibraryError."""
    try:
        lines = MAPS.read_text().splitlines()
    except OSError as error:
        raise NoLibraryError(f"what is loaded cannot be read: {error}") from error
    paths = {path for line in lines if "librdkafka" in (path := line.split(maxsplit=5)[-1])}
    if len(paths) != 1:
        raise NoLibraryError(f"{len(paths)} libraries are called librdkafka")
    try:
        library = ctypes.CDLL(paths.pop())
        for name, (result, *arguments) in FUNCTIONS.items():
            function = getattr(library, f"rd_kafka_{name}")
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise NoLibraryError(str(error)) from error
    version = library.rd_kafka_version_str().decode()
    if version != confluent_kafka.libversion()[0]:
        raise NoLibraryError(f"it is version {version}, not confluent-kafka's")
    return library


def _handle(library: ctypes.CDLL, consumer: Consumer) -> int:
    """Return librdkafka's object of a consumer: it stands behind what every object of Python begins with."""
    begin = object.__basicsize__
    if type(consumer).__basicsize__ < begin + ctypes.sizeof(c_void_p):
        raise NoLibraryError("a consumer of confluent-kafka is not what it was")
    handle = c_void_p.from_address(id(consumer) + begin).value or 0
    if not _is_mapped(handle) or library.rd_kafka_opaque(handle) != id(consumer):
        raise NoLibraryError("a consumer of confluent-kafka is not what it was")
    return handle


def _is_mapped(address: int) -> bool:
    """Return whether memory can be read at an address."""
    try:
        with MEMORY.open("rb", buffering=0) as memory:
            return len(os.pread(memory.fileno(), 2 * ctypes.sizeof(c_void_p), address)) > 0
    except (OSError, OverflowError):
        return False
