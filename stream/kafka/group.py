"""The worker's consumer group, seen from outside: who is in it, and from where it resumes reading."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from confluent_kafka import ConsumerGroupState, ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from models.errors import UnreachableError
from stream.kafka.connection import KafkaConnection
from stream.kafka.topics import admin_client, answered


def has_members(kafka: KafkaConnection, group: str) -> bool:
    """Return whether a worker of the group is running, or was a session timeout ago."""
    found = _ask(kafka, group, lambda client: client.describe_consumer_groups([group]))
    return found.state not in (ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD)


def members(kafka: KafkaConnection, group: str) -> dict[str, str]:
    """Return the members of a group, by their id, with the host that each runs on."""
    found = _ask(kafka, group, lambda client: client.describe_consumer_groups([group]))
    return {each.member_id: each.host for each in found.members}


def committed_offsets(kafka: KafkaConnection, group: str, topic: str) -> dict[int, int]:
    """Return the offset at which the group resumes each partition of the topic that it has committed."""
    request = [ConsumerGroupTopicPartitions(group)]
    found = _ask(kafka, group, lambda client: client.list_consumer_group_offsets(request))
    places = found.topic_partitions or []
    return {each.partition: each.offset for each in places if each.topic == topic and each.offset >= 0}


def set_offsets(kafka: KafkaConnection, group: str, topic: str, offsets: Mapping[int, int]) -> None:
    """Have the group, which must have no members, resume reading at these offsets."""
    places = [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
    request = [ConsumerGroupTopicPartitions(group, places)]
    done = _ask(kafka, group, lambda client: client.alter_consumer_group_offsets(request))
    refused = [each.error for each in done.topic_partitions or [] if each.error is not None]
    if refused:
        raise UnreachableError(f"the offsets of group {group} were not taken: {refused[0].str()}")


def _ask(kafka: KafkaConnection, group: str, request: Callable[[AdminClient], dict[str, Future[Any]]]) -> Any:
    """Return the answer for the group."""
    client = admin_client(kafka)
    return answered(lambda: request(client)[group], f"group {group}")
