"""`python -m stream.forget USER`: erase one user from the windows, the changelog and Redis, and prove it.

A control record on the behaviour topic, with the user's key, says it to whichever worker holds the user: it
is folded in its place among the user's events, so what came before is forgotten even if it is read again, and
what comes later makes a new window. That worker writes the tombstone at its next checkpoint, deletes the row
and the Redis key, and only then commits the control record.
"""

import os
import time
from dataclasses import dataclass
from typing import cast

import click
import redis
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from models.command import Command
from models.errors import TwintideError, UnreachableError
from stream.events.incoming import FORGET_HEADER
from stream.kafka.topics import partition_counts
from stream.settings import Settings
from stream.store.clients import redis_client
from stream.store.keys import OTHER


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


@click.command(cls=Command)
@click.argument("user")
@click.option("--timeout-s", default=60.0, show_default=True, help="How long to wait for the proof.")
def main(user: str, timeout_s: float) -> None:
    """Erase USER from the workers' state, its changelog and Redis, and prove it; a worker must be running.

    The user's events on the behaviour topic itself are not touched: they are the topic's owner's. Reads the
    worker's settings (KAFKA_*, REDIS_*, TWINTIDE_*). Exit 1 where the proof is not there in time.

    \b
    Example: python -m stream.forget 98047837
    """
    click.echo(str(forget(Settings.from_environment(os.environ), user, timeout_s)))


def forget(settings: Settings, user_id: str, timeout_s: float) -> Erasure:
    """Have the user forgotten and return the proof. Raises NotForgottenError."""
    if not user_id:
        raise NotForgottenError("the empty id is nobody's: its key holds the vector of cold-start users")
    client = redis_client(settings.redis)
    changelog = _changelog(settings)
    started_at = _ends(settings, changelog)
    partition, control_offset = _publish(settings, user_id, timeout_s)
    deadline = time.monotonic() + timeout_s
    consumer = _consumer(settings)
    try:
        consumer.assign([TopicPartition(changelog, partition, started_at[partition])])
        tombstone_offset = _find_tombstone(consumer, user_id.encode(), deadline)
        _wait_for_redis(settings, client, user_id, control_offset, deadline)
        is_back = _has_window_after(consumer, changelog, partition, user_id.encode())
    finally:
        consumer.close()
        client.close()
    return Erasure(user_id, partition, control_offset, tombstone_offset, is_back)


def _changelog(settings: Settings) -> str:
    name = f"{settings.app_id}-windows-changelog"
    if name not in partition_counts(settings.kafka):
        raise NotForgottenError(
            f"there is no topic {name}: start a worker, or set TWINTIDE_APP_ID to its own"
        )
    return name


def _publish(settings: Settings, user_id: str, timeout_s: float) -> tuple[int, int]:
    """Publish the control record, and return its partition and offset."""
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
        key=user_id.encode(),
        value=None,
        headers=[(FORGET_HEADER, b"1")],
        on_delivery=lambda error, message: reports.append((error, message)),
    )
    producer.flush(timeout_s + 1)
    if not reports or reports[0][0] is not None:
        reason = reports[0][0].str() if reports and reports[0][0] else "no answer"
        raise UnreachableError(f"topic {settings.topic} did not take the control record: {reason}")
    message = reports[0][1]
    return int(message.partition() or 0), int(message.offset() or 0)


def _find_tombstone(consumer: Consumer, key: bytes, deadline: float) -> int:
    while time.monotonic() < deadline:
        message = consumer.poll(0.2)
        if message is None or message.error() is not None:
            continue
        if message.key() == key and message.value() is None:
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
        found = client.hmget(settings.key_prefix + user_id, ("seq", OTHER + "seq"))
        offsets = [int(seq) for seq in cast(list[bytes | None], found) if seq is not None]
        if all(offset > control_offset for offset in offsets):
            return
        if time.monotonic() > deadline:
            raise NotForgottenError(f"Redis still has a vector of user {user_id!r}: see the worker's log")
        time.sleep(0.1)


def _forget_json(client: "redis.Redis", user_id: str) -> None:
    """Delete what `offline.export` writes in the original's format: a JSON list under the raw user id."""
    if client.type(user_id) == b"string" and client.getrange(user_id, 0, 0) == b"[":
        client.delete(user_id)


def _has_window_after(consumer: Consumer, changelog: str, partition: int, key: bytes) -> bool:
    """Return whether the changelog has a window of the user after the tombstone, up to its end now."""
    place = TopicPartition(changelog, partition)
    _, end = consumer.get_watermark_offsets(place, timeout=10)
    has_window = False
    while consumer.position([place])[0].offset < end:
        message = consumer.poll(0.2)
        if message is not None and message.error() is None and message.key() == key:
            has_window = message.value() is not None
    return has_window


def _ends(settings: Settings, topic: str) -> dict[int, int]:
    consumer = _consumer(settings)
    try:
        return {
            partition: consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)[1]
            for partition in consumer.list_topics(topic, timeout=10).topics[topic].partitions
        }
    except KafkaException as error:
        raise UnreachableError(f"topic {topic} cannot be read: {error.args[0].str()}") from error
    finally:
        consumer.close()


def _consumer(settings: Settings) -> Consumer:
    return Consumer(
        {
            **settings.kafka.librdkafka(),
            "group.id": "unused",  # librdkafka wants one; nothing joins or commits
            "enable.auto.commit": False,
            "fetch.queue.backoff.ms": 10,
            "log_level": 2,
        }
    )


if __name__ == "__main__":
    main()
