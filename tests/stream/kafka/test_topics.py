"""Kafka that does not answer is said to be unreachable, whoever gives up first: its client, or we."""

import socket

import pytest
from confluent_kafka import TopicCollection

from models.errors import UnreachableError
from stream.kafka import topics
from stream.kafka.connection import KafkaConnection


@pytest.mark.parametrize("client_waits_s", [0.2, 30.0])
def test_silent_broker_is_one_line(monkeypatch: pytest.MonkeyPatch, client_waits_s: float) -> None:
    monkeypatch.setattr(topics, "TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        kafka = KafkaConnection(bootstrap_servers=f"127.0.0.1:{silent.getsockname()[1]}")
        client = topics.admin_client(kafka)
        wanted = TopicCollection(["events"])
        with pytest.raises(UnreachableError, match="topic events"):
            topics.answered(
                lambda: client.describe_topics(wanted, request_timeout=client_waits_s)["events"],
                "topic events",
            )
