"""librdkafka's events and messages, taken and looked into by machine code: no object is made of any.

It calls functions of the library by their addresses, as said by the constants of `Functions`.
"""

from typing import NamedTuple

import numpy as np

from models.arrays import Bytes, Ints, Words
from models.compiled import call_at, compiled, copy_to, word_at
from models.payloads import Payloads

#: Words of 64 bits of a message; partition is the lower half of its word.
MESSAGE_WORDS = 8
ERROR, TOPIC, PARTITION, PAYLOAD, LENGTH, KEY, KEY_LENGTH, OFFSET = range(MESSAGE_WORDS)
#: What of the 64 bits that a C function returns is an int.
_INT = np.uint64(0xFFFFFFFF)


class Functions(NamedTuple):
    """Where functions of librdkafka are: those that begin with rd_kafka_ and are called like this."""

    queue_poll: np.uint64
    event_message_next: np.uint64
    event_destroy: np.uint64
    message_timestamp: np.uint64
    message_headers: np.uint64
    header_get_last: np.uint64


def take_events(
    functions: Functions, queue: int, timeout_ms: int, at_most: int, most_bytes: int
) -> tuple[Words, Words]:
    """Return what is in a queue: E events, to be destroyed, and the message of each, 0 where it has none.

    At most so many, and no more once their values have so many bytes. Waits so long for the first.
    """
    events, messages = np.zeros(at_most, np.uint64), np.zeros(at_most, np.uint64)
    found = _take_events(functions, np.uint64(queue), np.uint64(timeout_ms), most_bytes, events, messages)
    return events[:found].copy(), messages[:found].copy()


def destroy_events(functions: Functions, events: Words) -> None:
    """Give events back, and their messages."""
    _destroy_events(functions, events)


def words_of(messages: Words) -> Ints:
    """Return what messages (M,) are (M, MESSAGE_WORDS)."""
    words = np.empty((len(messages), MESSAGE_WORDS), np.int64)
    _read_words(messages, words)
    words[:, PARTITION] = words[:, PARTITION].astype(np.int32)
    return words


def payloads_at(addresses: Ints, lengths: Ints) -> Payloads:
    """Return copies of the bytes at V addresses, so many at each (V,); null where the address is 0."""
    is_null = addresses == 0
    starts = np.zeros(len(addresses) + 1, np.int64)
    np.cumsum(np.where(is_null, 0, lengths), out=starts[1:])
    text = np.empty(starts[-1], np.uint8)
    _copy(addresses.view(np.uint64), starts, text)
    text.setflags(write=False)  # as all texts: the loops are compiled for that
    return Payloads(text, starts, is_null)


def timestamps_of(functions: Functions, messages: Words) -> Ints:
    """Return the timestamp of each message (V,), epoch ms, -1 where it has none."""
    found = np.empty(len(messages), np.int64)
    _read_timestamps(functions, messages, np.zeros(1, np.uint64), found)
    return found


def last_headers(functions: Functions, messages: Words, name: bytes) -> Payloads:
    """Return the last header of a name that each message (V,) has, null where it has none."""
    found = np.zeros((2, len(messages)), np.int64)
    out = np.zeros(3, np.uint64)
    _find_headers(functions, messages, np.frombuffer(name + b"\0", np.uint8), out, found)
    return payloads_at(found[0], found[1])


def compile_loops() -> None:
    """Compile all of this, or load it: no record should wait for that."""
    functions, none = Functions(*[np.uint64(0)] * len(Functions._fields)), np.zeros(0, np.uint64)
    take_events(functions, 0, 0, 0, 0)
    destroy_events(functions, none)
    words_of(none)
    timestamps_of(functions, none)
    last_headers(functions, none, b"")


@compiled
def _take_events(
    functions: Functions,
    queue: np.uint64,
    timeout_ms: np.uint64,
    room: int,
    events: Words,
    messages: Words,
) -> int:
    found = 0
    while found < len(events) and room > 0:
        event = call_at(functions.queue_poll, (queue, timeout_ms))
        if event == 0:
            break
        events[found] = event
        messages[found] = message = call_at(functions.event_message_next, (event,))
        if message != 0:
            room -= word_at(message + np.uint64(8 * LENGTH))
        timeout_ms = np.uint64(0)
        found += 1
    return found


@compiled
def _destroy_events(functions: Functions, events: Words) -> None:
    for row in range(len(events)):
        call_at(functions.event_destroy, (events[row],))


@compiled
def _read_words(messages: Words, words: Ints) -> None:
    for row in range(len(messages)):
        for column in range(words.shape[1]):
            words[row, column] = word_at(messages[row] + np.uint64(8 * column))


@compiled
def _copy(addresses: Words, starts: Ints, text: Bytes) -> None:
    begin = np.uint64(text.ctypes.data)
    for row in range(len(addresses)):
        copy_to(begin + np.uint64(starts[row]), addresses[row], starts[row + 1] - starts[row])


@compiled
def _read_timestamps(functions: Functions, messages: Words, kind: Words, found: Ints) -> None:
    # Held by the caller: of its own arrays compiled code lets go once it reads them no more, by name.
    at_kind = np.uint64(kind.ctypes.data)
    for row in range(len(messages)):
        found[row] = np.int64(call_at(functions.message_timestamp, (messages[row], at_kind)))


@compiled
def _find_headers(functions: Functions, messages: Words, name: Bytes, out: Words, found: Ints) -> None:
    # out (3,): the headers; a header's value, and its size; held by the caller, as above.
    place, at_name = np.uint64(out.ctypes.data), np.uint64(name.ctypes.data)
    value, size = place + np.uint64(8), place + np.uint64(16)
    for row in range(len(messages)):
        if call_at(functions.message_headers, (messages[row], place)) & _INT:
            continue
        headers = np.uint64(word_at(place))
        if call_at(functions.header_get_last, (headers, at_name, value, size)) & _INT == 0:
            found[0, row], found[1, row] = word_at(value), word_at(size)
