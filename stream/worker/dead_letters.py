"""Sending what cannot be read to the dead-letter topic, cut short where it is larger than that takes."""

from collections.abc import Iterable

from models.windows.window import MAX_ID_BYTES
from stream import metrics
from stream.dead_letters.letter import own_headers, said_of, size_of
from stream.events.incoming import Record, Rejected
from stream.kafka.producer import AcknowledgedProducer
from stream.worker.source import Topic

#: Bytes that headers and Kafka's own framing may take of a record, beside key and value.
FRAME_BYTES = 4_096


class DeadLetters:
    """The dead-letter topic, as the pipeline writes to it; a checkpoint waits for the acknowledgement."""

    def __init__(self, producer: AcknowledgedProducer, name: str, topic: Topic, record_bytes: int) -> None:
        """Send records of `topic` to the topic `name`, which takes records of `record_bytes` at most."""
        self.name = name
        self._producer = producer
        self._topic = topic
        self._room = record_bytes - FRAME_BYTES

    def send(self, number: int, rejected: Iterable[Rejected]) -> None:
        """Send records of a partition, each with the reason and its place. Raises PublishError."""
        for each in rejected:
            metrics.events_total.labels("malformed").inc()
            metrics.dlq_total.labels(each.reason).inc()
            own = own_headers(each.record)
            room, cut = self._room - size_of(own), {}
            if room < self._room // 2:
                own, room, cut = [], self._room, {"headers_bytes": size_of(own)}
            key, value, sizes = _cut(each.record, room)
            said = said_of(each, self._topic.name, number, cut | sizes)
            self._producer.send(self.name, key, value, headers=own + said)


def _cut(record: Record, room: int) -> tuple[bytes | None, bytes | None, dict[str, int]]:
    """Return key and value as far as there is room for them, and the sizes of what was cut (bytes)."""
    key, value = record.key(), record.value()
    kept_key = key and key[: min(room, MAX_ID_BYTES)]
    kept_value = value and value[: room - len(kept_key or b"")]
    pairs = {"key_bytes": (key, kept_key), "value_bytes": (value, kept_value)}
    cut = {name: len(whole or b"") for name, (whole, kept) in pairs.items() if whole != kept}
    return kept_key, kept_value, cut
