"""The windows that the changelog holds: what a worker would restore after it has lost everything."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from local.proof.sample import UserSample
from models.windows.window import read_header
from offline.warm_start.state import BOOTSTRAP_HEADER


class ChangelogRecord(Protocol):
    """What is needed of a Kafka record (confluent_kafka.Message)."""

    def key(self) -> bytes: ...
    def value(self) -> bytes | None: ...
    def partition(self) -> int: ...
    def headers(self) -> Sequence[tuple[str, bytes]] | None: ...


@dataclass(slots=True)
class StoredWindows:
    """The last window of every checked user, and what the others say of the whole.

    ends: by partition, the offset behind the last event that any window knows; newest_ms: the newest event
    time; bootstrapped: from which offset on the events came after a bootstrap, where there was one.
    """

    topic_id: str
    checked: Collection[bytes]
    sample: UserSample
    values: dict[bytes, bytes] = field(default_factory=dict)
    #: Whose window there is, but no event on the topic: partition and offset of the last one it knows.
    strangers: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)
    newest_ms: dict[int, int] = field(default_factory=dict)
    bootstrapped: dict[int, int] = field(default_factory=dict)
    #: There are windows from before the topic was deleted and made again.
    has_earlier_topic: bool = False

    def read(self, record: ChangelogRecord) -> None:
        """Take the next record. Raises WindowError where its value is no window."""
        key, value, partition = record.key(), record.value(), record.partition()
        if value is None:
            self.values.pop(key, None)
            self.strangers.pop(key, None)
            return
        header = read_header(value)
        if header.topic_id != self.topic_id:
            self.has_earlier_topic = True
        else:
            self.ends[partition] = max(self.ends.get(partition, 0), header.offset + 1)
            if any(name == BOOTSTRAP_HEADER for name, _ in record.headers() or ()):
                self.bootstrapped[partition] = max(self.bootstrapped.get(partition, 0), header.offset + 1)
        self.newest_ms[partition] = max(self.newest_ms.get(partition, 0), header.newest_ms)
        if key in self.checked:
            self.values[key] = value
        elif self.sample.covers(key) and header.topic_id == self.topic_id:
            self.strangers[key] = partition, header.offset
