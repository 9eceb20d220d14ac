"""Apache Kafka 4 as a child process: one KRaft node on loopback."""

import shutil
import subprocess
from pathlib import Path

from local.jars import KAFKA_LOCK, fetched_jars
from local.java import find_java
from local.ports import answers, free_port
from local.processes import ServerProcess
from models.errors import TwintideError, UnreachableError
from stream.kafka.connection import KafkaConnection
from stream.kafka.topics import partition_counts

#: Any fixed 16 bytes in base64url: one node per directory never meets another.
CLUSTER_ID = "dHdpbnRpZGUtLWxvY2FsLQ"

#: It lives for minutes and shares its cores: with the first compiler alone and one collecting thread it takes
#: 4 s of CPU until it answers, not 8, and 6 for 20 s at 500 records/s, not 10. Logged are warnings and worse.
JVM_OPTIONS = (
    "-Xmx512m",
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS",
)

#: What differs from a production broker: one replica of everything, a small and eager log cleaner, a killed
#: broker may come back after 4 s instead of 9, and, below, how long a new group waits for members. Retention
#: stays Kafka's (7 days), so that a topic of 2014's timestamps made without `retention.ms=-1` shows.
SETTINGS = """\
process.roles=broker,controller
node.id=1
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
auto.create.topics.enable=false
log.cleaner.backoff.ms=1000
log.cleaner.dedupe.buffer.size=33554432
"""


class KafkaServer:
    """A broker with its data in `directory`; `start` after `kill` or `stop` has the same port and data."""

    def __init__(
        self, directory: Path, port: int | None = None, detached: bool = False, join_delay_ms: int = 0
    ) -> None:
        """`join_delay_ms` is how long a new group waits for more members; Kafka's default is 3,000."""
        self.port = free_port() if port is None else port
        self.controller_port = free_port()
        self.process = ServerProcess("kafka", directory, self.port, detached)
        self.directory = self.process.directory
        self._join_delay_ms = join_delay_ms
        #: Settings of the broker in addition to those that all have, or instead of them.
        self.settings: dict[str, str] = {}

    @property
    def bootstrap_servers(self) -> str:
        """Return the broker's host:port."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the broker and return when it answers."""
        self.process.end_leftover()
        jars = fetched_jars(KAFKA_LOCK, "set KAFKA_BOOTSTRAP_SERVERS to a broker you have")
        java = [str(find_java()), *JVM_OPTIONS, "-cp", ":".join(map(str, jars))]
        properties = self._write_properties()
        if not (self.directory / "data" / "meta.properties").exists():
            self._format(java, properties)
        self.process.start([*java, "kafka.Kafka", str(properties)], self._is_ready)

    def stop(self) -> None:
        """Stop the broker cleanly."""
        self.process.stop()

    def kill(self) -> None:
        """End the broker as a crash does (SIGKILL)."""
        self.process.kill()

    def clear(self) -> None:
        """Remove the data of a broker that does not run."""
        self.process.end_leftover()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _write_properties(self) -> Path:
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / "server.properties"
        broker, controller = f"127.0.0.1:{self.port}", f"127.0.0.1:{self.controller_port}"
        path.write_text(
            SETTINGS + f"listeners=PLAINTEXT://{broker},CONTROLLER://{controller}\n"
            f"advertised.listeners=PLAINTEXT://{broker}\n"
            f"controller.quorum.voters=1@{controller}\n"
            f"group.initial.rebalance.delay.ms={self._join_delay_ms}\n"
            f"log.dirs={_escaped(self.directory / 'data')}\n"
            + "".join(f"{name}={value}\n" for name, value in self.settings.items())
        )
        return path

    def _format(self, java: list[str], properties: Path) -> None:
        command = [*java, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(properties)]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)
        if done.returncode != 0:
            words = (done.stderr.strip() or done.stdout.strip()).splitlines()
            raise TwintideError(
                f"Kafka could not prepare {self.directory} (exit {done.returncode}): "
                f"{words[-1] if words else 'no reason given'}"
            )

    def _is_ready(self) -> bool:
        if not answers(self.port):
            return False
        try:
            partition_counts(KafkaConnection(self.bootstrap_servers))
        except UnreachableError:
            return False
        return True


def _escaped(path: Path) -> str:
    """Return a path as a Java properties value."""
    return str(path).replace("\\", "\\\\")
