"""Making and checking topics, through Kafka's admin API."""

from collections.abc import Mapping

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, NewTopic

from models.errors import UnreachableError
from stream.connections import KafkaConnection

#: Seconds that the brokers have to answer an admin request.
TIMEOUT_S = 10.0

#: A topic of 2014's timestamps is deleted at once by time-based retention.
KEEP_FOREVER = {"retention.ms": "-1"}


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
    kafka: KafkaConnection, name: str, partitions: int, settings: Mapping[str, str] = KEEP_FOREVER
) -> int:
    """Make the topic where it does not exist, and return how many partitions it has."""
    existing = partition_counts(kafka)
    if name in existing:
        return existing[name]
    client = admin_client(kafka)  # kept until the answer is here: without its client a request is abandoned
    topic = NewTopic(name, num_partitions=partitions, config=dict(settings))
    future = client.create_topics([topic], operation_timeout=TIMEOUT_S)[name]
    try:
        future.result(timeout=TIMEOUT_S)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise UnreachableError(f"topic {name} could not be made: {error.args[0].str()}") from error
        return partition_counts(kafka)[name]
    return partitions


def topic_id(kafka: KafkaConnection, name: str) -> str:
    """Return the id that Kafka gave an existing topic: another one after it is deleted and made again."""
    client = admin_client(kafka)
    future = client.describe_topics(TopicCollection([name]), request_timeout=TIMEOUT_S)[name]
    try:
        return str(future.result(timeout=TIMEOUT_S).topic_id)
    except KafkaException as error:
        raise UnreachableError(f"topic {name} cannot be described: {error.args[0].str()}") from error
