"""Which records of the topic a worker could not read: what the dead-letter topic says."""

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from confluent_kafka import Message

from local.proof.extent import OffsetRange
from local.proof.findings import Apart, Findings
from stream.kafka.topic_reader import read_all, read_between
from stream.settings import Settings

#: Partition and offset of a record of the behaviour topic.
Place = tuple[int, int]


@dataclass(slots=True)
class DeadLetters:
    """Where a topic's dead letters come from: offsets by partition, eight bytes each."""

    offsets: dict[int, "array[int]"] = field(default_factory=lambda: defaultdict(lambda: array("q")))
    #: Those that were too far ahead of the worker's clock, which nobody can judge later.
    too_early: set[Place] = field(default_factory=set)
    #: Older dead letters are gone.
    has_lost: bool = False

    def compare(self, unreadable: Iterable[Place], findings: Findings) -> None:
        """Note which unreadable records have no dead letter."""
        by_partition: dict[int, list[int]] = defaultdict(list)
        for partition, offset in unreadable:
            by_partition[partition].append(offset)
        missing = [
            (partition, int(offset))
            for partition, offsets in sorted(by_partition.items())
            for offset in np.setdiff1d(offsets, self.offsets[partition])
        ]
        for partition, offset in missing:
            if self.has_lost:
                findings.set_apart(Apart.DEAD_LETTER_EXPIRED)
            else:
                findings.differ(
                    f"the event at offset {offset} of partition {partition} is unreadable, and the "
                    "dead-letter topic does not have it"
                )


def read_dead_letters(settings: Settings, offsets: OffsetRange) -> DeadLetters:
    """Return where the topic's dead letters come from."""
    found = DeadLetters(has_lost=any(offsets.first.values()))
    messages = read_between(settings.kafka, settings.dead_letter_topic, offsets.first, offsets.ends)
    for message in _of_topic(settings, messages):
        headers = _headers(message)
        partition, offset = int(headers["partition"]), int(headers["offset"])
        found.offsets[partition].append(offset)
        if headers["reason"] == b"time":
            found.too_early.add((partition, offset))
    return found


def dead_letters(settings: Settings) -> Iterator[Message]:
    """Yield the dead letters of the topic, oldest first within a partition."""
    return _of_topic(settings, read_all(settings.kafka, settings.dead_letter_topic))


def _of_topic(settings: Settings, messages: Iterable[Message]) -> Iterator[Message]:
    for message in messages:
        if _headers(message).get("topic") == settings.topic.encode():
            yield message


def _headers(message: Message) -> dict[str, bytes]:
    headers: Sequence[tuple[str, bytes]] = message.headers() or ()
    return dict(headers)
