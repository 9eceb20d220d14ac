"""Settings from the environment: defaults, types, and what is refused."""

from dataclasses import fields
from pathlib import Path

import pytest

from models.errors import SettingsError
from stream.kafka.connection import KafkaConnection
from stream.settings import Settings, variable
from stream.store.connection import RedisConnection


def test_empty_environment_gives_the_defaults() -> None:
    assert Settings.from_environment({}) == Settings()


def test_every_field_is_read_from_its_variable() -> None:
    given = {"partitions": "7", "checkpoint_s": "0.5", "artifact": "elsewhere", "vector_format": "int8"}
    settings = Settings.from_environment({variable(name): value for name, value in given.items()})
    assert (settings.partitions, settings.checkpoint_s) == (7, 0.5)
    assert (settings.artifact, settings.vector_format) == (Path("elsewhere"), "int8")
    assert {each.name for each in fields(Settings)} > set(given)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TWINTIDE_PARTITIONS", "0"),
        ("TWINTIDE_PARTITIONS", "many"),
        ("TWINTIDE_CHECKPOINT_S", "0"),
        ("TWINTIDE_VECTOR_FORMAT", "float128"),
        ("TWINTIDE_NO_SUCH_SETTING", "1"),
        ("REDIS_TIMEOUT_S", "soon"),
        ("REDIS_URL", "localhost"),
        ("KAFKA_SECURITY_PROTOCOL", "TELEPATHY"),
        ("KAFKA_SASL_MECHANISM", "GUESS"),
        ("KAFKA_BOOTSTRAP_SERVERS", ""),
    ],
)
def test_nonsense_is_refused_by_the_variables_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.from_environment({name: value})


def test_secrets_never_show() -> None:
    kafka = KafkaConnection(security_protocol="SASL_SSL", sasl_username="me", sasl_password="hunter2")
    redis = RedisConnection("rediss://me:hunter2@cache:6380/0")
    assert "hunter2" not in repr(Settings(kafka=kafka, redis=redis))
    assert redis.place == "rediss://cache:6380/0"
    assert kafka.librdkafka()["sasl.password"] == "hunter2"
