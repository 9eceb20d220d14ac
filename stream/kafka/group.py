"""The worker's consumer group, seen from outside: who is in it, and from where it resumes reading."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from confluent_kafka import (
    Consumer,
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AclOperation, AdminClient

from stream.kafka.assigned_consumer import assigned_consumer
from stream.kafka.connection import KafkaConnection
from stream.kafka.topics import (
    TIMEOUT_S,
    NotAllowedError,
    admin_client,
    answered,
    asked_again,
    partition_counts,
)


def has_members(kafka: KafkaConnection, group: str) -> bool:
    """Return whether a worker of the group is running, or was a session timeout ago."""
    found = _ask(kafka, group, lambda client: client.describe_consumer_groups([group]))
    return found.state not in (ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD)


def check_may_join(kafka: KafkaConnection, group: str) -> None:
    """Raise NotAllowedError where Kafka's rights do not let us read as this group.

    Faust would ask to join it for ever, without a word.
    """
    client = admin_client(kafka)
    found = answered(
        lambda: client.describe_consumer_groups([group], include_authorized_operations=True)[group],
        f"group {group}",
    )
    allowed = found.authorized_operations
    if allowed is not None and not {AclOperation.READ, AclOperation.ALL} & set(allowed):
        raise NotAllowedError(
            f"group {group}: Broker: Group authorization failed: this user needs the right to Read it"
        )


def members(kafka: KafkaConnection, group: str) -> dict[str, str]:
    """Return the members of a group, by their id, with the host that each runs on."""
    found = _ask(kafka, group, lambda client: client.describe_consumer_groups([group]))
    return {each.member_id: each.host for each in found.members}


def committed_offsets(kafka: KafkaConnection, group: str, topic: str) -> dict[int, int]:
    """Return the offset at which the group resumes each partition of the topic that it has committed.

    It asks as a consumer of the group does: librdkafka's admin request for the same may end the process while
    a broker that has just started takes up the group. Raises UnreachableError.
    """
    places = [TopicPartition(topic, partition) for partition in range(partition_counts(kafka).get(topic, 0))]
    if not places:
        return {}
    consumer = assigned_consumer(kafka, group=group)
    try:
        return committed_by(consumer, group, places)
    finally:
        consumer.close()


def committed_by(consumer: Consumer, group: str, places: list[TopicPartition]) -> dict[int, int]:
    """Return what `committed_offsets` does of some partitions, by a consumer of the group that is at hand."""
    found = asked_again(lambda: _taken(consumer.committed(places, TIMEOUT_S)), f"offsets of group {group}")
    return {each.partition: each.offset for each in found if each.offset >= 0}


def set_offsets(kafka: KafkaConnection, group: str, topic: str, offsets: Mapping[int, int]) -> None:
    """Have the group, which must have no members, resume reading at these offsets."""
    places = [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
    client, request = admin_client(kafka), [ConsumerGroupTopicPartitions(group, places)]

    def alter() -> Sequence[TopicPartition]:
        done = client.alter_consumer_group_offsets(request)[group].result(TIMEOUT_S)
        return _taken(done.topic_partitions or [])

    asked_again(alter, f"offsets of group {group}")


def _taken(places: Sequence[TopicPartition]) -> Sequence[TopicPartition]:
    """Return the answer for each partition. Raises KafkaException where one was refused."""
    for place in places:
        if place.error is not None:
            raise KafkaException(place.error)
    return places


def _ask(kafka: KafkaConnection, group: str, request: Callable[[AdminClient], dict[str, Future[Any]]]) -> Any:
    """Return the answer for the group."""
    client = admin_client(kafka)
    return answered(lambda: request(client)[group], f"group {group}")
