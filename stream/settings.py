"""The worker's settings; `Settings.from_environment` is the only reader of the TWINTIDE_* variables."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from models.errors import SettingsError
from models.location import Location, location
from stream.kafka.connection import KafkaConnection
from stream.registry.connection import RegistryConnection
from stream.store.connection import RedisConnection
from stream.store.keys import VectorFormat

Device = Literal["auto", "cpu", "cuda"]


#: What follows a Service's name in the variables that Kubernetes makes of it, and the value of one of them.
_LINK = r"(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)"
_LINK_VALUE = re.compile(r"(?:tcp|udp|sctp)://")

#: Fields that have environment variables of their own.
CONNECTIONS = ("kafka", "redis", "registry")
#: A token that is hard to guess, and that a header can carry.
_TOKEN = re.compile(r"[!-~]{16,}")

#: What names of topics and of the group are, in Kafka and with what is put behind them.
_NAME = re.compile(r"(?!\.{1,2}$)[a-zA-Z0-9._-]{1,200}")
#: Fields that are such names, and all that may not be empty.
_NAMES = ("app_id", "topic", "dead_letter_topic", "instance_id")
_NEEDED = (*_NAMES[:3], "artifact", "data_dir", "metrics_host", "serving_host")
#: The largest number that all which is handed one takes, and the most characters of a value that are shown.
_MOST, _SHOWN = 2**31 - 1, 60

#: What a number is called in messages.
_NUMBERS: dict[type, str] = {int: "a whole number", float: "a number"}


@dataclass(frozen=True, slots=True)
class Settings:
    """What the worker does and where; field `x` is the environment variable TWINTIDE_X.

    Raises SettingsError for a value out of the bounds that stand in its field's type.
    """

    kafka: KafkaConnection = field(default_factory=KafkaConnection)
    redis: RedisConnection = field(default_factory=RedisConnection)
    registry: RegistryConnection = field(default_factory=RegistryConnection)
    #: Faust app id and consumer group; the changelog is named after it.
    app_id: str = "twintide"
    #: Topic of behaviour events.
    topic: str = "user-behavior"
    #: Topic that gets what cannot be read.
    dead_letter_topic: str = "user-behavior-dlq"
    #: Partitions of the topic where it has to be made; an existing topic keeps its own.
    partitions: Annotated[int, Meta(ge=1)] = 4
    #: Copies of the topics the worker makes (its changelog among them).
    replication_factor: Annotated[int, Meta(ge=1)] = 1
    #: A name that no other worker of the group has (static membership), empty: none.
    instance_id: str = ""
    #: Workers that keep a warm copy of each partition's windows, to take over at once (0: none).
    standby_replicas: Annotated[int, Meta(ge=0)] = 0
    #: An artifact, or a store of artifacts whose `current` is taken: a path, or s3://, gs://, file://.
    artifact: Location = Path("artifacts/current")
    #: Share of the users who must have a new model's vectors before readers get it.
    model_coverage: Annotated[float, Meta(gt=0, le=1)] = 1.0
    #: How long a replaced model's vectors are kept fresh, so that a rollback takes no time (s).
    keep_previous_s: Annotated[float, Meta(ge=0)] = 600.0
    #: Users backfilled per second at most, for a new model or after Redis lost them; as many categories, for
    #: cold-start users.
    rewrite_users_per_s: Annotated[float, Meta(gt=0)] = 1000.0
    #: Where RocksDB lives; every worker of a host needs its own.
    data_dir: Path = Path(".local/worker")
    #: What the topic's JSON calls its fields and behaviours: a TOML file, as of --format, or a format's name.
    event_format: str = ""
    #: `field=name` pairs, separated by commas, for JSON with other field names (user_id=uid,time=ts).
    event_fields: str = ""
    #: `module:function` that turns a record's value (bytes) into a models.events.Event, instead of JSON.
    event_decoder: str = ""
    #: false: no model and no Redis, only windows are kept; to fill the state ahead of a first model.
    encode: bool = True
    #: Seconds between two checkpoints (changelog, RocksDB, source offsets).
    checkpoint_s: Annotated[float, Meta(gt=0)] = 1.0
    #: Seconds between two sweeps of users whose newest event is older than the model's horizon (0: never).
    sweep_every_s: Annotated[float, Meta(ge=0)] = 3600.0
    #: The deadline of a batch: one that is not full waits for more users at most half of this (ms).
    freshness_ms: Annotated[int, Meta(ge=0)] = 100
    #: The least time between two encodes of one user (ms); longer while the worker is behind.
    encode_interval_ms: Annotated[int, Meta(ge=0)] = 10
    #: Users in one batch at most.
    batch_users: Annotated[int, Meta(ge=1)] = 256
    #: Changed users that may wait for their vector before reading pauses.
    waiting_users: Annotated[int, Meta(ge=1)] = 20_000
    #: Windows kept in memory, per partition, beside the changed ones.
    cached_windows: Annotated[int, Meta(ge=0)] = 3_000
    #: Memory of RocksDB, block cache and write buffers of all partitions together (MB).
    rocksdb_mb: Annotated[int, Meta(ge=16)] = 128
    #: Records read from Kafka at once, fewer where they are long.
    batch_records: Annotated[int, Meta(ge=1)] = 10_000
    #: Size of the long-vector cache (vectors): a long vector is encoded again only when its events change.
    kept_vectors: Annotated[int, Meta(ge=1)] = 50_000
    #: Threads of one encode; 0 takes the choice of what encodes.
    torch_threads: Annotated[int, Meta(ge=0)] = 1
    #: Where users are encoded: cpu, cuda, or auto, which takes a GPU where there is one.
    device: Device = "cpu"
    #: On a GPU, compute in bfloat16: vectors differ from offline's in the third digit.
    bfloat16: bool = False
    #: How a vector is stored: float32, float16 or int8.
    vector_format: VectorFormat = "float32"
    #: Redis key of a user is this and the raw user id.
    key_prefix: str = "user:"
    #: Seconds until a user's key expires after its last write; 0 keeps it.
    ttl_s: Annotated[int, Meta(ge=0)] = 0
    #: Seconds until the short vector alone expires, and readers get the long one; 0 keeps it.
    short_ttl_s: Annotated[int, Meta(ge=0)] = 0
    #: Newest events (item, category, behaviour, time) that are stored with the vectors, for rankers; 0: none.
    store_history: Annotated[int, Meta(ge=0)] = 0
    #: Address and port of /metrics, /health and /explain; where the port is taken, the next free one is.
    metrics_host: str = "127.0.0.1"
    metrics_port: Annotated[int, Meta(ge=1, le=65_535)] = 9108
    #: What whoever looks at /explain must have; empty: only this host may look. Never shown.
    explain_token: str = field(default="", repr=False)
    #: File that gets a line of JSON for each batch folded and each written, with the times of its stages.
    trace: str = ""
    #: Where `python -m stream.serving` answers.
    serving_host: str = "127.0.0.1"
    serving_port: Annotated[int, Meta(ge=1, le=65_535)] = 9112
    #: What it ranks by: a ranker's artifact or a store of them, a path or URL; empty: dot products.
    ranker: str = ""
    #: Threads that score a call's candidates by a ranker: with two a caller waits less, where a core is idle.
    ranker_threads: Annotated[int, Meta(ge=1)] = 2
    #: A vector that was written longer ago is answered as stale (s); 0: none is.
    max_age_s: Annotated[float, Meta(ge=0)] = 0.0
    #: Seconds that a rebalance or a stop may spend on finishing what is in flight.
    drain_s: Annotated[float, Meta(gt=0)] = 5.0

    def __post_init__(self) -> None:
        for name, kind in _bounded_fields().items():
            value = getattr(self, name)
            try:
                msgspec.convert(value, kind)
            except msgspec.ValidationError as error:
                raise SettingsError(f"{variable(name)} is {_shown(value)}; {_demand(kind)}") from error
            if isinstance(value, int | float) and value > _MOST:
                raise SettingsError(f"{variable(name)} is {_shown(value)}; it must be at most {_MOST}")
        self._check_names()
        if self.explain_token and not _TOKEN.fullmatch(self.explain_token):
            raise SettingsError(
                f"{variable('explain_token')} has {len(self.explain_token)} characters; it must be at least "
                "16 of ASCII without blanks, as `openssl rand -hex 16` makes them"
            )

    def _check_names(self) -> None:
        for name in _NAMES:
            value = getattr(self, name)
            if value and not _NAME.fullmatch(value):
                raise SettingsError(
                    f"{variable(name)} is {_shown(value)}; it must be a name of at most 200 letters, digits, "
                    "'.', '_' and '-'"
                )
        if self.dead_letter_topic == self.topic:
            raise SettingsError(
                f"{variable('dead_letter_topic')} and {variable('topic')} are both {self.topic}: "
                "dead letters would be read as events for ever; give two topics"
            )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Read TWINTIDE_* variables and those of the connections; what is not set keeps its default."""
        known = {variable(each.name): each for each in fields(cls) if each.name not in CONNECTIONS}
        expected = known.keys() | service_links(environment)
        unknown = [name for name in environment if name.startswith("TWINTIDE_") and name not in expected]
        if unknown:
            raise SettingsError(f"{unknown[0]} is no setting; there are {', '.join(sorted(known))}")
        values: dict[str, Any] = {
            each.name: _parsed(name, environment[name].strip(), each.default)
            for name, each in known.items()
            if name in environment and not _refuse_link(name, environment[name])
        }
        return cls(
            kafka=KafkaConnection.from_environment(environment),
            redis=RedisConnection.from_environment(environment),
            registry=RegistryConnection.from_environment(environment),
            **values,
        )


def variable(field_name: str) -> str:
    """Return the environment variable that sets a field."""
    return f"TWINTIDE_{field_name.upper()}"


def service_links(environment: Mapping[str, str]) -> set[str]:
    """Return the variables that Kubernetes (or Docker) puts there for the Services of a namespace."""
    services = [name.removesuffix("_SERVICE_HOST") for name in environment if name.endswith("_SERVICE_HOST")]
    names = re.compile(f"(?:{'|'.join(map(re.escape, services))})_{_LINK}" if services else "(?!)")
    return {name for name in environment if names.fullmatch(name)}


def _refuse_link(name: str, value: str) -> bool:
    """Raise SettingsError where a Service's address stands where a setting should; else return False."""
    if _LINK_VALUE.match(value):
        service = name.removesuffix("_PORT").lower().replace("_", "-")
        raise SettingsError(
            f"{name} is {value!r}, which Kubernetes puts there for a Service named {service}: name the "
            f"Service otherwise, set {name} in the pod, or set its enableServiceLinks to false"
        )
    return False


@cache
def _bounded_fields() -> dict[str, Any]:
    """Return the fields that may not have every value of their type, with what says which."""
    types = get_type_hints(Settings, include_extras=True)
    return {name: kind for name, kind in types.items() if get_origin(kind) in (Annotated, Literal)}


def _demand(kind: Any) -> str:
    """Return what a value must be, in words."""
    of_kind, *metas = get_args(kind)
    if not metas or not isinstance(metas[0], Meta):
        return f"use one of {', '.join(get_args(kind))}"
    meta = metas[0]
    words = {"at least": meta.ge, "above": meta.gt, "at most": meta.le}
    bounds = [f"{word} {bound}" for word, bound in words.items() if bound is not None]
    return f"it must be {_NUMBERS[of_kind]} {' and '.join(bounds)}"


def _parsed(name: str, text: str, default: object) -> object:
    """Return the text as a value of the default's type."""
    if not text and name in map(variable, _NEEDED):
        raise SettingsError(f"{name} is empty; unset it for {default}, or give another")
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise SettingsError(f"{name} is {_shown(text)}; it must be true or false")
        return text.lower() == "true"
    if name == variable("artifact"):
        return _parsed_location(name, text)
    try:
        return type(default)(text)  # type: ignore[call-arg]
    except ValueError as error:
        raise SettingsError(f"{name} is {_shown(text)}; it must be {_NUMBERS[type(default)]}") from error


def _shown(value: object) -> str:
    """Return a value for a message, cut where it is long."""
    shown = repr(value)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."


def _parsed_location(name: str, text: str) -> Location:
    try:
        return location(text)
    except SettingsError as error:
        raise SettingsError(f"{name}: {error}") from error
