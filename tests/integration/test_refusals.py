"""What a server refuses, by its rights or its certificates, ends in one line that says what and where."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import redis
from confluent_kafka.admin import AclOperation, ResourceType

from local.kafka import KafkaServer
from local.servers import ROOT
from local.worker import WorkerProcess, worker_environment
from models.artifact.artifact import Artifact
from models.errors import UnreachableError
from stream.kafka.group import committed_offsets
from stream.kafka.topics import changelog_topic, ensure_topic
from stream.registry.connection import RegistryConnection
from stream.registry.schemas import Schemas
from stream.settings import Settings
from stream.store.clients import redis_client
from stream.store.connection import RedisConnection
from tests.integration.certificates import Authority
from tests.integration.guarded import Guarded
from tests.integration.shop import Shop
from tests.integration.tls_door import tls_door

pytestmark = pytest.mark.integration

TOPIC, GROUP, TRANSACTION = ResourceType.TOPIC, ResourceType.GROUP, ResourceType.TRANSACTIONAL_ID
READ, WRITE, DESCRIBE = AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE

NOT_ALLOWED = "authorization failed"


@dataclass
class Guard:
    """A broker that refuses, its shop, and what a command is told to come in."""

    broker: Guarded
    authority: Authority
    settings: Settings
    environment: dict[str, str]
    log: Path

    def run(self, *command: str, **environment: str) -> tuple[int, str]:
        """Return the exit status of a command, and the last line that it prints; none has a traceback."""
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env={**os.environ, **self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, (done.stderr.strip() or done.stdout.strip()).splitlines()[-1]

    def start(self, certificate: Path) -> None:
        """Start the broker again, with another certificate."""
        self.broker.server.stop()
        self.broker.start(certificate, self.authority.ca_file)


@pytest.fixture
def guard(settings: Settings, tmp_path: Path) -> Iterator[Guard]:
    """Give a broker of our own that lets a user in by password, and only to what is the deployment's."""
    authority = Authority(tmp_path, "ca")
    broker = Guarded(KafkaServer(tmp_path / "kafka"))
    broker.start(authority.certificate("good"), authority.ca_file)
    name = settings.app_id
    try:
        broker.allow(name)
        ours = replace(settings, kafka=broker.open)
        environment = {**worker_environment(ours), **broker.by_password(authority.ca_file)}
        log = tmp_path / "log.csv"
        rows = (f"u{n % 9},i{n % 70},1,,c{n % 3},2014-11-18 {n % 24:02d}\n" for n in range(40))
        log.write_text("user_id,item_id,behavior_type,user_geohash,item_category,time\n" + "".join(rows))
        yield Guard(broker, authority, ours, environment, log)
    finally:
        broker.server.kill()


def test_what_kafka_does_not_allow_is_said_in_one_line(
    guard: Guard, artifact: Artifact, redis_client: "redis.Redis", tmp_path: Path, until: Callable[..., None]
) -> None:
    settings, denied = guard.settings, guard.broker.denied
    topic, group = settings.topic, settings.app_id
    raw, changelog = f"{group}-raw", changelog_topic(group)
    worker = WorkerProcess(tmp_path / "worker", guard.environment)

    def last_line(status: int) -> str:
        assert worker.wait(300) == status
        said = worker.process.log.read_text()
        assert "Traceback" not in said
        return said.strip().splitlines()[-1]

    def is_applied(count: int) -> bool:
        return worker.metrics().get("twintide_events_total{applied}", 0) == count

    with ExitStack() as stack:
        stack.callback(worker.kill)
        shop = Shop(settings, redis_client, artifact)
        shop.send(200)
        worker.start()  # rights on what has the deployment's name, and no others, are enough
        until(lambda: is_applied(200), 300)
        assert shop.prove().is_ok
        with denied(TOPIC, topic, DESCRIBE):  # the group has no partitions then, and nobody says why
            until(lambda: NOT_ALLOWED in worker.health().get("reason", "").lower())
            assert worker.metrics()["twintide_not_allowed"] == 1
        until(lambda: worker.is_ready() and worker.health()["partitions"] == 4)
        with denied(TOPIC, settings.dead_letter_topic, WRITE):
            shop.send_raw(b"u", b"not an event")
            assert f"Kafka refused a record of {settings.dead_letter_topic}" in last_line(1)
        assert sum(committed_offsets(settings.kafka, group, topic).values()) == 200, "it would be lost"
        for kind, name, operation, said in (
            (TOPIC, topic, READ, f"topic {topic} cannot be read: "),
            (TOPIC, changelog, WRITE, f"{changelog}: "),
            (TRANSACTION, f"{group}-0", WRITE, f"partition 0 of {changelog} cannot be taken: "),
            (GROUP, group, READ, group),
        ):
            with denied(kind, name, operation):
                shop.send(40, first=200)
                worker.start(wait=False)
                line = last_line(1)
                assert said in line and NOT_ALLOWED in line.lower(), line

    ensure_topic(settings.kafka, raw, 2)
    shop.send_raw(b"u", b"{}", topic=raw)
    replay = ("replay", "--data-path", str(guard.log), "--topic", topic, "--speed", "max")
    rekey = ("stream.rekey", "--topic", raw, "--to", topic)
    for kind, name, operation, commands in (
        (TOPIC, topic, WRITE, (replay, ("stream.canary", "--for", "1s", "--lost-after-s", "2"))),
        (
            TOPIC,
            topic,
            READ,
            (("stream.check", "--topic", topic), ("offline.archive", "--out", str(tmp_path / "a"))),
        ),
        (TOPIC, raw, READ, (("stream.check", "--topic", raw), rekey)),
        (TOPIC, settings.dead_letter_topic, READ, (("stream.dlq", "list"),)),
        (TOPIC, changelog, READ, (("offline.train", "--from-stream"), ("local.proof",))),
    ):
        with denied(kind, name, operation):
            for command in commands:
                status, line = guard.run(*command)
                assert status in (1, 2) and NOT_ALLOWED in line.lower(), (command, line)
    with denied(GROUP, group, DESCRIBE):  # librdkafka asks again until its time is over, and says no more
        status, line = guard.run("local.proof")
        assert status == 2 and line.startswith(f"Error: offsets of group {group}: "), line


def test_who_kafka_does_not_let_in_is_told_why_in_one_line(guard: Guard, tmp_path: Path) -> None:
    ours, door = guard.authority, guard.broker
    other = Authority(tmp_path, "other")
    dlq: tuple[str, ...] = ("stream.dlq", "list")
    worker: tuple[str, ...] = ("faust", "-A", "stream.app", "worker")
    replay: tuple[str, ...] = ("replay", "--data-path", str(guard.log), "--speed", "max")
    for environment, said in (
        (door.by_password(other.ca_file), "certificate verify failed"),
        (door.by_password(ours.ca_file, "no"), "see KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD"),
        (door.by_certificate(ours.ca_file), "certificate"),
        (door.by_password(tmp_path / "none"), "KAFKA_SSL_CA_FILE is "),
    ):
        for command in (dlq, replay):
            status, line = guard.run(*command, **environment)
            assert status in (1, 2) and said in line, line
    for certificate in (
        ours.certificate("old", days=-1),
        ours.certificate("elsewhere", host="kafka.example"),
    ):
        guard.start(certificate)
        for command in (dlq, worker):
            status, line = guard.run(*command)
            assert status == 1 and "see KAFKA_SSL_CA_FILE" in line, line


def test_certificates_of_redis_and_of_a_registry_are_refused_in_one_line(
    redis_connection: RedisConnection, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours, other = Authority(tmp_path, "ca"), Authority(tmp_path, "other")
    good, port = ours.certificate("good"), int(redis_connection.place.rsplit(":", 1)[1].split("/")[0])
    for certificate, authority, clients, said in (
        (good, other, None, "unable to get local issuer certificate"),
        (ours.certificate("old", days=-1), ours, None, "certificate has expired"),
        (ours.certificate("elsewhere", host="redis.example"), ours, None, "not valid for '127.0.0.1'"),
        # Who has no certificate hears of it, or, where the alert comes too late, of an end against the rules.
        (good, ours, ours.ca_file, "certificate required|violation of protocol|Connection reset|Broken pipe"),
    ):
        with tls_door(port, certificate, clients) as door:
            for scheme in ("rediss", "rediss+cluster"):
                connection = RedisConnection(
                    f"{scheme}://127.0.0.1:{door}", ssl_ca_file=str(authority.ca_file)
                )
                with pytest.raises(UnreachableError, match=said) as refused:
                    redis_client(connection)
                assert f"127.0.0.1:{door}" in str(refused.value) and "\n" not in str(refused.value)
                assert clients or "see REDIS_SSL_CA_FILE" in str(refused.value)
            registry = RegistryConnection(f"https://127.0.0.1:{door}", ssl_ca_file=str(authority.ca_file))
            caplog.clear()
            Schemas(registry).check()  # work goes on as soon as it answers
            (line,) = caplog.messages
            assert registry.url in line and re.search(said, line)
