"""The local servers on real processes: what survives a kill, what a crash leaves behind (nothing)."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import redis
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from local import resident
from local.kafka import KafkaServer
from local.ports import answers, free_port, is_free
from local.redis import RedisServer
from local.servers import servers
from models.errors import TwintideError, UnreachableError
from stream.kafka.connection import KafkaConnection
from stream.kafka.topics import partition_counts

pytestmark = pytest.mark.integration


def until_gone(pid: int, timeout_s: float = 60) -> bool:
    deadline = time.monotonic() + timeout_s
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not psutil.pid_exists(pid)


def test_broker_killed_and_started_again_has_its_port_topics_and_records(tmp_path: Path) -> None:
    server = KafkaServer(tmp_path / "with space" / "kafka")
    server.start()
    try:
        connection = KafkaConnection(server.bootstrap_servers)
        admin = AdminClient(connection.librdkafka())
        admin.create_topics([NewTopic("kept", 3, config={"retention.ms": "-1"})])["kept"].result(60)
        producer = Producer(connection.librdkafka())
        producer.produce("kept", b"from 2014", partition=1, timestamp=1_416_268_800_000)
        assert producer.flush(60) == 0
        first = server.process.pid
        server.kill()
        assert not answers(server.port)
        server.start()
        assert server.process.pid != first
        assert partition_counts(connection)["kept"] == 3
        assert read_one(connection, "kept") == b"from 2014"
    finally:
        server.stop()
    assert is_free(server.port)


def read_one(connection: KafkaConnection, topic: str) -> bytes | None:
    consumer = Consumer({**connection.librdkafka(), "group.id": "test", "auto.offset.reset": "earliest"})
    try:
        consumer.subscribe([topic])
        message = consumer.poll(60)
        assert message is not None and message.error() is None
        value: bytes | None = message.value()
        return value
    finally:
        consumer.close()


@pytest.mark.parametrize("durable", [True, False])
def test_only_a_durable_redis_keeps_its_data_through_a_kill(tmp_path: Path, durable: bool) -> None:
    server = RedisServer(tmp_path / "redis", durable=durable)
    server.start()
    try:
        with redis.Redis(port=server.port) as client:
            client.set("key", "value")
        server.kill()
        server.start()
        with redis.Redis(port=server.port) as client:
            assert client.get("key") == (b"value" if durable else None)
    finally:
        server.stop()


def test_redis_expires_single_fields(redis_server: RedisServer) -> None:
    with redis.Redis(port=redis_server.port) as client:
        client.hset("hash", mapping={"short": 1, "long": 1})
        assert client.hpexpire("hash", 1, "short") == [1]
        time.sleep(0.05)
        assert client.hkeys("hash") == [b"long"]


CRASHER = """
import os, signal, sys, threading
from pathlib import Path
from local.redis import RedisServer
server = RedisServer(Path(sys.argv[1]))
thread = threading.Thread(target=server.start)  # the server must outlive the thread that started it
thread.start(); thread.join()
import time; time.sleep(0.3)
print(server.process.pid, server.port, server.process._child.poll(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nothing_is_left_running_after_kill_9_and_the_next_start_works(tmp_path: Path) -> None:
    crashed = subprocess.run(
        [sys.executable, "-c", CRASHER, str(tmp_path / "redis")], capture_output=True, text=True, timeout=120
    )
    assert crashed.returncode == -signal.SIGKILL, crashed.stderr
    pid, port, ended = crashed.stdout.split()
    assert ended == "None"
    assert until_gone(int(pid))
    assert not answers(int(port))
    server = RedisServer(tmp_path / "redis")
    server.start()
    server.stop()


def test_leftover_of_a_dead_owner_is_ended_by_the_next_start(tmp_path: Path) -> None:
    leftover = RedisServer(tmp_path / "redis", detached=True)
    leftover.start()
    pid = leftover.process.pid
    assert pid is not None
    record = tmp_path / "redis" / "server.pid"
    assert '"owner": null' in record.read_text()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    record.write_text(record.read_text().replace('"owner": null', f'"owner": {gone.pid}'))
    server = RedisServer(tmp_path / "redis")
    server.start()
    try:
        assert not psutil.pid_exists(pid)
    finally:
        server.stop()


def test_directory_of_a_live_server_is_refused_and_left_alone(tmp_path: Path) -> None:
    other = RedisServer(tmp_path / "redis", detached=True)
    other.start()
    try:
        with pytest.raises(TwintideError, match=r"redis of `\./run up` already runs in .*: wait for it"):
            RedisServer(tmp_path / "redis").clear()
        assert answers(other.port)
    finally:
        other.stop()


def test_taken_port_is_named(tmp_path: Path, redis_server: RedisServer) -> None:
    with pytest.raises(TwintideError, match=f"port {redis_server.port} is taken"):
        RedisServer(tmp_path / "redis", port=redis_server.port).start()


def test_server_that_ends_at_once_tells_its_last_words_and_its_log(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis")
    (tmp_path / "redis").mkdir()
    with pytest.raises(
        UnreachableError, match=r"redis ended .*\(exit 1\): .+; the whole log is .*redis\.log"
    ):
        server.process.start(
            [sys.executable, "-c", "raise SystemExit('no such thing')", str(tmp_path / "redis")],
            lambda: False,
        )


def test_servers_of_the_environment_are_used_each_on_its_own(tmp_path: Path) -> None:
    with servers(tmp_path, {"KAFKA_BOOTSTRAP_SERVERS": "there:9092"}) as running:
        assert running.kafka is None
        assert running.redis is not None
        assert running.environment == {
            "KAFKA_BOOTSTRAP_SERVERS": "there:9092",
            "REDIS_URL": f"redis://127.0.0.1:{running.redis.port}/0",
        }
        pid = running.redis.process.pid
    assert pid is not None
    assert until_gone(pid)


def test_up_twice_then_down_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    environment = {"KAFKA_BOOTSTRAP_SERVERS": "there:9092"}  # Redis alone shows it all
    first = resident.up(tmp_path, environment)
    try:
        assert "Redis started" in capsys.readouterr().err
        assert resident.up(tmp_path, {**environment, "REDIS_URL": first["REDIS_URL"]}) == first
        assert "Redis already runs" in capsys.readouterr().err
    finally:
        assert resident.down(tmp_path) == ["redis"]
    assert resident.down(tmp_path) == []
    assert is_free(int(first["REDIS_URL"].split(":")[-1].split("/")[0]))


def test_down_leaves_a_stranger_with_the_recorded_id_alone(tmp_path: Path) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        (tmp_path / "redis").mkdir()
        (tmp_path / "redis" / "server.pid").write_text(
            f'{{"pid": {stranger.pid}, "started": {time.time() - 60}, "owner": null, "port": {free_port()}}}'
        )
        assert resident.down(tmp_path) == []
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_sigterm_stops_the_servers_of_a_verb(tmp_path: Path) -> None:
    script = (
        "import signal, sys, time\nfrom pathlib import Path\nfrom local.servers import servers\n"
        "signal.signal(signal.SIGTERM, lambda number, _: sys.exit(143))\n"
        "with servers(Path(sys.argv[1]), {}, kafka=False) as running:\n"
        "    print(running.redis.process.pid, flush=True)\n    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    with process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
    assert until_gone(pid)
    assert "bye bye" in (tmp_path / "logs" / "redis.log").read_text()  # asked to end, not killed


def test_broker_moves_to_other_ports_with_its_topics(tmp_path: Path) -> None:
    first = KafkaServer(tmp_path / "kafka", detached=True)
    first.start()
    admin = AdminClient(KafkaConnection(first.bootstrap_servers).librdkafka())
    admin.create_topics([NewTopic("kept", 2)])["kept"].result(60)
    KafkaServer(tmp_path / "kafka", detached=True).stop()  # as another process does it, by the pid file
    second = KafkaServer(tmp_path / "kafka", detached=True)
    second.start()
    try:
        assert second.port != first.port
        assert partition_counts(KafkaConnection(second.bootstrap_servers))["kept"] == 2
    finally:
        second.stop()


def test_server_is_ours_even_without_its_pid_file(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis", detached=True)
    (tmp_path / "redis").mkdir()
    asked: list[int | None] = []

    def is_ready() -> bool:
        (tmp_path / "redis" / "server.pid").unlink(missing_ok=True)
        asked.append(server.process.pid)
        return len(asked) == 3

    server.process.start([sys.executable, "-c", "import time; time.sleep(60)"], is_ready)
    pid = server.process.pid
    server.stop()
    assert asked == [pid] * 3 and pid is not None
    assert until_gone(pid)
