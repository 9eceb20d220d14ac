"""Making and checking topics, through Kafka's admin API."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

import tenacity
from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from models.errors import UnreachableError
from stream.kafka.connection import KafkaConnection

#: Seconds that the brokers have to answer an admin request.
TIMEOUT_S = 10.0

#: A topic of 2014's timestamps is deleted at once by time-based retention.
KEEP_FOREVER = {"retention.ms": "-1"}

#: What a broker says while it takes over a topic or a group; asked again, it knows.
_NOT_YET = (
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
)

#: Name of the Faust table of windows.
WINDOWS_TABLE = "windows"

#: Settings of a table's changelog, which keeps the last value of every key.
CHANGELOG_SETTINGS = {"cleanup.policy": "compact"}


def changelog_topic(group: str) -> str:
    """Return the name that Faust gives the changelog of a group's windows."""
    return f"{group}-{WINDOWS_TABLE}-changelog"


def admin_client(kafka: KafkaConnection) -> AdminClient:
    """Return an admin client that keeps librdkafka's own connection chatter out of stderr."""
    return AdminClient({**kafka.librdkafka(), "log_level": 0, "socket.connection.setup.timeout.ms": 5000})


def partition_counts(kafka: KafkaConnection) -> dict[str, int]:
    """Return every topic's number of partitions; UnreachableError where no broker answers."""
    try:
        metadata = admin_client(kafka).list_topics(timeout=TIMEOUT_S)
    except KafkaException as error:
        raise UnreachableError(
            f"no Kafka at {kafka.bootstrap_servers} ({error.args[0].str()}): start it with `./run up`, "
            "or set KAFKA_BOOTSTRAP_SERVERS"
        ) from error
    return {name: len(topic.partitions) for name, topic in metadata.topics.items()}


def ensure_topic(
    kafka: KafkaConnection,
    name: str,
    partitions: int,
    settings: Mapping[str, str] = KEEP_FOREVER,
    replicas: int = -1,
) -> int:
    """Make the topic where it does not exist, and return how many partitions it has.

    `replicas` -1 leaves the number of copies to the broker.
    """
    existing = partition_counts(kafka)
    if name in existing:
        return existing[name]
    client = admin_client(kafka)  # kept until the answer is here: without its client a request is abandoned
    topic = NewTopic(name, partitions, replicas, config=dict(settings))
    future = client.create_topics([topic], operation_timeout=TIMEOUT_S)[name]
    try:
        future.result(timeout=TIMEOUT_S)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise UnreachableError(f"topic {name} could not be made: {error.args[0].str()}") from error
        return partition_counts(kafka)[name]
    return partitions


def delete_topic(kafka: KafkaConnection, name: str) -> None:
    """Delete a topic, unless it is gone already."""
    client = admin_client(kafka)
    future = client.delete_topics([name], operation_timeout=TIMEOUT_S)[name]
    try:
        future.result(timeout=TIMEOUT_S)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise UnreachableError(f"topic {name} could not be deleted: {error.args[0].str()}") from error


def topic_id(kafka: KafkaConnection, name: str) -> str:
    """Return the id that Kafka gave an existing topic: another one after it is deleted and made again."""
    client = admin_client(kafka)
    future = client.describe_topics(TopicCollection([name]), request_timeout=TIMEOUT_S)[name]
    try:
        return str(future.result(timeout=TIMEOUT_S).topic_id)
    except KafkaException as error:
        raise UnreachableError(f"topic {name} cannot be described: {error.args[0].str()}") from error


def begin_offsets(kafka: KafkaConnection, name: str) -> dict[int, int]:
    """Return, per partition of an existing topic, the offset of its oldest record."""
    return _offsets(kafka, name, OffsetSpec.earliest())


def end_offsets(kafka: KafkaConnection, name: str) -> dict[int, int]:
    """Return, per partition of an existing topic, the offset that its next record will have."""
    return _offsets(kafka, name, OffsetSpec.latest())


def offsets_from(kafka: KafkaConnection, name: str, time_ms: int) -> dict[int, int]:
    """Return, per partition, the offset of the first record of this time (epoch ms) or later, or the end."""
    ends = end_offsets(kafka, name)  # asked first: what arrives meanwhile comes after it
    found = _offsets(kafka, name, OffsetSpec.for_timestamp(time_ms))
    return {partition: found[partition] if found[partition] >= 0 else end for partition, end in ends.items()}


def _offsets(kafka: KafkaConnection, name: str, which: OffsetSpec) -> dict[int, int]:
    client = admin_client(kafka)

    def offset(place: TopicPartition) -> int:
        found = answered(lambda: client.list_offsets({place: which})[place], f"offsets of topic {name}")
        return int(found.offset)

    partitions = partition_counts(kafka).get(name)
    if partitions is None:
        raise UnreachableError(f"topic {name} is not there any more")
    places = [TopicPartition(name, partition) for partition in range(partitions)]
    return {place.partition: offset(place) for place in places}


def answered(request: Callable[[], Future[Any]], what: str) -> Any:
    """Return the answer to an admin request, asked again while a broker takes over.

    Raises UnreachableError.
    """
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_is_not_yet),
        wait=tenacity.wait_fixed(0.2),
        stop=tenacity.stop_after_delay(TIMEOUT_S),
        reraise=True,
    )
    try:
        return retrying(lambda: request().result(TIMEOUT_S))
    except KafkaException as error:
        reason = error.args[0].str() or error.args[0].name()
        raise UnreachableError(f"{what}: Kafka did not do as asked ({reason})") from error


def _is_not_yet(error: BaseException) -> bool:
    return isinstance(error, KafkaException) and error.args[0].code() in _NOT_YET
