"""The two servers that Twintide needs: those that the environment names, else children of ours."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from local.kafka import KafkaServer
from local.redis import RedisServer

ROOT = Path(__file__).resolve().parent.parent
#: Everything that `./run` keeps on this machine: server data, logs.
LOCAL = ROOT / ".local"


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the servers are; `kafka` and `redis` are None where they are not ours, or not asked for."""

    bootstrap_servers: str
    redis_url: str
    kafka: KafkaServer | None = None
    redis: RedisServer | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables that tell any command of Twintide where the servers are."""
        return {
            name: value
            for name, value in (
                ("KAFKA_BOOTSTRAP_SERVERS", self.bootstrap_servers),
                ("REDIS_URL", self.redis_url),
            )
            if value
        }


@contextmanager
def servers(
    directory: Path,
    environment: Mapping[str, str],
    kafka: bool = True,
    redis: bool = True,
    join_delay_ms: int = 0,
) -> Iterator[Servers]:
    """Give Kafka and Redis for the length of a with block, with no data from before.

    KAFKA_BOOTSTRAP_SERVERS and REDIS_URL of the environment are used as they are, each on its own; what is
    missing starts in `directory` and ends with the block. Logs go to `directory`/logs. A new consumer group
    waits `join_delay_ms` for more members, on a Kafka that is ours.
    """
    bootstrap_servers = environment.get("KAFKA_BOOTSTRAP_SERVERS", "")
    redis_url = environment.get("REDIS_URL", "")
    with ExitStack() as stack:
        own_redis = RedisServer(directory / "redis") if redis and not redis_url else None
        own_kafka = None
        if kafka and not bootstrap_servers:
            own_kafka = KafkaServer(directory / "kafka", join_delay_ms=join_delay_ms)
        for server in (own_redis, own_kafka):
            if server is not None:
                server.clear()
                stack.callback(server.stop)
                server.start()
        yield Servers(
            own_kafka.bootstrap_servers if own_kafka else bootstrap_servers,
            own_redis.url if own_redis else redis_url,
            own_kafka,
            own_redis,
        )
