"""Where Redis is and how to get in; the only reader of these environment variables."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from models.errors import SettingsError

#: What a Redis URL may begin with, beside `redis`: rediss is TLS; a Cluster and Sentinels have several hosts.
REDIS_SCHEMES = (
    "redis",
    "rediss",
    "unix",
    "redis+cluster",
    "rediss+cluster",
    "redis+sentinel",
    "rediss+sentinel",
)


@dataclass(frozen=True, slots=True)
class RedisConnection:
    """How to reach Redis. The URL may hold a password, so it is never part of the repr.

    redis://user:password@host:port/database, with rediss:// for TLS, or unix://path
    redis+cluster://user:password@host:port,host:port, some nodes of a Cluster
    redis+sentinel://user:password@host:port,host:port/master/database, the Sentinels and the master's name;
        user and password are the servers', the Sentinels' own are settings
    """

    #: The URL (REDIS_URL).
    url: str = field(default="redis://localhost:6379/0", repr=False)
    #: A command that takes longer than this has failed (s) (REDIS_TIMEOUT_S).
    timeout_s: float = 5.0
    #: CA file that signed the servers' certificates; empty: the system's (REDIS_SSL_CA_FILE).
    ssl_ca_file: str = ""
    #: REDIS_SENTINEL_USERNAME, REDIS_SENTINEL_PASSWORD
    sentinel_username: str = field(default="", repr=False)
    sentinel_password: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not self.url.startswith(tuple(f"{scheme}://" for scheme in REDIS_SCHEMES)):
            raise SettingsError(f"REDIS_URL must start with one of {', '.join(REDIS_SCHEMES)}, and ://")
        if self.timeout_s <= 0:
            raise SettingsError(f"REDIS_TIMEOUT_S is {self.timeout_s}; it must be above 0")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "RedisConnection":
        """Read the REDIS_* variables; what is not set keeps its default."""
        try:
            timeout_s = float(environment.get("REDIS_TIMEOUT_S", "5"))
        except ValueError as error:
            raise SettingsError(f"REDIS_TIMEOUT_S: {error}") from error
        return cls(
            url=environment.get("REDIS_URL", "redis://localhost:6379/0"),
            timeout_s=timeout_s,
            ssl_ca_file=environment.get("REDIS_SSL_CA_FILE", ""),
            sentinel_username=environment.get("REDIS_SENTINEL_USERNAME", ""),
            sentinel_password=environment.get("REDIS_SENTINEL_PASSWORD", ""),
        )

    @property
    def place(self) -> str:
        """Return the URL without user name and password, for messages."""
        scheme, _, rest = self.url.partition("://")
        return f"{scheme}://{rest.rpartition('@')[2]}"
