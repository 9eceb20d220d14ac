"""`python -m stream.forget USER`: erase one user, or with --item an item, from state and Redis, and prove it.

A control record on the behaviour topic, with the user's key, says it to whichever worker holds the user: it
is folded in its place among the user's events, so what came before is forgotten even if it is read again, and
what comes later makes a new window. That worker writes the tombstone at its next checkpoint, deletes the row
and the Redis key, and only then commits the control record.

An item is known to the item learner alone (stream/items/), which forgets it at the place of its own control
record, and takes it from readers with its next publication.
"""

import os
import time
from dataclasses import dataclass

import click
import redis
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from models.errors import TwintideError, UnreachableError
from models.windows.window import MAX_ID_BYTES
from stream.command import Seconds, ServerCommand
from stream.events.incoming import FORGET_HEADER, FORGET_ITEM_HEADER
from stream.items.snapshots import read_manifest, snapshots_topic, topics_of_states
from stream.kafka.assigned_consumer import assigned_consumer, fetch, raise_unless_retried
from stream.kafka.topic_reader import read_between
from stream.kafka.topics import changelog_topic, end_offsets, partition_counts
from stream.settings import Settings
from stream.store.clients import redis_client
from stream.store.keys import OTHER
from stream.store.user_keys import fields_read


class NotForgottenError(TwintideError):
    """The proof was not there in time."""


@dataclass(frozen=True, slots=True)
class Erasure:
    """The proof that a user is forgotten."""

    user_id: str
    #: Where the control record and the tombstone stand.
    partition: int
    control_offset: int
    tombstone_offset: int
    #: The user has done something since, so that there is a new window and a new vector.
    is_back: bool

    def __str__(self) -> str:
        what = "only what came later is kept" if self.is_back else "nothing is kept"
        return (
            f"forgotten: user {self.user_id!r} partition={self.partition} control={self.control_offset} "
            f"tombstone={self.tombstone_offset}: {what}"
        )


@dataclass(frozen=True, slots=True)
class ItemErasure:
    """The proof that an item is forgotten: the states of so many models' learners are behind the record."""

    item_id: str
    partition: int
    control_offset: int
    models: int

    def __str__(self) -> str:
        return (
            f"forgotten: item {self.item_id!r} partition={self.partition} control={self.control_offset} "
            f"models={self.models}: readers do not get it until it is clicked again"
        )


@click.command(cls=ServerCommand)
@click.argument("user", metavar="USER")
@click.option("--item", "is_item", is_flag=True, help="USER is the id of an item, to be forgotten instead.")
@click.option(
    "--timeout-s", type=Seconds(), default=120.0, show_default=True, help="How long to wait for the proof."
)
def main(user: str, is_item: bool, timeout_s: float) -> None:
    """Erase USER from the workers' state, its changelog and Redis, and prove it; a worker must be running.

    With --item, erase an item from what the item learner knows; that one must be running.

    The user's events on the behaviour topic itself are not touched: they are the topic's owner's. Reads the
    worker's settings (KAFKA_*, REDIS_*, TWINTIDE_*). Exit 1 where the proof is not there in time.

    \b
    Example:
      python -m stream.forget 98047837
      python -m stream.forget --item 64059432
    """
    settings = Settings.from_environment(os.environ)
    click.echo(str((forget_item if is_item else forget)(settings, user, timeout_s)))


def forget(settings: Settings, user_id: str, timeout_s: float) -> Erasure:
    """Have the user forgotten and return the proof. Raises NotForgottenError."""
    if not user_id:
        raise NotForgottenError("the empty id is nobody's: its key holds the vector of cold-start users")
    _check_id(user_id)
    client = redis_client(settings.redis)
    changelog = _changelog(settings)
    started_at = end_offsets(settings.kafka, changelog)
    partition, control_offset = _publish(settings, user_id, timeout_s, FORGET_HEADER)
    deadline = time.monotonic() + timeout_s
    consumer = assigned_consumer(settings.kafka)
    try:
        consumer.assign([TopicPartition(changelog, partition, started_at[partition])])
        tombstone_offset = _find_tombstone(consumer, changelog, user_id.encode(), deadline)
        _wait_for_redis(settings, client, user_id, control_offset, deadline)
    finally:
        consumer.close()
        client.close()
    ends = end_offsets(settings.kafka, changelog)
    later = read_between(settings.kafka, changelog, {partition: tombstone_offset + 1}, ends)
    values = [each.value() for each in later if each.key() == user_id.encode()]
    is_back = bool(values) and values[-1] is not None
    return Erasure(user_id, partition, control_offset, tombstone_offset, is_back)


def forget_item(settings: Settings, item_id: str, timeout_s: float) -> ItemErasure:
    """Have the item forgotten and return the proof. Raises NotForgottenError."""
    if not item_id:
        raise NotForgottenError("the empty id is no item's")
    _check_id(item_id)
    if not topics_of_states(settings.app_id, partition_counts(settings.kafka)):
        raise NotForgottenError(
            f"there is no topic {snapshots_topic(settings.app_id, 'VERSION')}: start `python -m "
            "stream.items`, or set TWINTIDE_APP_ID to its own"
        )
    partition, offset = _publish(settings, item_id, timeout_s, FORGET_ITEM_HEADER)
    deadline = time.monotonic() + timeout_s
    while True:
        topics = topics_of_states(settings.app_id, partition_counts(settings.kafka)).values()
        manifests = [read_manifest(settings.kafka, name) for name in topics]
        reached = [each.positions.get(partition, (0, 0))[0] for each in manifests if each]
        if topics and len(reached) == len(topics) and min(reached) > offset:
            return ItemErasure(item_id, partition, offset, len(topics))
        if time.monotonic() > deadline:
            raise NotForgottenError(
                f"no item learner has forgotten item {item_id!r} in time: start one, and it will; ask again"
            )
        time.sleep(0.5)


def _check_id(text: str) -> None:
    """Raise NotForgottenError for what cannot be an id: no worker would take note of it."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise NotForgottenError(f"{text!r} is nobody's id, as it is no UTF-8") from error
    if size > MAX_ID_BYTES:
        raise NotForgottenError(f"an id has {MAX_ID_BYTES} bytes at most, and this {size}: it is nobody's")


def _changelog(settings: Settings) -> str:
    name = changelog_topic(settings.app_id)
    if name not in partition_counts(settings.kafka):
        raise NotForgottenError(
            f"there is no topic {name}: start a worker, or set TWINTIDE_APP_ID to its own"
        )
    return name


def _publish(settings: Settings, key: str, timeout_s: float, header: str) -> tuple[int, int]:
    """Publish the control record, and return its partition and offset."""
    if settings.topic not in partition_counts(settings.kafka):  # a broker may make it for the asking
        raise NotForgottenError(f"there is no topic {settings.topic}: set TWINTIDE_TOPIC to the workers'")
    reports: list[tuple[KafkaError | None, Message]] = []
    producer = Producer(
        {
            **settings.kafka.librdkafka(),
            "partitioner": "murmur2_random",
            "acks": "all",
            "message.timeout.ms": int(timeout_s * 1000),
            "log_level": 2,
        }
    )
    producer.produce(
        settings.topic,
        key=key.encode(),
        value=None,
        headers=[(header, b"1")],
        on_delivery=lambda error, message: reports.append((error, message)),
    )
    producer.flush(timeout_s + 1)
    if not reports or reports[0][0] is not None:
        reason = reports[0][0].str() if reports and reports[0][0] else "no answer"
        raise UnreachableError(f"topic {settings.topic} did not take the control record: {reason}")
    message = reports[0][1]
    return int(message.partition() or 0), int(message.offset() or 0)


def _find_tombstone(consumer: Consumer, changelog: str, key: bytes, deadline: float) -> int:
    """Return the offset of the next tombstone of this key. Raises NotForgottenError, and SourceError."""
    while time.monotonic() < deadline:
        for message in fetch(consumer, 1, timeout_s=0.2):
            error = message.error()
            if error is not None:
                raise_unless_retried(error, changelog)
            elif message.key() == key and message.value() is None:
                return int(message.offset() or 0)
    raise NotForgottenError(
        f"no worker has forgotten user {key.decode()!r} in time: start one, and it will; then ask again"
    )


def _wait_for_redis(
    settings: Settings, client: "redis.Redis", user_id: str, control_offset: int, deadline: float
) -> None:
    """Return when no vector in Redis knows anything from before the control record."""
    while settings.encode:
        _forget_json(client, user_id)
        wanted = ("seq", OTHER + "seq")
        pipeline = client.pipeline(transaction=False)
        pipeline.hmget(settings.key_prefix + user_id, wanted)
        (found,) = fields_read([wanted], pipeline.execute(raise_on_error=False))
        offsets = [int(seq) for seq in found if seq is not None]
        if all(offset > control_offset for offset in offsets):
            return
        if time.monotonic() > deadline:
            raise NotForgottenError(f"Redis still has a vector of user {user_id!r}: see the worker's log")
        time.sleep(0.1)


def _forget_json(client: "redis.Redis", user_id: str) -> None:
    """Delete what `offline.export` writes in the original's format: a JSON list under the raw user id."""
    if client.type(user_id) == b"string" and client.getrange(user_id, 0, 0) == b"[":
        client.delete(user_id)


if __name__ == "__main__":
    main()
