"""Avro and Protobuf by a real schema registry: a worker on it, an outage, replay, check and rekey."""

import base64
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from confluent_kafka import Producer

from local.registry import RegistryServer
from local.servers import ROOT
from local.worker import WorkerProcess, worker_environment
from models.errors import SettingsError
from replay.encoding import AVRO, PROTOBUF, make_encode
from stream.kafka.topic_reader import read_all
from stream.registry.connection import RegistryConnection
from stream.registry.schemas import Schemas
from stream.settings import Settings
from tests.integration.front_door import FrontDoor
from tests.integration.shop import Shop

pytestmark = pytest.mark.integration

USERS, USER, PASSWORD = 40, "worker", "p:w"


@dataclass
class Encoded:
    """Events of an encoding, and the settings that read them."""

    settings: Settings
    encoding: str
    door: FrontDoor
    direct: RegistryConnection

    def values(self, first: int, count: int) -> list[bytes]:
        """Return events in the first schema."""
        encode = make_encode(self.encoding, self.direct, self.settings.topic)
        assert encode is not None
        return encode([json.dumps(event(number)).encode() for number in range(first, first + count)])

    def later(self, values: Sequence[bytes]) -> list[bytes]:
        """Return events of the first schema as a later one has them, with a field more."""
        schemas, subject = Schemas(self.direct), f"{self.settings.topic}-later"
        if self.encoding == "avro":
            schema = json.loads(AVRO)
            schema["fields"].append({"name": "page", "type": "string", "default": ""})
            number, more = schemas.register(subject, json.dumps(schema), "AVRO"), b"\x06new"
        else:
            text = PROTOBUF.replace("int64 time = 7;", "int64 time = 7; string page = 9;")
            number, more = schemas.register(subject, text, "PROTOBUF"), b"\x4a\x03new"
        return [b"\0" + number.to_bytes(4, "big") + value[5:] + more for value in values]


def event(number: int) -> dict[str, object]:
    return {
        "event_id": f"e{number}",
        "user_id": f"u{number % USERS}",
        "item_id": f"i{number % 50}",
        "behavior_type": 1 + number % 4,
        "user_geohash": None,
        "item_category": f"c{number % 3}",
        "time": 1_417_000_000_000 + number * 60_000,
    }


@pytest.fixture(params=["avro", "protobuf"])
def encoded(
    request: pytest.FixtureRequest, settings: Settings, registry_server: RegistryServer, tmp_path: Path
) -> Iterator[Encoded]:
    """Give each encoding, and a registry behind a door that is shut."""
    (tmp_path / "events.toml").write_text(f'encoding = "{request.param}"\n')
    basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    door = FrontDoor(registry_server.url, f"Basic {basic}", tmp_path)
    registry = RegistryConnection(door.url, USER, PASSWORD, ssl_ca_file=str(door.ca_file))
    ours = replace(settings, event_format=str(tmp_path / "events.toml"), registry=registry)
    yield Encoded(ours, request.param, door, RegistryConnection(registry_server.url))
    door.shut()


def send(settings: Settings, first: int, values: Sequence[bytes | None], key: bytes | None = None) -> None:
    """Send the values of events number `first` and following."""
    producer = Producer({**settings.kafka.librdkafka(), "partitioner": "murmur2_random", "acks": "all"})
    for number, value in enumerate(values, start=first):
        producer.produce(settings.topic, value, key or f"u{number % USERS}".encode())
    assert producer.flush(30) == 0


def test_worker_waits_for_its_registry_at_the_start_and_in_the_middle_and_loses_nothing(
    encoded: Encoded, tmp_path: Path, shop: Shop, until: Callable[..., None]
) -> None:
    ours, values = encoded.settings, encoded.values(0, 900)
    bad: list[bytes | None] = [
        b"", b'{"user_id": "u0"}', b"\0\x7f\xff\xff\xf0" + values[0][5:], values[0][:-2], values[0] + b"\x07",
    ]  # fmt: skip
    send(ours, 0, values[:300])
    worker = WorkerProcess(tmp_path / "worker", worker_environment(encoded.settings))

    def waits() -> bool:
        health = worker.health()
        is_said = health.get("status") == "stuck" and "registry at https://" in str(health.get("reason"))
        return is_said and worker.metrics()["twintide_schema_registry_down"] == 1

    try:
        worker.start(wait=False)
        until(waits, 200)
        encoded.door.open()
        until(lambda: worker.metrics().get("twintide_events_total{applied}") == 300, 120)
        assert worker.is_ready() and worker.metrics()["twintide_schema_registry_down"] == 0
        encoded.door.shut()
        send(ours, 300, [*values[300:600]])  # of a schema that is known
        until(lambda: worker.metrics()["twintide_events_total{applied}"] == 600, 60)
        send(ours, 600, encoded.later(values[600:]))
        send(ours, 0, bad, key=b"u0")
        until(waits, 60)
        encoded.door.open()
        shop.settings, shop.published = ours, len(values) + len(bad)
        found = shop.prove()
        assert found.is_ok, found.complaint
        assert (found.applied, found.malformed) == (900, 5)
    finally:
        worker.kill()
    letters = [dict(record.headers() or ()) for record in read_all(ours.kafka, ours.dead_letter_topic)]
    assert sorted(each["reason"] for each in letters) == [b"frame"] * 2 + [b"payload"] * 2 + [b"schema"]


def test_replay_check_and_rekey_know_the_encoding(encoded: Encoded, tmp_path: Path) -> None:
    rows = "".join(f"u{number % 7},i{number},1,,c1,2014-12-01 {number % 24:02}\n" for number in range(500))
    header = "user_id,item_id,behavior_type,user_geohash,item_category,time\n"
    (tmp_path / "log.csv").write_text(header + rows)
    ours, keyed = encoded.settings, f"{encoded.settings.topic}-keyed"
    replay = ("replay", "--data-path", tmp_path / "log.csv", "--topic", ours.topic, "--speed", "max")
    words = (*replay, "--encode", encoded.encoding, "--malformed", "4%")
    said = command(encoded, *words, code=1)
    assert "the schema registry at https://" in said and "does not answer" in said and "Traceback" not in said
    encoded.door.open()
    command(encoded, *words)
    said = command(encoded, "stream.check", "--topic", ours.topic, "--min-share", "0.5")
    assert "fields: event_id, user_id, item_id" in said and "behaviours: view 5" in said
    assert "from the records' timestamps" in said and "payload" in said
    said = command(encoded, "stream.rekey", "--topic", ours.topic, "--to", keyed)
    events = [json.loads(record.value() or b"") for record in read_all(ours.kafka, keyed)]
    assert f"events={len(events)} " in said and len({each["event_id"] for each in events}) == 500
    encoded.settings = replace(ours, registry=replace(ours.registry, password="wrong"))
    said = command(encoded, "stream.check", "--topic", ours.topic, code=2)
    assert "refuses us (401)" in said and "wrong" not in said


def command(encoded: Encoded, *words: object, code: int = 0) -> str:
    """Return what `python -m` says."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        env={"PATH": "/usr/bin:/bin", **worker_environment(encoded.settings), "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_token_lets_us_in_and_settings_that_make_no_sense_are_refused(
    registry_server: RegistryServer, tmp_path: Path
) -> None:
    door = FrontDoor(registry_server.url, "Bearer t0ken", tmp_path)
    door.open()
    try:
        Schemas(RegistryConnection(door.url, token="t0ken", ssl_ca_file=str(door.ca_file))).check()
        with pytest.raises(SettingsError, match="refuses us"):
            Schemas(RegistryConnection(door.url, token="other", ssl_ca_file=str(door.ca_file))).check()
    finally:
        door.shut()
    with pytest.raises(SettingsError, match="exclude each other"):
        RegistryConnection("http://registry:8081", "user", token="t")
    with pytest.raises(SettingsError, match="without a password") as refused:
        RegistryConnection("http://user:secret@registry:8081")
    assert "secret" not in str(refused.value)
    with pytest.raises(SettingsError, match="SCHEMA_REGISTRY_URL is not set"):
        Schemas(RegistryConnection())
    with pytest.raises(SettingsError, match="SCHEMA_REGISTRY_SSL_CA_FILE is 'nowhere'"):
        Schemas(RegistryConnection("https://registry:8081", ssl_ca_file="nowhere"))
