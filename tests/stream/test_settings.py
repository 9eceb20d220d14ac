"""Settings from the environment: defaults, types, and what is refused."""

from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

from models.errors import SettingsError
from models.location import BucketUrl
from stream.kafka.connection import KafkaConnection
from stream.settings import Settings, variable
from stream.store.connection import RedisConnection
from stream.store.keys import VECTOR_FORMATS, VectorFormat


def test_empty_environment_gives_the_defaults() -> None:
    assert Settings.from_environment({}) == Settings()


def test_every_field_is_read_from_its_variable() -> None:
    given = {"partitions": "7", "checkpoint_s": "0.5", "artifact": "elsewhere", "vector_format": "int8"}
    settings = Settings.from_environment({variable(name): value for name, value in given.items()})
    assert (settings.partitions, settings.checkpoint_s) == (7, 0.5)
    assert (settings.artifact, settings.vector_format) == (Path("elsewhere"), "int8")
    assert {each.name for each in fields(Settings)} > set(given)


def test_artifact_may_be_in_a_bucket() -> None:
    settings = Settings.from_environment({"TWINTIDE_ARTIFACT": "s3://shop/artifacts/current"})
    assert settings.artifact == BucketUrl("s3", "shop", ("artifacts", "current"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TWINTIDE_PARTITIONS", "0"),
        ("TWINTIDE_PARTITIONS", "many"),
        ("TWINTIDE_CHECKPOINT_S", "0"),
        ("TWINTIDE_VECTOR_FORMAT", "float128"),
        ("TWINTIDE_NO_SUCH_SETTING", "1"),
        ("TWINTIDE_ARTIFACT", "http://shop/artifacts"),
        ("TWINTIDE_ARTIFACT", "s3://KEY:SECRET@shop/artifacts"),
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


@pytest.mark.parametrize(
    ("name", "value", "demand"),
    [
        ("PARTITIONS", "0", "is 0; it must be a whole number at least 1"),
        ("PARTITIONS", "many", "is 'many'; it must be a whole number"),
        ("ROCKSDB_MB", "15", "is 15; it must be a whole number at least 16"),
        ("STANDBY_REPLICAS", "-1", "is -1; it must be a whole number at least 0"),
        ("KEEP_PREVIOUS_S", "-0.1", "is -0.1; it must be a number at least 0"),
        ("CHECKPOINT_S", "0", "is 0.0; it must be a number above 0"),
        ("CHECKPOINT_S", "nan", "is nan; it must be a number above 0"),
        ("DRAIN_S", "soon", "is 'soon'; it must be a number"),
        ("MODEL_COVERAGE", "0", "is 0.0; it must be a number above 0 and at most 1"),
        ("MODEL_COVERAGE", "1.1", "is 1.1; it must be a number above 0 and at most 1"),
        ("ENCODE", "yes", "is 'yes'; it must be true or false"),
        ("DEVICE", "tpu", "is 'tpu'; use one of auto, cpu, cuda"),
        ("VECTOR_FORMAT", "float128", "is 'float128'; use one of float32, float16, int8"),
    ],
)
def test_message_says_which_values_there_are(name: str, value: str, demand: str) -> None:
    with pytest.raises(SettingsError) as error:
        Settings.from_environment({f"TWINTIDE_{name}": value})
    assert str(error.value) == f"TWINTIDE_{name} {demand}"


@pytest.mark.parametrize(
    ("name", "least"),
    [
        *((name, 1) for name in ("partitions", "replication_factor", "batch_users", "waiting_users")),
        *((name, 1) for name in ("batch_records", "kept_vectors", "metrics_port")),
        *((name, 0) for name in ("standby_replicas", "freshness_ms", "cached_windows", "torch_threads")),
        *((name, 0) for name in ("encode_interval_ms", "short_ttl_s", "store_history", "ttl_s")),
        *((name, 0) for name in ("sweep_every_s", "keep_previous_s")),
        ("rocksdb_mb", 16),
    ],
)
def test_least_value_is_taken_and_none_below(name: str, least: int) -> None:
    assert getattr(Settings.from_environment({variable(name): str(least)}), name) == least
    with pytest.raises(SettingsError, match=f"^{variable(name)} is .*at least {least}$"):
        Settings.from_environment({variable(name): str(least - 1)})


def test_bounds_hold_without_the_environment_too() -> None:
    assert Settings(model_coverage=1).model_coverage == 1
    with pytest.raises(SettingsError, match="TWINTIDE_DRAIN_S is -1"):
        Settings(drain_s=-1)


def test_every_vector_format_has_its_size() -> None:
    assert get_args(VectorFormat) == tuple(VECTOR_FORMATS)


def test_secrets_never_show() -> None:
    kafka = KafkaConnection(security_protocol="SASL_SSL", sasl_username="me", sasl_password="hunter2")
    redis = RedisConnection("rediss://me:hunter2@cache:6380/0")
    assert "hunter2" not in repr(Settings(kafka=kafka, redis=redis))
    assert redis.place == "rediss://cache:6380/0"
    assert kafka.librdkafka()["sasl.password"] == "hunter2"
