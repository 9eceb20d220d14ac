"""Handing records in columns to librdkafka's producer by machine code: no object is made of any.

It calls functions of the library by their addresses, as said by the constants of `ProduceFunctions`.
"""

from typing import NamedTuple

import numpy as np

from models.arrays import Bytes, Flags, Ints, Words
from models.compiled import call_at, compiled, word_at

#: What each argument of rd_kafka_produceva says (rd_kafka_vtype_t), in the order in which they are given, and
#: the words of 64 bits that each has: what it is, its value, and a second part of that.
TOPIC, PARTITION, FLAGS, KEY, VALUE, TIMESTAMP, HEADERS = range(7)
KINDS = (2, 3, 7, 5, 4, 8, 10)
WORDS = 9
#: librdkafka chooses the partition by the key; and it copies the value.
ANY_PARTITION, COPY = 0xFFFFFFFF, 2

#: What of the 64 bits that a C function returns is an int.
_INT = np.uint64(0xFFFFFFFF)


class ProduceFunctions(NamedTuple):
    """Where functions of librdkafka are: those that begin with rd_kafka_ and are called like this."""

    produceva: np.uint64
    error_code: np.uint64
    error_destroy: np.uint64
    message_headers: np.uint64
    headers_copy: np.uint64
    headers_destroy: np.uint64


class Columns(NamedTuple):
    """N records: texts of keys and values, and where each begins and ends (N + 1,); times_ms (N,).

    has_no_value (N,); messages (N,): where librdkafka has the message whose headers each gets, 0 for none.
    """

    keys: Bytes
    key_starts: Ints
    values: Bytes
    value_starts: Ints
    has_no_value: Flags
    times_ms: Ints
    messages: Words


def produce(
    functions: ProduceFunctions, client: int, topic: int, columns: Columns, order: Ints
) -> tuple[int, int]:
    """Hand over the records at some places (P,) in their order; return how many, and why it ended, 0 if done.

    client, topic: where librdkafka has the producer (rd_kafka_t) and the topic (rd_kafka_topic_t). Why: as an
    error of librdkafka; the record behind those handed over was not taken.
    """
    arguments, headers = np.zeros((len(KINDS), WORDS), np.uint64), np.zeros(1, np.uint64)
    arguments[:, 0] = KINDS
    arguments[TOPIC, 1], arguments[PARTITION, 1], arguments[FLAGS, 1] = topic, ANY_PARTITION, COPY
    done, code = _produce(functions, np.uint64(client), columns, order, arguments, headers)
    return int(done), int(code)


@compiled
def _produce(
    functions: ProduceFunctions,
    client: np.uint64,
    columns: Columns,
    order: Ints,
    arguments: Words,
    headers: Words,
) -> tuple[int, int]:
    # All arrays are held by the caller: see models/librdkafka_loops.py.
    keys, values = np.uint64(columns.keys.ctypes.data), np.uint64(columns.values.ctypes.data)
    at_arguments, at_headers = np.uint64(arguments.ctypes.data), np.uint64(headers.ctypes.data)
    for done in range(len(order)):
        row = order[done]
        begin, end = columns.key_starts[row], columns.key_starts[row + 1]
        arguments[KEY, 1], arguments[KEY, 2] = keys + np.uint64(begin), end - begin
        begin, end = columns.value_starts[row], columns.value_starts[row + 1]
        arguments[VALUE, 1], arguments[VALUE, 2] = values + np.uint64(begin), end - begin
        if columns.has_no_value[row]:
            arguments[VALUE, 1] = 0
        arguments[TIMESTAMP, 1] = columns.times_ms[row]
        arguments[HEADERS, 1] = copied = _copy_of_headers(functions, columns.messages[row], at_headers)
        error = call_at(functions.produceva, (client, at_arguments, np.uint64(len(arguments))))
        if error:
            code = int(np.int32(call_at(functions.error_code, (error,)) & _INT))
            call_at(functions.error_destroy, (error,))
            if copied:
                call_at(functions.headers_destroy, (copied,))
            return done, code
    return len(order), 0


@compiled
def _copy_of_headers(functions: ProduceFunctions, message: np.uint64, at_headers: np.uint64) -> np.uint64:
    """Return a copy of a message's headers, which whoever has it must give away, 0 where it has none."""
    if message == 0 or call_at(functions.message_headers, (message, at_headers)) & _INT:
        return np.uint64(0)
    return call_at(functions.headers_copy, (np.uint64(word_at(at_headers)),))  # type: ignore[no-any-return]
