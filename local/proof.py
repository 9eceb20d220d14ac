"""Does what stands in Redis follow from what stands on the topic? Asked of the servers, not of the worker.

Published is the topic's number of records. What became of them is summed from the state that the changelog
holds (every window counts what was folded into it) and from the dead-letter topic. Every user's window is
made once more from the topic alone, by definition instead of by folding, encoded as one batch, and compared
with the vector that a ranker would read.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import numpy as np
import redis
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Message, TopicPartition

from models.artifact import Artifact
from models.errors import TwintideError
from models.events import BEHAVIOURS, MAX_AHEAD_MS, Event, event_hash
from models.features import histories_of_windows
from models.window import Window, WindowSettings, window_from_bytes
from stream.reader import Reader
from stream.settings import Settings
from stream.topics import admin_client, partition_counts

#: Largest difference between a streamed and a batch-encoded vector that counts as equal.
TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Proof:
    """What was found; `is_ok` is the verdict."""

    published: int
    applied: int
    duplicate: int
    late: int
    malformed: int
    vectors: int
    max_difference: float
    #: What contradicts the guarantee, empty where nothing does.
    complaint: str = ""

    @property
    def is_ok(self) -> bool:
        """Return whether everything published is accounted for and every vector is right."""
        return not self.complaint

    def __str__(self) -> str:
        return (
            f"proof: published={self.published} applied={self.applied} duplicate={self.duplicate} "
            f"late={self.late} malformed={self.malformed} vectors={self.vectors} "
            f"max_difference={self.max_difference:.1e} {'OK' if self.is_ok else 'FAILED'}"
        )


def wait_until_committed(settings: Settings, timeout_s: float) -> None:
    """Return when the worker's group has committed the end of every partition of the topic."""
    client = admin_client(settings.kafka)
    consumer = _consumer(settings)
    deadline = time.monotonic() + timeout_s
    request = [ConsumerGroupTopicPartitions(settings.app_id)]
    while True:
        ends = _end_offsets(consumer, settings.topic)
        group = client.list_consumer_group_offsets(request)[settings.app_id].result(timeout=10)
        committed = {
            each.partition: each.offset for each in group.topic_partitions if each.topic == settings.topic
        }
        behind = sum(max(end - max(committed.get(partition, 0), 0), 0) for partition, end in ends.items())
        if not behind:
            consumer.close()
            return
        if time.monotonic() > deadline:
            raise TwintideError(
                f"{behind} events were not committed after {timeout_s:g} s: see the worker's log"
            )
        time.sleep(0.2)


def prove(settings: Settings, artifact: Artifact, client: "redis.Redis", published: int) -> Proof:
    """Compare topic, changelog, dead letters and Redis; `published` is what the producers say they sent."""
    records, windows = _reference(settings, artifact.settings.window)
    stored = _stored_windows(settings)
    malformed = len(
        {(_header(each, "partition"), _header(each, "offset")) for each in dead_letters(settings)}
    )
    applied, duplicate, late = (
        sum(getattr(window, name) for window in stored.values()) for name in ("applied", "duplicate", "late")
    )
    difference, complaint = _compare(settings, artifact, client, windows)
    complaint = _compare_windows(stored, windows) or complaint
    if records != published:
        complaint = f"{published} events were published, the topic holds {records}"
    elif published != applied + duplicate + late + malformed:
        complaint = f"{published} published, {applied + duplicate + late + malformed} accounted for"
    return Proof(published, applied, duplicate, late, malformed, len(windows), difference, complaint)


def _compare_windows(stored: dict[bytes, Window], windows: dict[str, Window]) -> str:
    """Return which window of the changelog is not what the topic's events make it; empty if none."""
    for user_id, expected in windows.items():
        found = stored.get(user_id.encode())
        if found is None:
            return f"the changelog has no window of user {user_id!r}"
        for column in ("times_ms", "behaviours", "item_ids", "categories"):
            if getattr(found, column) != getattr(expected, column):
                return f"the {column} in the window of user {user_id!r} are wrong"
    return ""


def _compare(
    settings: Settings, artifact: Artifact, client: "redis.Redis", windows: dict[str, Window]
) -> tuple[float, str]:
    user_ids = sorted(windows)
    histories = histories_of_windows([windows[user_id] for user_id in user_ids], artifact.vocabulary)
    expected = artifact.encode(histories).user
    found = Reader(client, key_prefix=settings.key_prefix, model=artifact.version).read(user_ids)
    missing = [each.user_id for each in found if each.reason]
    if missing:
        return float("inf"), f"{len(missing)} users have no vector of this model, {missing[0]!r} first"
    differences = (
        np.abs(np.stack([each.vec for each in found]) - expected).max(axis=1) if found else np.zeros(1)
    )
    worst = int(differences.argmax())
    if not differences[worst] <= TOLERANCE:
        return float(differences[worst]), f"the vector of user {user_ids[worst]!r} is wrong"
    return float(differences[worst]), ""


def _reference(settings: Settings, limits: WindowSettings) -> tuple[int, dict[str, Window]]:
    """Return the number of records on the topic, and every user's window by its definition."""
    decoder = msgspec.json.Decoder(Event)
    records = 0
    events: dict[str, list[tuple[int, int, Event]]] = defaultdict(list)
    for message in read_all(settings, settings.topic):
        records += 1
        try:
            event = decoder.decode(message.value() or b"")
        except msgspec.MsgspecError:
            continue
        latest_ms = time.time() * 1000 + MAX_AHEAD_MS
        is_sound = event.behavior_type in BEHAVIOURS and event.item_id != "" and 0 < event.time <= latest_ms
        if is_sound and message.key() == str(event.user_id).encode():
            events[str(event.user_id)].append((event.time, message.offset(), event))
    return records, {user_id: _window(of_user, limits) for user_id, of_user in events.items()}


def _window(of_user: list[tuple[int, int, Event]], limits: WindowSettings) -> Window:
    """Return the last events within the horizon, each event id once, by (time, offset)."""
    first_by_id: dict[str, tuple[int, int, Event]] = {}
    for time_ms, offset, event in sorted(of_user, key=lambda each: each[1]):
        event_id = str(event.event_id) if event.event_id is not None else f"at {offset}"
        first_by_id.setdefault(event_id, (time_ms, offset, event))
    ordered = sorted(first_by_id.values(), key=lambda each: each[:2])
    kept = [each for each in ordered if each[0] >= ordered[-1][0] - limits.horizon_ms][-limits.max_events :]
    return Window(
        times_ms=[time_ms for time_ms, _, _ in kept],
        behaviours=[event.behavior_type for _, _, event in kept],
        item_ids=[str(event.item_id) for _, _, event in kept],
        categories=[str(event.item_category) for _, _, event in kept],
        event_hashes=[event_hash(str(event.event_id)) for _, _, event in kept],
    )


def _stored_windows(settings: Settings) -> dict[bytes, Window]:
    """Return the last value of every key of the changelog."""
    values = {each.key(): each.value() for each in read_all(settings, f"{settings.app_id}-windows-changelog")}
    return {key: window_from_bytes(value) for key, value in values.items() if value is not None}


def dead_letters(settings: Settings) -> Iterator[Message]:
    for message in read_all(settings, settings.dead_letter_topic):
        if _header(message, "topic") == settings.topic.encode():
            yield message


def _header(message: Message, name: str) -> bytes:
    headers: dict[str, bytes] = dict(message.headers() or ())
    return headers.get(name, b"")


def _consumer(settings: Settings) -> Consumer:
    return Consumer(
        {
            **settings.kafka.librdkafka(),
            "group.id": "twintide-proof",
            "enable.auto.commit": False,
            "fetch.queue.backoff.ms": 10,
            "log_level": 2,
        }
    )


def _end_offsets(consumer: Consumer, topic: str) -> dict[int, int]:
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    return {
        partition: consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)[1]
        for partition in partitions
    }


def read_all(settings: Settings, topic: str) -> Iterator[Message]:
    """Yield every record of a topic, each partition's in order, up to its end as it is now."""
    if topic not in partition_counts(settings.kafka):
        return
    consumer = _consumer(settings)
    ends = {partition: end for partition, end in _end_offsets(consumer, topic).items() if end}
    # Reading ends by position, not by the last record: compaction and transactions leave gaps in the offsets.
    consumer.assign([TopicPartition(topic, partition, 0) for partition in ends])
    try:
        while ends:
            yield from consumer.consume(10_000, timeout=0.2)
            for position in consumer.position([TopicPartition(topic, partition) for partition in ends]):
                if position.offset >= ends[position.partition]:
                    del ends[position.partition]
    finally:
        consumer.close()
