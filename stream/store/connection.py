"""Where Redis is and how to get in; the only reader of these environment variables."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from models.ca_file import check_ca_file
from models.certificate_file import check_client_certificate
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


#: What must be percent-encoded in a user name or password; % itself, unless it begins such a code.
_RESERVED = re.compile(r"[/?#@\[\]\s]|%(?![\da-fA-F]{2})")

#: host:port,host:port/path?options, and the path of a socket.
_HOST = r"(?:[\w.-]+|\[[\da-fA-F:.]+\])(?::\d{1,5})?"
_HOSTS = re.compile(rf"{_HOST}(?:,\s*{_HOST})*,?\s*(?:/[\w.-]*)*(?:\?[^#@\s]*)?")
_SOCKET = re.compile(r"/[^?#]+(?:\?[^#\s]*)?")

#: Scheme, or what follows its plus -> what it needs.
_FORMS = {
    "redis": "host:port/database",
    "rediss": "host:port/database",
    "unix": "/path/to/socket",
    "cluster": "host:port,host:port",
    "sentinel": "host:port,host:port/master/database",
}

#: The longest that a command may be allowed to take (s).
MAX_TIMEOUT_S = 3_600


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
    #: Our own certificate, its key (empty: in the same file), and what the key is encrypted with
    #: (REDIS_SSL_CERTIFICATE_FILE, REDIS_SSL_KEY_FILE, REDIS_SSL_KEY_PASSWORD).
    ssl_certificate_file: str = ""
    ssl_key_file: str = ""
    ssl_key_password: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", self.url.strip())
        if not self.url.startswith(tuple(f"{scheme}://" for scheme in REDIS_SCHEMES)):
            raise SettingsError(f"REDIS_URL must start with one of {', '.join(REDIS_SCHEMES)}, and ://")
        self._check_url()
        check_ca_file("REDIS_SSL_CA_FILE", self.ssl_ca_file)
        own = self.ssl_certificate_file, self.ssl_key_file, self.ssl_key_password
        check_client_certificate("REDIS", *own, is_tls=self.is_tls)
        if not 0 < self.timeout_s <= MAX_TIMEOUT_S:
            raise SettingsError(
                f"REDIS_TIMEOUT_S is {self.timeout_s}; it must be above 0 and at most {MAX_TIMEOUT_S}"
            )

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
            ssl_certificate_file=environment.get("REDIS_SSL_CERTIFICATE_FILE", ""),
            ssl_key_file=environment.get("REDIS_SSL_KEY_FILE", ""),
            ssl_key_password=environment.get("REDIS_SSL_KEY_PASSWORD", ""),
            sentinel_username=environment.get("REDIS_SENTINEL_USERNAME", ""),
            sentinel_password=environment.get("REDIS_SENTINEL_PASSWORD", ""),
        )

    @property
    def is_tls(self) -> bool:
        """Whether servers are talked to by TLS."""
        return self.url.startswith("rediss")

    @property
    def place(self) -> str:
        """Return the URL without user name and password, for messages."""
        scheme, _, place = self._parts()
        return f"{scheme}://{place.partition('?')[0]}"

    def _parts(self) -> tuple[str, str, str]:
        """Return the scheme, user name and password, and what follows."""
        scheme, _, rest = self.url.partition("://")
        credentials, _, place = rest.rpartition("@")
        if scheme == "unix" and "/" in credentials:  # the @ is one of the path
            return scheme, "", rest
        return scheme, credentials, place

    def _check_url(self) -> None:
        """Raise SettingsError for a URL that cannot be taken apart; nothing of it is shown."""
        scheme, credentials, place = self._parts()
        if _RESERVED.search(credentials):
            raise SettingsError(
                "the user name or password in REDIS_URL holds one of / ? # @ [ ] % or a blank: "
                "percent-encode it there (%2F %3F %23 %40 %5B %5D %25 %20)"
            )
        if not (_SOCKET if scheme == "unix" else _HOSTS).fullmatch(place):
            form = _FORMS[scheme.partition("+")[2] or scheme]
            raise SettingsError(f"REDIS_URL must be {scheme}://{form}, user:password@ before it if need be")
