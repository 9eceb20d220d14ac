"""Sending what cannot be read to the dead-letter topic, cut short where it is larger than that takes."""

from collections.abc import Iterable

from models.windows.window import MAX_ID_BYTES
from stream import metrics
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
            key, value, sizes = self._cut(each.record)
            headers = {
                "reason": each.reason,
                "topic": self._topic.name,
                "partition": str(number),
                "offset": str(each.record.offset()),
                **sizes,
            }
            encoded = [(name, text.encode()) for name, text in headers.items()]
            self._producer.send(self.name, key, value, headers=encoded)

    def _cut(self, record: Record) -> tuple[bytes | None, bytes | None, dict[str, str]]:
        """Return key and value as far as there is room for them, and the sizes of what was cut (bytes)."""
        key, value = record.key(), record.value()
        sizes = {"key_bytes": len(key or b""), "value_bytes": len(value or b"")}
        kept_key = key and key[: min(self._room, MAX_ID_BYTES)]
        kept_value = value and value[: self._room - len(kept_key or b"")]
        kept = {"key_bytes": len(kept_key or b""), "value_bytes": len(kept_value or b"")}
        cut = {name: str(size) for name, size in sizes.items() if size > kept[name]}
        return kept_key, kept_value, cut
