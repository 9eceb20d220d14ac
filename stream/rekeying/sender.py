"""Events and dead letters on their way to their topics."""

from models.arrays import Words
from stream.events.incoming import Rejected
from stream.kafka.column_producer import ColumnProducer
from stream.kafka.connection import KafkaConnection
from stream.kafka.records import Records
from stream.rekeying.producer import KeyedProducer, producer_settings
from stream.rekeying.rekeyed import KeyedEvents

#: Bytes of a dead letter's value at most: with its headers it must still be a record.
DEAD_LETTER_BYTES = 900_000


class Sender:
    """Sends in order; what has not arrived is an UnreachableError, at the latest of `arrived`.

    Events go as columns where their records came as such, by librdkafka's C interface, else one by one.
    """

    def __init__(self, kafka: KafkaConnection, topic: str, dead_letter_topic: str) -> None:
        self._kafka, self._topic, self._dead_letter_topic = kafka, topic, dead_letter_topic
        self._producer = KeyedProducer(kafka)
        #: Made when the first columns are there.
        self._columns: ColumnProducer | None = None

    def send(self, events: KeyedEvents, records: Records) -> None:
        """Send what records became."""
        if records.addresses is not None:
            self._send_columns(events, records.addresses)
            return
        keys, values, times_ms, places = [*events.keys], [*events.values], events.times_ms, events.places
        for at in events.order.tolist():
            headers = records.each[int(places[at])].headers() or []
            self._producer.send(self._topic, keys[at], values[at], headers, int(times_ms[at]))

    def _send_columns(self, events: KeyedEvents, addresses: Words) -> None:
        if self._columns is None:
            self._columns = ColumnProducer(producer_settings(self._kafka), self._topic)
        columns = events.keys, events.values, events.times_ms, addresses[events.places]
        self._columns.send(*columns, events.order)

    def reject(self, source: str, partition: int, rejected: Rejected) -> None:
        """Send a record to the dead letters, cut short where it and its headers would be too long."""
        record = rejected.record
        headers = {
            "reason": rejected.reason,
            "topic": source,
            "partition": str(partition),
            "offset": str(record.offset()),
        }
        value = record.value()
        if value is not None and len(value) > DEAD_LETTER_BYTES:
            headers["size"], value = str(len(value)), value[:DEAD_LETTER_BYTES]
        named = [(name, text.encode()) for name, text in headers.items()]
        self._producer.send(self._dead_letter_topic, record.key(), value, named)

    def arrived(self) -> None:
        """Return once all that was sent has arrived."""
        self._producer.arrived()
        if self._columns is not None:
            self._columns.arrived()

    def close(self) -> None:
        """Send no more; what has not arrived may not."""
        if self._columns is not None:
            self._columns.close()
