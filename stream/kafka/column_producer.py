"""Producing records from columns by librdkafka's C interface: no object is made of any.

The producer is one of our own beside confluent-kafka's: a record of the latter that is handed over by the C
interface would fail without a word, as reports are told for confluent-kafka's own records alone.
"""

import ctypes
from collections.abc import Mapping

import numpy as np

from models.arrays import Ints, Words
from models.errors import TwintideError, UnreachableError
from models.librdkafka_loops import ERROR, Functions, destroy_events, take_events, words_of
from models.payloads import Payloads
from models.produce_loop import Columns, ProduceFunctions, produce
from stream.kafka.librdkafka import functions_of, loaded_library

#: Of librdkafka: a kind of client; the events that are asked for, which say what has not arrived; what is
#: taken back of records on their way; an error that passes once others have arrived.
PRODUCER, REPORTS, ALL_ON_THEIR_WAY, QUEUE_FULL = 0, 1, 3, -184
#: How long one wait for room, and one for what is on its way, are at most (ms).
ROOM_MS, FLUSH_MS = 10, 100
#: Reports taken at once, and room for words of librdkafka's (bytes).
REPORTS_AT_ONCE, WORDS_BYTES = 100, 512


class ColumnProducer:
    """Sends records to a topic in order; what has not arrived is an error, at the latest of `arrived`."""

    def __init__(self, settings: Mapping[str, str | int | float | bool], topic: str) -> None:
        """settings: librdkafka's; only failures must be reported. Raises NoLibraryError, as `Queue` does."""
        library = self._library = loaded_library()
        self._functions = functions_of(library, ProduceFunctions)
        self._event_functions = functions_of(library, Functions)
        self._client = _client(library, settings)
        self._reports = library.rd_kafka_queue_get_main(self._client)
        self._topic = library.rd_kafka_topic_new(self._client, topic.encode(), None)

    def send(self, keys: Payloads, values: Payloads, times_ms: Ints, messages: Words, order: Ints) -> None:
        """Send of N records, in columns, those at some places (P,) in their order.

        times_ms (N,), 0 for now; messages (N,): where librdkafka has the message whose headers each gets.
        Raises UnreachableError where one was refused, of these or, where there is no room, of those before.
        """
        columns = Columns(
            *(keys.text, keys.starts, values.text, values.starts, values.is_null, times_ms, messages)
        )
        while True:
            done, code = produce(self._functions, self._client, self._topic, columns, order)
            order = order[done:]
            if not code:
                return
            if code != QUEUE_FULL:
                raise self._error(code)
            self._refuse_failures(ROOM_MS)

    def arrived(self) -> None:
        """Return once all that was sent has arrived; UnreachableError where something has not."""
        while self._library.rd_kafka_outq_len(self._client):  # every record arrives or fails in time
            self._library.rd_kafka_flush(self._client, FLUSH_MS)
            self._refuse_failures(0)

    def close(self) -> None:
        """Let go of the client, and of what has not arrived."""
        self._library.rd_kafka_purge(self._client, ALL_ON_THEIR_WAY)
        self._library.rd_kafka_topic_destroy(self._topic)
        self._library.rd_kafka_queue_destroy(self._reports)
        self._library.rd_kafka_destroy(self._client)

    def _refuse_failures(self, timeout_ms: int) -> None:
        """Raise UnreachableError if a record is said to have failed, waiting so long for the first report."""
        limits = timeout_ms, REPORTS_AT_ONCE, np.iinfo(np.int64).max
        events, messages = take_events(self._event_functions, self._reports, *limits)
        codes = words_of(messages[messages != 0])[:, ERROR].astype(np.int32)
        destroy_events(self._event_functions, events)
        if len(failed := codes[codes != 0]):
            raise self._error(int(failed[0]))

    def _error(self, code: int) -> UnreachableError:
        words = self._library.rd_kafka_err2str(code).decode(errors="replace")
        return UnreachableError(f"Kafka did not take a record: {words}")


def _client(library: ctypes.CDLL, settings: Mapping[str, str | int | float | bool]) -> int:
    """Return a new client that produces. Raises TwintideError where librdkafka cannot do what is set."""
    words = ctypes.create_string_buffer(WORDS_BYTES)
    configuration = library.rd_kafka_conf_new()
    for name, value in settings.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        if library.rd_kafka_conf_set(configuration, name.encode(), text.encode(), words, WORDS_BYTES):
            library.rd_kafka_conf_destroy(configuration)
            raise TwintideError(f"librdkafka does not take the setting {name}")  # its value may be secret
    library.rd_kafka_conf_set_events(configuration, REPORTS)
    client = library.rd_kafka_new(PRODUCER, configuration, words, WORDS_BYTES)
    if not client:
        library.rd_kafka_conf_destroy(configuration)
        raise TwintideError(f"librdkafka cannot produce: {words.value.decode(errors='replace')}")
    return int(client)
