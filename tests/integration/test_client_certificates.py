"""Servers that let in who has a certificate alone: worker and commands show theirs, or say what is wrong."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from local.kafka import KafkaServer
from local.servers import ROOT
from local.worker import WorkerProcess, worker_environment
from models.artifact.artifact import Artifact
from models.errors import UnreachableError
from stream.registry.connection import RegistryConnection
from stream.registry.schemas import Schemas
from stream.settings import Settings
from stream.store.clients import redis_client as connect
from stream.store.connection import RedisConnection
from tests.integration.certificates import Authority
from tests.integration.guarded import CLIENT, Guarded
from tests.integration.shop import Shop
from tests.integration.tls_door import tls_door

pytestmark = pytest.mark.integration

PASSWORD = "s3cret-of-the-key"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Give an authority that signs servers and clients."""
    return Authority(tmp_path, "ca")


@pytest.fixture
def broker(authority: Authority, tmp_path: Path) -> Iterator[Guarded]:
    """Give a broker with a door by certificate (ssl.client.auth=required)."""
    found = Guarded(KafkaServer(tmp_path / "kafka"))
    found.start(authority.certificate("broker"), authority.ca_file)
    yield found
    found.server.kill()


@pytest.fixture
def redis_door(redis_connection: RedisConnection, authority: Authority) -> Iterator[str]:
    """Give the URL of a Redis whose door lets in whom the authority has signed alone."""
    port = int(redis_connection.place.rsplit(":", 1)[1].split("/")[0])
    with tls_door(port, authority.certificate("redis"), authority.ca_file) as door:
        yield f"rediss://127.0.0.1:{door}/0"


def test_worker_and_commands_come_in_by_a_certificate_with_an_encrypted_key(
    settings: Settings,
    broker: Guarded,
    authority: Authority,
    redis_door: str,
    redis_client: "redis.Redis",
    artifact: Artifact,
    tmp_path: Path,
    until: Callable[..., None],
) -> None:
    file, key_file = map(str, authority.encrypted(CLIENT, PASSWORD))
    own = {"CERTIFICATE_FILE": file, "KEY_FILE": key_file, "KEY_PASSWORD": PASSWORD}
    ours = replace(settings, kafka=broker.open)
    environment = {
        **worker_environment(ours),
        **broker.by_certificate(authority.ca_file, **own),
        "REDIS_URL": redis_door,
        "REDIS_SSL_CA_FILE": str(authority.ca_file),
        **{f"REDIS_SSL_{name}": value for name, value in own.items()},
    }
    shop, worker = Shop(ours, redis_client, artifact), WorkerProcess(tmp_path / "worker", environment)
    log = tmp_path / "log.csv"
    rows = (f"u{n % 9},i{n % 70},1,,c{n % 3},2014-11-18 {n % 24:02d}\n" for n in range(40))
    log.write_text("user_id,item_id,behavior_type,user_geohash,item_category,time\n" + "".join(rows))
    with ExitStack() as stack:
        stack.callback(worker.kill)
        shop.send(100)
        worker.start()
        replay = ("replay", "--data-path", str(log), "--topic", ours.topic, "--speed", "max")
        status, said = run(environment, *replay)
        assert status == 0, said
        until(lambda: worker.metrics().get("twintide_events_total{applied}", 0) == 140)
        status, said = run(environment, "local.proof")
        assert status == 0 and said.splitlines()[-1].endswith("OK"), said
        assert PASSWORD not in worker.process.log.read_text() + said


def test_certificate_that_kafka_does_not_take_is_one_line(
    broker: Guarded, authority: Authority, tmp_path: Path
) -> None:
    other = Authority(tmp_path, "other")
    (tmp_path / "log.csv").write_text("user_id,item_id,behavior_type,user_geohash,item_category,time\n")
    for own in (
        {},
        {"CERTIFICATE_FILE": str(authority.certificate("old", days=-1))},
        {"CERTIFICATE_FILE": str(other.certificate("stranger"))},
    ):
        environment = broker.by_certificate(authority.ca_file, **own)
        status, said = run({**os.environ, **environment}, "stream.dlq", "list")
        assert status == 1 and "Traceback" not in said
        line = said.strip().splitlines()[-1]
        assert f"no Kafka at 127.0.0.1:{broker.certificate_port} (" in line, line
        assert "KAFKA_SSL_CERTIFICATE_FILE" in line, line


def test_certificate_that_redis_or_a_registry_does_not_take_is_one_line(
    redis_door: str, authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = Authority(tmp_path, "other")
    for own in ("", str(authority.certificate("old", days=-1)), str(other.certificate("stranger"))):
        ca_file, place = str(authority.ca_file), redis_door.removeprefix("rediss://").removesuffix("/0")
        for url in (redis_door, f"rediss+cluster://{place}", f"rediss+sentinel://{place}/master"):
            connection = RedisConnection(url, ssl_ca_file=ca_file, ssl_certificate_file=own)
            with pytest.raises(UnreachableError, match="see REDIS_SSL_CERTIFICATE_FILE") as refused:
                connect(connection)
            assert place in str(refused.value) and "\n" not in str(refused.value)
        caplog.clear()
        Schemas(RegistryConnection(f"https://{place}", ssl_ca_file=ca_file, ssl_certificate_file=own)).check()
        (line,) = caplog.messages
        assert place in line and "\n" not in line


def run(environment: dict[str, str], *command: str) -> tuple[int, str]:
    """Return the exit status of a command, and what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stderr + done.stdout
