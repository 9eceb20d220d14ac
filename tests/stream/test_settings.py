"""Settings from the environment: defaults, types, and what is refused."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import get_args
from urllib.parse import quote

import pytest

from models.errors import SettingsError
from models.location import BucketUrl
from stream.kafka.connection import KafkaConnection
from stream.registry.connection import RegistryConnection
from stream.settings import Settings, variable
from stream.store.clients import parse_hosts_url
from stream.store.connection import RedisConnection
from stream.store.keys import VECTOR_FORMATS, VectorFormat
from tests.integration.certificates import Authority


def test_empty_environment_gives_the_defaults() -> None:
    assert Settings.from_environment({}) == Settings()


def test_every_field_is_read_from_its_variable() -> None:
    given = {"partitions": "7", "checkpoint_s": "0.5", "artifact": "elsewhere", "vector_format": "int8"}
    settings = Settings.from_environment({variable(name): value for name, value in given.items()})
    assert (settings.partitions, settings.checkpoint_s) == (7, 0.5)
    assert (settings.artifact, settings.vector_format) == (Path("elsewhere"), "int8")
    assert {each.name for each in fields(Settings)} > set(given)


def test_blanks_and_line_ends_around_values_do_not_matter() -> None:
    given = {"app_id": "shop\n", "encode": " True ", "artifact": " s3://shop/a\r\n", "instance_id": " \n"}
    settings = Settings.from_environment({variable(name): value for name, value in given.items()})
    assert (settings.app_id, settings.encode, settings.instance_id) == ("shop", True, "")
    assert settings.artifact == BucketUrl("s3", "shop", ("a",))


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
        ("REDIS_TIMEOUT_S", "inf"),
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
        ("METRICS_PORT", "65536", "is 65536; it must be a whole number at least 1 and at most 65535"),
        ("CHECKPOINT_S", "inf", "is inf; it must be at most 2147483647"),
        ("TTL_S", "3000000000", "is 3000000000; it must be at most 2147483647"),
        ("PARTITIONS", "7" * 5000, f"is '{'7' * 59}...; it must be a whole number"),
        ("DATA_DIR", " ", "is empty; unset it for .local/worker, or give another"),
        ("TOPIC", "", "is empty; unset it for user-behavior, or give another"),
        ("METRICS_HOST", "", "is empty; unset it for 127.0.0.1, or give another"),
        (
            "APP_ID",
            "shop a",
            "is 'shop a'; it must be a name of at most 200 letters, digits, '.', '_' and '-'",
        ),
        (
            "DEAD_LETTER_TOPIC",
            "user-behavior",
            "and TWINTIDE_TOPIC are both user-behavior: dead letters would be read as events for ever; "
            "give two topics",
        ),
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
        *((name, 1) for name in ("batch_records", "kept_vectors")),
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


LINKS = {
    "TWINTIDE_WORKER_SERVICE_HOST": "10.96.0.17",
    "TWINTIDE_WORKER_SERVICE_PORT": "9108",
    "TWINTIDE_WORKER_SERVICE_PORT_METRICS": "9108",
    "TWINTIDE_WORKER_PORT": "tcp://10.96.0.17:9108",
    "TWINTIDE_WORKER_PORT_9108_TCP": "tcp://10.96.0.17:9108",
    "TWINTIDE_WORKER_PORT_9108_TCP_PROTO": "tcp",
    "TWINTIDE_WORKER_PORT_9108_TCP_PORT": "9108",
    "TWINTIDE_WORKER_PORT_9108_TCP_ADDR": "10.96.0.17",
}


def test_variables_that_kubernetes_makes_of_services_are_no_settings_and_typos_are_still_found() -> None:
    assert Settings.from_environment(LINKS) == Settings()
    whole = {name.replace("TWINTIDE_WORKER", "TWINTIDE"): value for name, value in LINKS.items()}
    assert Settings.from_environment({**LINKS, **whole}) == Settings(), "a Service named twintide"
    for typo in ("TWINTIDE_WORKER_TOPIC", "TWINTIDE_WORKERS_PORT", "TWINTIDE_PARTITION"):
        with pytest.raises(SettingsError, match=f"^{typo} is no setting"):
            Settings.from_environment({**LINKS, typo: "1"})


def test_service_whose_variable_has_the_name_of_a_setting_is_named() -> None:
    links = {"TWINTIDE_METRICS_SERVICE_HOST": "10.0.0.1", "TWINTIDE_METRICS_PORT": "tcp://10.0.0.1:9108"}
    with pytest.raises(SettingsError, match="puts there for a Service named twintide-metrics: name"):
        Settings.from_environment(links)
    assert Settings.from_environment({**links, "TWINTIDE_METRICS_PORT": "9300"}).metrics_port == 9300


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+cluster", "rediss+sentinel"])
@pytest.mark.parametrize("secret", [f"hun{each}ter2" for each in "#/?@%[ "])
def test_password_that_is_not_percent_encoded_is_one_line_without_any_of_it(scheme: str, secret: str) -> None:
    with pytest.raises(SettingsError, match="percent-encode") as error:
        RedisConnection(f"{scheme}://me:{secret}@cache:6380/0")
    assert "ter2" not in str(error.value)
    assert "hun" not in str(error.value)
    encoded = RedisConnection(f"{scheme}://me:{quote(secret, safe='')}@cache:6380/0")
    assert encoded.place == f"{scheme}://cache:6380/0"


@pytest.mark.parametrize(
    "url",
    ["redis://:hunter2", "redis://me:hunter2:6379/0", "redis+cluster://:hunter2:7000", "redis://me:hunter2@"],
)
def test_url_that_cannot_be_taken_apart_is_never_shown(url: str) -> None:
    with pytest.raises(SettingsError, match=r"REDIS_URL must be redis\S*://host:port") as error:
        RedisConnection(url)
    assert "hunter2" not in str(error.value)


def test_password_among_a_urls_options_does_not_show() -> None:
    assert RedisConnection("redis://cache:6380/0?password=hunter2").place == "redis://cache:6380/0"
    assert RedisConnection("unix:///run/a@b.sock?db=1").place == "unix:///run/a@b.sock"


def test_blanks_and_empty_places_in_lists_of_servers_do_not_matter() -> None:
    assert KafkaConnection(" a:9092, [::1]:9092,").bootstrap_servers == "a:9092,[::1]:9092"
    assert parse_hosts_url(RedisConnection(" redis+cluster://a:7001, b:7002, ").url, 1).hosts == [
        ("a", 7001),
        ("b", 7002),
    ]
    for wrong in ("a", "a:b", "kafka://a:9092", "me:hunter2@a:9092", ",", "a:9092;b:9092"):
        with pytest.raises(SettingsError, match="KAFKA_BOOTSTRAP_SERVERS") as error:
            KafkaConnection(wrong)
        assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("variable", "read"),
    [
        ("KAFKA_SSL_CA_FILE", KafkaConnection.from_environment),
        ("REDIS_SSL_CA_FILE", RedisConnection.from_environment),
        ("SCHEMA_REGISTRY_SSL_CA_FILE", RegistryConnection.from_environment),
    ],
)
def test_ca_file_that_cannot_be_used_is_named(
    variable: str, read: Callable[[Mapping[str, str]], object], tmp_path: Path
) -> None:
    (empty := tmp_path / "empty").write_text("no certificate\n")
    for file in (empty, tmp_path, tmp_path / "nowhere"):
        with pytest.raises(SettingsError, match=f"{variable} is '{file}', which cannot be used"):
            read({variable: str(file)})


@pytest.mark.parametrize(
    ("server", "secure", "read"),
    [
        ("KAFKA", {"KAFKA_SECURITY_PROTOCOL": "SSL"}, KafkaConnection.from_environment),
        ("REDIS", {"REDIS_URL": "rediss://localhost"}, RedisConnection.from_environment),
        (
            "SCHEMA_REGISTRY",
            {"SCHEMA_REGISTRY_URL": "https://localhost"},
            RegistryConnection.from_environment,
        ),
    ],
)
def test_certificate_or_key_that_cannot_be_used_is_named_without_the_password(
    server: str, secure: dict[str, str], read: Callable[[Mapping[str, str]], object], tmp_path: Path
) -> None:
    authority = Authority(tmp_path, "ca")
    whole, other = str(authority.certificate("whole")), str(authority.certificate("other"))
    file, key_file = map(str, authority.encrypted("apart", "s3cret"))
    nowhere = str(tmp_path / "nowhere")
    of = {each: f"{server}_SSL_{each}" for each in ("CERTIFICATE_FILE", "KEY_FILE", "KEY_PASSWORD")}
    certificate, key, password = of.values()
    for variables in (
        {certificate: whole},
        {certificate: whole, key: whole},
        {certificate: file, key: key_file, password: "s3cret"},
    ):
        read({**secure, **variables})
    for variables, said in (
        ({certificate: nowhere}, f"{certificate} is '{nowhere}', which cannot be used (No such file"),
        ({certificate: str(tmp_path)}, "which cannot be used (Is a directory)"),
        ({certificate: file}, f"(no private key in PEM is in it); set {key}"),
        ({certificate: key_file}, "(no certificate in PEM is in it)"),
        ({certificate: file, key: nowhere}, f"{key} is '{nowhere}', which cannot be used (No such file"),
        ({certificate: file, key: file}, f"{key} is '{file}', which cannot be used (no private key"),
        ({certificate: file, key: other}, f"the key in '{other}' is not that of the certificate"),
        ({certificate: file, key: key_file}, f"is encrypted, and {password} is not set"),
        ({certificate: file, key: key_file, password: "wr0ng"}, f"{password} does not open it"),
        ({certificate: file, key: key_file, password: "wr0ng" * 300}, "is longer than 1024 bytes"),
        ({key: whole}, f"{key} is set and {certificate} is not"),
        ({password: "wr0ng"}, f"{password} is set and {certificate} is not"),
    ):
        with pytest.raises(SettingsError) as refused:
            read({**secure, **variables})
        line = str(refused.value)
        assert said in line and "wr0ng" not in line and "PRIVATE" not in line and "\n" not in line, line
    with pytest.raises(SettingsError, match=f"{certificate} is set, and the connection to {server} is with"):
        read({certificate: whole})
