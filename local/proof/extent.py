"""How much there is to read of a deployment, and up to where it can be judged."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from models.errors import TwintideError
from stream.kafka.group import committed_offsets
from stream.kafka.topics import begin_offsets, changelog_topic, end_offsets, partition_counts, topic_id
from stream.settings import Settings


@dataclass(frozen=True, slots=True)
class OffsetRange:
    """Part of a topic: of each partition the first offset, and the one behind the last."""

    first: Mapping[int, int]
    ends: Mapping[int, int]

    def __len__(self) -> int:
        return sum(max(end - self.first[partition], 0) for partition, end in self.ends.items())


@dataclass(frozen=True, slots=True)
class Extent:
    """What there is to read, as of one moment.

    What the worker's group has committed is in the changelog and in Redis: that much is judged. What comes
    after may be there already, or not.
    """

    topic_id: str
    #: The committed part of the behaviour topic.
    events: OffsetRange
    #: Events after it.
    uncommitted: int
    changelog: OffsetRange
    dead_letters: OffsetRange


def measure(settings: Settings) -> Extent:
    """Ask Kafka how much there is. Raises TwintideError where a topic is missing or nothing is committed."""
    topic, changelog, kafka = settings.topic, changelog_topic(settings.app_id), settings.kafka
    topics = partition_counts(kafka)
    if topic not in topics:
        raise TwintideError(f"there is no topic {topic} at {kafka.bootstrap_servers}: set TWINTIDE_TOPIC")
    if changelog not in topics:
        raise TwintideError(
            f"there is no topic {changelog} at {kafka.bootstrap_servers}: set TWINTIDE_APP_ID to the worker's"
        )
    committed = committed_offsets(kafka, settings.app_id, topic)
    begin, end = begin_offsets(kafka, topic), end_offsets(kafka, topic)
    judged = {
        partition: min(max(committed.get(partition, 0), begin[partition]), end[partition])
        for partition in end
    }
    events = OffsetRange(begin, judged)
    if not len(events):
        raise TwintideError(
            f"group {settings.app_id} has committed none of the {len(OffsetRange(begin, end)):,} events of "
            f"topic {topic}, so nothing can be proved: start a worker, or set TWINTIDE_APP_ID to its own"
        )
    has_dead_letters = settings.dead_letter_topic in topics
    return Extent(
        topic_id=topic_id(kafka, topic),
        events=events,
        uncommitted=len(OffsetRange(judged, end)),
        changelog=whole(settings, changelog),
        dead_letters=whole(settings, settings.dead_letter_topic) if has_dead_letters else OffsetRange({}, {}),
    )


def whole(settings: Settings, topic: str) -> OffsetRange:
    """Return an existing topic as it is now."""
    return OffsetRange(begin_offsets(settings.kafka, topic), end_offsets(settings.kafka, topic))


def wait_until_committed(settings: Settings, timeout_s: float) -> None:
    """Return when the worker's group has committed the end of every partition of the topic."""
    deadline = time.monotonic() + timeout_s
    while True:
        committed = committed_offsets(settings.kafka, settings.app_id, settings.topic)
        ends = end_offsets(settings.kafka, settings.topic)
        behind = sum(max(end - committed.get(partition, 0), 0) for partition, end in ends.items())
        if not behind:
            return
        if time.monotonic() > deadline:
            raise TwintideError(
                f"{behind} events were not committed after {timeout_s:g} s: see the worker's log"
            )
        time.sleep(0.2)
