"""The largest record that a topic takes: asked for, and made larger."""

import logging

from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from models.errors import SettingsError, UnreachableError
from stream.kafka.connection import KafkaConnection
from stream.kafka.topics import NotAllowedError, admin_client, answered

logger = logging.getLogger(__name__)

#: A topic's setting: the largest record that it takes (bytes).
RECORD_BYTES = "max.message.bytes"

#: Kafka's default for it, which is enough for the largest window (models/windows/window.py).
DEFAULT_RECORD_BYTES = 1_048_588


def record_bytes(kafka: KafkaConnection, name: str) -> int:
    """Return the size of the largest record that an existing topic takes (bytes).

    Kafka's default where this user may not ask.
    """
    client, topic = admin_client(kafka), ConfigResource(ResourceType.TOPIC, name)
    try:
        found = answered(lambda: client.describe_configs([topic])[topic], f"the settings of topic {name}")
    except NotAllowedError:
        return DEFAULT_RECORD_BYTES
    return int(found[RECORD_BYTES].value)


def ensure_record_bytes(kafka: KafkaConnection, name: str, at_least: int) -> int:
    """Have an existing topic take records of so many bytes, and return how many it takes."""
    before = record_bytes(kafka, name)
    if before >= at_least:
        return before
    limit = ConfigEntry(RECORD_BYTES, str(at_least), incremental_operation=AlterConfigOpType.SET)
    topic = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[limit])
    client = admin_client(kafka)
    try:
        answered(lambda: client.incremental_alter_configs([topic])[topic], f"the settings of topic {name}")
    except UnreachableError as error:
        raise SettingsError(
            f"topic {name} takes records of {before} bytes at most, and one may have {at_least}: set its "
            f"{RECORD_BYTES} to that ({error})"
        ) from error
    logger.warning("topic %s took records of %d bytes at most: it takes %d now", name, before, at_least)
    return at_least
