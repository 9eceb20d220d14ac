"""The worker's settings; `Settings.from_environment` is the only reader of the TWINTIDE_* variables."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from models.errors import SettingsError
from stream.kafka.connection import KafkaConnection
from stream.store.connection import RedisConnection
from stream.store.keys import VECTOR_FORMATS

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the worker does and where; field `x` is the environment variable TWINTIDE_X."""

    kafka: KafkaConnection = field(default_factory=KafkaConnection)
    redis: RedisConnection = field(default_factory=RedisConnection)
    #: Faust app id and consumer group; the changelog is named after it.
    app_id: str = "twintide"
    #: Topic of behaviour events.
    topic: str = "user-behavior"
    #: Topic that gets what cannot be read.
    dead_letter_topic: str = "user-behavior-dlq"
    #: Partitions of the topic where it has to be made; an existing topic keeps its own.
    partitions: int = 4
    #: Copies of the topics the worker makes (its changelog among them).
    replication_factor: int = 1
    #: A name that no other worker of the group has (static membership), empty: none.
    instance_id: str = ""
    #: Workers that keep a warm copy of each partition's windows, to take over at once (0: none).
    standby_replicas: int = 0
    #: An artifact, or a store of artifacts whose `current` is taken.
    artifact: Path = Path("artifacts/current")
    #: Share of the users who must have a new model's vectors before readers get it (0..1).
    model_coverage: float = 1.0
    #: How long a replaced model is kept, and kept fresh, so that going back to it takes no time (s).
    keep_previous_s: float = 600.0
    #: Users a second that are written again from state at most, for a new model or after Redis lost them; and
    #: categories a second, for cold-start users.
    rewrite_users_per_s: float = 1000.0
    #: Where RocksDB lives; every worker of a host needs its own.
    data_dir: Path = Path(".local/worker")
    #: `field=name` pairs, separated by commas, for JSON with other field names (user_id=uid,time=ts).
    event_fields: str = ""
    #: `module:function` that turns a record's value (bytes) into a models.events.Event, instead of JSON.
    event_decoder: str = ""
    #: false keeps windows alone, without model and Redis: to fill state ahead of a first model.
    encode: bool = True
    #: Seconds between two checkpoints (changelog, RocksDB, source offsets).
    checkpoint_s: float = 1.0
    #: Seconds between two sweeps of users whose newest event is older than the model's horizon (0: never).
    sweep_every_s: float = 3600.0
    #: A batch that is not full waits for more users at most half of this (ms).
    freshness_ms: int = 100
    #: The least time between two encodes of one user; longer while the worker is behind (ms).
    encode_interval_ms: int = 50
    #: Users encoded together at most.
    batch_users: int = 256
    #: Changed users that may wait for their vector before reading pauses.
    waiting_users: int = 20_000
    #: Windows kept in memory, per partition, beside the changed ones.
    cached_windows: int = 3_000
    #: Memory of RocksDB, block cache and write buffers of all partitions together (MB).
    rocksdb_mb: int = 128
    #: Records read from Kafka at once.
    batch_records: int = 20_000
    #: Long vectors kept, so that they need not be made again while what they were made from stays the same.
    kept_vectors: int = 50_000
    #: Threads of one encode; 0 takes PyTorch's choice.
    torch_threads: int = 1
    #: Where users are encoded: cpu, cuda, or auto, which takes a GPU where there is one.
    device: str = "cpu"
    #: On a GPU, compute in bfloat16: vectors differ from offline's in the third digit.
    bfloat16: bool = False
    #: How a vector is stored: float32, float16 or int8.
    vector_format: str = "float32"
    #: Redis key of a user is this and the raw user id.
    key_prefix: str = "user:"
    #: Seconds until a user's key expires after its last write; 0 keeps it.
    ttl_s: int = 0
    #: Seconds until the short vector alone expires, and readers get the long one; 0 keeps it.
    short_ttl_s: int = 0
    #: Items of the newest events that are stored with the vectors, for rankers and filters; 0: none.
    store_history: int = 0
    #: Address and port of /metrics and /health; where the port is taken, the next free one is.
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 9108
    #: Seconds that a rebalance or a stop may spend on finishing what is in flight.
    drain_s: float = 5.0

    def __post_init__(self) -> None:
        at_least = {
            "partitions": 1,
            "replication_factor": 1,
            "standby_replicas": 0,
            "freshness_ms": 0,
            "batch_users": 1,
        }
        at_least |= {"waiting_users": 1, "cached_windows": 0, "batch_records": 1, "torch_threads": 0}
        at_least |= {"kept_vectors": 1, "encode_interval_ms": 0, "short_ttl_s": 0, "store_history": 0}
        at_least |= {"ttl_s": 0, "metrics_port": 1, "sweep_every_s": 0, "rocksdb_mb": 16}
        at_least |= {"keep_previous_s": 0}
        for name, least in at_least.items():
            if getattr(self, name) < least:
                raise SettingsError(f"{variable(name)} is {getattr(self, name)}; it must be at least {least}")
        for name in ("checkpoint_s", "drain_s", "rewrite_users_per_s"):
            if getattr(self, name) <= 0:
                raise SettingsError(f"{variable(name)} is {getattr(self, name)}; it must be above 0")
        if self.device not in DEVICES:
            raise SettingsError(f"{variable('device')} is {self.device!r}; use one of {', '.join(DEVICES)}")
        if not 0 < self.model_coverage <= 1:
            raise SettingsError(
                f"{variable('model_coverage')} is {self.model_coverage}; it must be above 0 and at most 1"
            )
        if self.vector_format not in VECTOR_FORMATS:
            raise SettingsError(
                f"{variable('vector_format')} is {self.vector_format!r}; "
                f"use one of {', '.join(VECTOR_FORMATS)}"
            )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Read KAFKA_*, REDIS_* and TWINTIDE_* variables; what is not set keeps its default."""
        known = {variable(each.name): each for each in fields(cls) if each.name not in ("kafka", "redis")}
        unknown = [name for name in environment if name.startswith("TWINTIDE_") and name not in known]
        if unknown:
            raise SettingsError(f"{unknown[0]} is no setting; there are {', '.join(sorted(known))}")
        values: dict[str, Any] = {
            each.name: _parsed(name, environment[name], each.default)
            for name, each in known.items()
            if name in environment
        }
        return cls(
            kafka=KafkaConnection.from_environment(environment),
            redis=RedisConnection.from_environment(environment),
            **values,
        )


def variable(field_name: str) -> str:
    """Return the environment variable that sets a field."""
    return f"TWINTIDE_{field_name.upper()}"


def _parsed(name: str, text: str, default: object) -> object:
    """Return the text as a value of the default's type."""
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise SettingsError(f"{name} is {text!r}; it must be true or false")
        return text.lower() == "true"
    try:
        return type(default)(text)  # type: ignore[call-arg]
    except ValueError as error:
        raise SettingsError(f"{name} is {text!r}; it must be {_kind(default)}") from error


def _kind(default: object) -> str:
    return "a whole number" if isinstance(default, int) else "a number"
