"""`python -m stream.repartition`: move windows to where their users' events are since partitions were added.

A user's events come on partition murmur2(user id) mod n. Where n has grown, the changelog gets as many
partitions, and the windows of users who have moved are copied there, or put into those that they have there
already; then their old places get tombstones. It may be killed at any moment, and be started again: a topic
beside the changelog says that it is not finished, and keeps workers from starting meanwhile.
"""

import asyncio
import os
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import click
from confluent_kafka import Message

from models.command import log_to_stderr
from models.errors import SettingsError, TwintideError
from models.windows.merge import merge
from models.windows.window import Window, WindowSettings, window_from_bytes, window_to_bytes
from stream.command import ServerCommand
from stream.encoding.live_models import ArtifactSource
from stream.kafka.group import committed_offsets, has_members
from stream.kafka.partitioner import partition_of
from stream.kafka.producer import AcknowledgedProducer
from stream.kafka.record_size import record_bytes
from stream.kafka.topic_reader import read_between
from stream.kafka.topics import (
    add_partitions,
    begin_offsets,
    changelog_topic,
    delete_topic,
    end_offsets,
    ensure_topic,
    partition_counts,
    repartition_marker,
    topic_state,
)
from stream.settings import Settings
from stream.store.clients import redis_client
from stream.store.keys import TOPIC_EPOCHS_KEY
from stream.store.model_registry import ModelRegistry
from stream.windows.changelog import take_from_workers
from stream.windows.moves import Move, write_move

#: Header of what a move writes: windows at their new places, tombstones at the old ones.
MOVED_HEADER = "twintide-moved"

#: Kafka has this long to acknowledge all windows that move (s).
DELIVERY_TIMEOUT_S = 600.0


class RepartitionRefusedError(TwintideError):
    """The windows cannot be moved now."""


@dataclass(frozen=True, slots=True)
class Repartitioned:
    """What was done."""

    before: int
    partitions: int
    users: int
    moved: int

    def __str__(self) -> str:
        partitions = f"{self.before}->{self.partitions}"
        return f"repartitioned: partitions={partitions} users={self.users} moved={self.moved}"


@click.command(cls=ServerCommand)
def main() -> None:
    """Move users' windows to the partitions that their events have since the topic got more of them.

    All workers must be stopped, and must have read before what the users who move had sent to their old
    partitions: wait until twintide_consumer_lag_events is 0. Workers that start afterwards read everything;
    nothing is lost meanwhile. Reads the worker's settings (KAFKA_*, REDIS_*, TWINTIDE_*). Exit 1 where it
    cannot be done now; it may be interrupted, and be started again.

    \b
    Example: python -m stream.repartition
    """
    log_to_stderr()
    click.echo(str(repartition(Settings.from_environment(os.environ))))


def repartition(settings: Settings) -> Repartitioned:
    """Have the changelog follow the topic's number of partitions. Raises RepartitionRefusedError."""
    kafka, changelog = settings.kafka, changelog_topic(settings.app_id)
    topic, counts = topic_state(kafka, settings.topic), partition_counts(kafka)
    marker = repartition_marker(changelog)
    before = counts.get(marker, counts.get(changelog, topic.partitions))
    if marker not in counts and before == topic.partitions:
        raise RepartitionRefusedError(
            f"topic {settings.topic} has {before} partitions, and windows are kept for as many: there is "
            "nothing to move"
        )
    if topic.partitions < before:
        raise SettingsError(f"topic {settings.topic} has {topic.partitions} partitions, {changelog} {before}")
    _refuse_workers(settings)
    take_from_workers(kafka, settings.app_id, changelog, range(before))
    moving = _Moving(settings, before, topic.partitions)
    move = Move(topic.topic_id, topic.partitions, moving.ends_of_read())
    users, limits = moving.find_users(), _window_settings(settings)
    ensure_topic(kafka, marker, before)
    write_move(kafka, changelog, move, settings.replication_factor)
    add_partitions(kafka, changelog, topic.partitions)
    moved = moving.move(limits)
    if settings.encode:
        _write_all_again(settings, topic.topic_id, topic.partitions)
    delete_topic(kafka, marker)
    return Repartitioned(before, topic.partitions, users, moved)


def _refuse_workers(settings: Settings) -> None:
    if has_members(settings.kafka, settings.app_id):
        raise RepartitionRefusedError(
            f"a worker of group {settings.app_id} is running: stop all of them, wait 10 s, try again"
        )


def _write_all_again(settings: Settings, topic_id: str, partitions: int) -> None:
    """Have all vectors written anew: offsets of a new partition are smaller than those that vectors have.

    Without its epoch the topic gets another one, a greater, from the next worker.
    """
    with redis_client(settings.redis) as client:
        client.hdel(TOPIC_EPOCHS_KEY, topic_id)
        ModelRegistry(client, settings.key_prefix).request_backfill(range(partitions))


@dataclass(frozen=True, slots=True)
class _Last:
    """The last record of a user in a partition of the changelog."""

    offset: int
    is_window: bool
    #: An interrupted move has written it.
    is_moved: bool


class _Moving:
    """Windows on their way from so many partitions to more."""

    def __init__(self, settings: Settings, before: int, partitions: int) -> None:
        self._settings = settings
        self._kafka = settings.kafka
        self._changelog = changelog_topic(settings.app_id)
        self._before = before
        self._partitions = partitions
        limit = record_bytes(settings.kafka, self._changelog)
        client_id = f"{settings.app_id}-repartition-{uuid.uuid4().hex[:8]}"
        self._producer = AcknowledgedProducer(settings.kafka, client_id, [limit])
        self._last: dict[bytes, dict[int, _Last]] = {}

    def ends_of_read(self) -> dict[int, int]:
        """Return the ends of the old partitions, before which all events of users who move have been read.

        Raises RepartitionRefusedError where some have not.
        """
        topic = self._settings.topic
        begin, ends = begin_offsets(self._kafka, topic), end_offsets(self._kafka, topic)
        committed = committed_offsets(self._kafka, self._settings.app_id, topic)
        first = {each: max(committed.get(each, 0), begin[each]) for each in range(self._before)}
        records = read_between(self._kafka, topic, first, ends)
        unread = [
            each for each in records if partition_of(each.key() or b"", self._partitions) != each.partition()
        ]
        if unread:
            raise RepartitionRefusedError(
                f"{len(unread)} events of users who move are not read yet, the first at {topic} partition "
                f"{unread[0].partition()} offset {unread[0].offset()}: start the workers, wait until "
                "twintide_consumer_lag_events is 0, stop them, try again"
            )
        return {each: ends[each] for each in range(self._before)}

    def find_users(self) -> int:
        """Find where users have windows, and return how many there are.

        Raises RepartitionRefusedError where they are not where murmur2 puts them.
        """
        for record in self._records():
            key, is_moved = (
                record.key() or b"",
                any(name == MOVED_HEADER for name, _ in record.headers() or ()),
            )
            last = _Last(record.offset() or 0, record.value() is not None, is_moved)
            self._last.setdefault(key, {})[record.partition() or 0] = last
        users = {key: places for key in self._last if (places := self._windows_of(key))}
        astray = sum(
            partition_of(key, self._before) not in places
            and partition_of(key, self._partitions) not in places
            for key, places in users.items()
        )
        if astray > len(users) / 2:
            raise RepartitionRefusedError(
                f"most users of {self._changelog} are not where the partitioner murmur2 puts them: have your "
                "producers use it, and start with an empty changelog"
            )
        return len(users)

    def move(self, settings: WindowSettings) -> int:
        """Copy the windows of users who move, then remove them where they were; return how many users."""
        moving = {}
        for key in self._last:
            places = self._windows_of(key)
            if places.keys() - {partition_of(key, self._partitions)}:
                moving[key] = places
        self._copy(moving, settings)
        self._delivered()
        for key, places in moving.items():
            for partition in places.keys() - {partition_of(key, self._partitions)}:
                self._send(key, None, partition)
        self._delivered()
        return len(moving)

    def _copy(self, moving: Mapping[bytes, Mapping[int, _Last]], settings: WindowSettings) -> None:
        """Write the windows of these users to their new places, one of what a user has in several places.

        Those are held in memory. What an interrupted move has written is complete.
        """
        merged: dict[bytes, Window] = {}
        for record in self._records():
            key, value, partition = record.key() or b"", record.value(), record.partition() or 0
            places, target = moving.get(key, {}), partition_of(key, self._partitions)
            is_last = partition in places and places[partition].offset == record.offset()
            if value is None or not is_last or (target in places and places[target].is_moved):
                continue
            if len(places) == 1:
                self._send(key, value, target)
            elif key not in merged:
                merged[key] = window_from_bytes(value)
            else:
                one, other = merged[key], window_from_bytes(value)
                if partition == target:  # what it says of its source must stay
                    one, other = other, one
                merge(one, other, settings)
                merged[key] = one
        for key, window in merged.items():
            self._send(key, window_to_bytes(window), partition_of(key, self._partitions))

    def _windows_of(self, key: bytes) -> dict[int, _Last]:
        """Return the partitions where a user has a window."""
        return {partition: last for partition, last in self._last[key].items() if last.is_window}

    def _records(self) -> Iterator[Message]:
        begin, ends = begin_offsets(self._kafka, self._changelog), end_offsets(self._kafka, self._changelog)
        return read_between(self._kafka, self._changelog, begin, ends)

    def _send(self, key: bytes, value: bytes | None, partition: int) -> None:
        headers = [(MOVED_HEADER, b"1")]
        self._producer.send(self._changelog, key, value, partition=partition, headers=headers)

    def _delivered(self) -> None:
        asyncio.run(self._producer.delivered(DELIVERY_TIMEOUT_S))


def _window_settings(settings: Settings) -> WindowSettings:
    """Return how much the workers keep of a user."""
    if not settings.encode:
        return WindowSettings()
    source = ArtifactSource(settings.artifact)
    return source.load(source.wanted().version).settings.window


if __name__ == "__main__":
    main()
