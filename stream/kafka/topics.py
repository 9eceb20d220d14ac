"""Making and checking topics, through Kafka's admin API."""

import re
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

import tenacity
from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic, OffsetSpec

from models.errors import SettingsError, UnreachableError
from stream.kafka.connection import KafkaConnection

T = TypeVar("T")

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

#: What a broker says to whom its ACLs do not allow to ask.
_NOT_ALLOWED = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
)

#: What helps where a broker is there and does not let us in.
_REMEDIES = {
    KafkaError._SSL: "see KAFKA_SSL_CA_FILE, and whether the broker's certificate is valid for this name",
    KafkaError._AUTHENTICATION: "see KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD and KAFKA_SASL_MECHANISM",
}

#: Name of the Faust table of windows.
WINDOWS_TABLE = "windows"

#: Settings of a table's changelog, which keeps the last value of every key.
CHANGELOG_SETTINGS = {"cleanup.policy": "compact"}


class NotAllowedError(UnreachableError):
    """Kafka answers, and its rights do not allow what we ask for."""


def changelog_topic(group: str) -> str:
    """Return the name that Faust gives the changelog of a group's windows."""
    return f"{group}-{WINDOWS_TABLE}-changelog"


def repartition_marker(changelog: str) -> str:
    """Return the name of the topic that is there while windows are moved to other partitions."""
    return f"{changelog}-repartition"


def admin_client(
    kafka: KafkaConnection, on_error: Callable[[KafkaError], object] = lambda error: None
) -> AdminClient:
    """Return an admin client that keeps librdkafka's own connection chatter out of stderr.

    `on_error` is told of every connection that fails, as soon as the client is polled.
    """
    return AdminClient(
        {
            **kafka.librdkafka(),
            "log_level": 0,
            "socket.connection.setup.timeout.ms": 5000,
            "error_cb": on_error,
        }
    )


def partition_counts(kafka: KafkaConnection) -> dict[str, int]:
    """Return every topic's number of partitions; UnreachableError where no broker answers, or lets us in."""
    errors: list[KafkaError] = []
    client = admin_client(kafka, errors.append)
    try:
        metadata = client.list_topics(timeout=TIMEOUT_S)
    except KafkaException as error:
        client.poll(0)
        said = [each for each in errors if each.code() != KafkaError._ALL_BROKERS_DOWN]
        reason = next((each for each in said if each.code() in _REMEDIES), (said or error.args)[0])
        raise UnreachableError(
            f"no Kafka at {kafka.bootstrap_servers} ({_in_short(reason.str())}): {_remedy(reason)}"
        ) from error
    return {name: len(topic.partitions) for name, topic in metadata.topics.items()}


def _remedy(reason: KafkaError) -> str:
    """Return what helps where no broker lets us in for this reason."""
    if "SSL alert" in reason.str():  # the broker says so of our certificate, after it has shown its own
        return "see KAFKA_SSL_CERTIFICATE_FILE and KAFKA_SSL_KEY_FILE, which the broker asks for"
    return _REMEDIES.get(reason.code(), "start it with `./run up`, or set KAFKA_BOOTSTRAP_SERVERS")


def _in_short(reason: str) -> str:
    """Return why a connection failed, without how long that took."""
    return re.sub(r" \(after [^)]*\)", "", reason)


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
    try:
        future = client.create_topics([topic], operation_timeout=TIMEOUT_S)[name]
    except ValueError as error:
        raise SettingsError(f"topic {name} cannot be made: {error}") from error
    try:
        future.result(timeout=TIMEOUT_S)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise UnreachableError(f"topic {name} could not be made: {error.args[0].str()}") from error
        return topic_state(kafka, name).partitions  # somebody made it just now: not every broker knows it yet
    except TimeoutError as error:
        raise UnreachableError(
            f"topic {name}: Kafka did not say within {TIMEOUT_S:g} s that it is made"
        ) from error
    return partitions


def add_partitions(kafka: KafkaConnection, name: str, partitions: int) -> None:
    """Have a topic have so many partitions, where it has fewer."""
    if partition_counts(kafka)[name] < partitions:
        client = admin_client(kafka)
        answered(lambda: client.create_partitions([NewPartitions(name, partitions)])[name], f"topic {name}")


def delete_topic(kafka: KafkaConnection, name: str) -> None:
    """Delete a topic, unless it is gone already."""
    if name in partition_counts(kafka):
        client = admin_client(kafka)
        answered(lambda: client.delete_topics([name])[name], f"topic {name}")


@dataclass(frozen=True, slots=True)
class TopicState:
    """An existing topic: the id that Kafka gave it, another one after it is deleted and made again."""

    topic_id: str
    partitions: int


def topic_id(kafka: KafkaConnection, name: str) -> str:
    """Return the id of an existing topic."""
    return topic_state(kafka, name).topic_id


def topic_source(kafka: KafkaConnection, name: str) -> str:
    """Return what tells a topic from those of other clusters, and not from itself once it was made anew."""
    client = admin_client(kafka)
    cluster = answered(lambda: client.describe_cluster(request_timeout=TIMEOUT_S), "the cluster's id")
    return f"topic {name} of Kafka cluster {cluster.cluster_id}"


def topic_state(kafka: KafkaConnection, name: str) -> TopicState:
    """Return an existing topic as it is now. Raises UnreachableError."""
    client, topics = admin_client(kafka), TopicCollection([name])
    found = answered(
        lambda: client.describe_topics(topics, request_timeout=TIMEOUT_S)[name],
        f"the partitions of topic {name}",
    )
    return TopicState(str(found.topic_id), len(found.partitions))


def begin_offsets(kafka: KafkaConnection, name: str) -> dict[int, int]:
    """Return, per partition of an existing topic, the offset of its oldest record."""
    return _offsets(kafka, name, OffsetSpec.earliest())


def end_offsets(kafka: KafkaConnection, name: str) -> dict[int, int]:
    """Return, per partition of an existing topic, the offset that its next record will have.

    What is not committed yet, of whoever writes in transactions, is behind it.
    """
    return _offsets(kafka, name, OffsetSpec.latest())


def offsets_from(kafka: KafkaConnection, name: str, time_ms: int) -> dict[int, int]:
    """Return, per partition, the offset of the first record of this time (epoch ms) or later, or the end."""
    ends = end_offsets(kafka, name)  # asked first: what arrives meanwhile comes after it
    found = _offsets(kafka, name, OffsetSpec.for_timestamp(time_ms))
    return {partition: found[partition] if found[partition] >= 0 else end for partition, end in ends.items()}


def _offsets(kafka: KafkaConnection, name: str, which: OffsetSpec) -> dict[int, int]:
    client = admin_client(kafka)

    def offset(place: TopicPartition) -> int:
        found = answered(
            lambda: client.list_offsets({place: which}, isolation_level=IsolationLevel.READ_COMMITTED)[place],
            f"offsets of topic {name}",
        )
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
    return asked_again(lambda: request().result(TIMEOUT_S), what)


def asked_again(request: Callable[[], T], what: str) -> T:
    """Return the answer to a request that waits for it, asked again while a broker takes over.

    Raises UnreachableError.
    """
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_is_not_yet),
        wait=tenacity.wait_fixed(0.2),
        stop=tenacity.stop_after_delay(TIMEOUT_S),
        reraise=True,
    )
    try:
        return retrying(request)
    except KafkaException as error:
        reason = error.args[0].str() or error.args[0].name()
        kind = NotAllowedError if error.args[0].code() in _NOT_ALLOWED else UnreachableError
        raise kind(f"{what}: Kafka did not do as asked ({reason})") from error
    except TimeoutError as error:
        raise UnreachableError(f"{what}: Kafka did not answer within {TIMEOUT_S:g} s") from error


def _is_not_yet(error: BaseException) -> bool:
    return isinstance(error, KafkaException) and error.args[0].code() in _NOT_YET
