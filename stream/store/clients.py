"""Clients of whatever a Redis URL means: one server, a Cluster, or the master that Sentinels name."""

import re
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from models.errors import SettingsError, UnreachableError
from stream.store.connection import RedisConnection

#: Port of a Sentinel, and of a server, that a URL leaves out.
SENTINEL_PORT, REDIS_PORT = 26379, 6379


@dataclass(frozen=True, slots=True)
class HostsUrl:
    """A URL of several hosts, taken apart."""

    hosts: list[tuple[str, int]]
    username: str | None
    password: str | None
    #: What follows the hosts, in parts.
    path: list[str]


def redis_client(connection: RedisConnection) -> "redis.Redis":
    """Return a client that answers; UnreachableError where Redis does not.

    A Cluster's has the same commands, so it passes for a server's; Store and Reader know the difference where
    there is one.
    """
    try:
        client = _client(connection)
        client.ping()
    except (TypeError, ValueError):  # what redis-py says of an option that it does not know
        raise SettingsError(
            f"REDIS_URL has options, after the ?, that are none of {connection.place}"
        ) from None
    except (redis.RedisError, redis.exceptions.RedisClusterException) as error:
        reason = _in_short(error)
        raise UnreachableError(
            f"no Redis at {connection.place} ({reason}): {_remedy(connection, reason)}"
        ) from error
    return client


def _remedy(connection: RedisConnection, reason: str) -> str:
    """Return what helps where there is no connection for this reason."""
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        return "see REDIS_SSL_CA_FILE, and whether the server's certificate is valid for this name"
    if connection.is_tls and re.search("SSL|_ssl|reset|roken pipe|closed|network:", reason):
        # Of what a server does not like in our certificate it often says no more than that it hangs up.
        return "see REDIS_SSL_CERTIFICATE_FILE, where the server asks for a certificate, and REDIS_URL"
    return "start one with `./run up`, or set REDIS_URL"


def _in_short(error: Exception) -> str:
    """Return why there is no connection: of Sentinels redis-py says it with all about the client."""
    reason = str(error)
    begin, end = reason.find(" : <redis."), reason.rfind("> - ")
    return f"{reason[:begin]} ({reason[end + 4 :]})" if 0 <= begin < end else reason


def _client(connection: RedisConnection) -> "redis.Redis":
    scheme = connection.url.partition("://")[0]
    options: dict[str, Any] = {
        "socket_timeout": connection.timeout_s,
        "socket_connect_timeout": connection.timeout_s,
        "health_check_interval": 30,
    }
    options |= _tls_options(connection)
    if "+" not in scheme:
        if scheme != "unix":
            _database(connection, urlsplit(connection.url).path.removeprefix("/"))
        client = redis.Redis.from_url(connection.url, **options)
        pool = client.connection_pool
        pool.connection_class = _leaving_replicas(pool.connection_class)
        return client
    place = parse_hosts_url(connection.url, SENTINEL_PORT if scheme.endswith("sentinel") else REDIS_PORT)
    options |= {"username": place.username, "password": place.password}
    if scheme.startswith("rediss"):
        options["ssl"] = True
    if scheme.endswith("cluster"):
        node: Any = redis.cluster.ClusterNode
        nodes = [node(host, port) for host, port in place.hosts]
        return cast("redis.Redis", _one_kind_of_errors(redis.RedisCluster(startup_nodes=nodes, **options)))
    return _master(connection, place, options)


def _leaving_replicas(kind: Any) -> Any:
    """Return a kind of connection that connects anew once its server says that it is a replica.

    After a failover the address leads to another server, and redis-py stays at the one that it knows.
    """

    class LeavingReplicas(kind):  # type: ignore[misc]
        _is_at_replica = False

        def read_response(self, *args: Any, **options: Any) -> Any:
            try:
                return super().read_response(*args, **options)
            except redis.ReadOnlyError:
                self._is_at_replica = True
                raise

        def send_packed_command(self, *args: Any, **options: Any) -> Any:
            if self._is_at_replica:
                self._is_at_replica = False
                self.disconnect()
            return super().send_packed_command(*args, **options)

    return LeavingReplicas


def _tls_options(connection: RedisConnection) -> dict[str, str]:
    """Return what redis-py is told of certificates, nothing where there is no TLS."""
    if not connection.is_tls:
        return {}
    options = {
        "ssl_ca_certs": connection.ssl_ca_file,
        "ssl_certfile": connection.ssl_certificate_file,
        "ssl_keyfile": connection.ssl_key_file or connection.ssl_certificate_file,
        "ssl_password": connection.ssl_key_password,
    }
    return {name: value for name, value in options.items() if value}


def _one_kind_of_errors(client: Any) -> Any:
    """Have a Cluster of which no node answers raise what a server raises that does not answer.

    By itself redis-py raises what is no RedisError then, so that nobody would wait for it to be back.
    """
    ask_nodes = client.nodes_manager.initialize

    def initialize(*args: Any, **options: Any) -> Any:
        try:
            return ask_nodes(*args, **options)
        except redis.exceptions.RedisClusterException as error:
            raise redis.ConnectionError(str(error)) from error

    client.nodes_manager.initialize = initialize
    return client


def _master(connection: RedisConnection, place: HostsUrl, options: dict[str, Any]) -> "redis.Redis":
    """Return a client that asks the Sentinels for the master with every new connection."""
    if not place.path or not place.path[0]:
        raise SettingsError(f"REDIS_URL {connection.place} names no master: end it with /master/database")
    asking = {name: value for name, value in options.items() if name not in ("username", "password")}
    # Whoever asks for the master tries again by itself; tries within tries took a minute to give up.
    asking["retry"] = Retry(NoBackoff(), 0)
    make_sentinel: Any = Sentinel
    sentinel = make_sentinel(
        place.hosts,
        sentinel_kwargs={
            **asking,
            "username": connection.sentinel_username or None,
            "password": connection.sentinel_password or None,
        },
        **options,
    )
    database = _database(connection, place.path[1] if len(place.path) > 1 else "")
    return cast("redis.Redis", sentinel.master_for(place.path[0], db=database))


def _database(connection: RedisConnection, text: str) -> int:
    """Return the number of a database; redis-py takes 0 for what is none."""
    if text and not text.isdecimal():
        raise SettingsError(f"REDIS_URL {connection.place} has database {text!r}, which must be a number")
    return int(text or 0)


def parse_hosts_url(url: str, default_port: int) -> HostsUrl:
    """Take apart scheme://user:password@host:port,host:port/path/path. Raises SettingsError."""
    _, _, rest = url.partition("://")
    credentials, _, places = rest.rpartition("@")
    hosts, *path = places.partition("?")[0].split("/")
    username, _, password = credentials.partition(":")
    try:
        pairs = [_host(host.strip(), default_port) for host in hosts.split(",") if host.strip()]
    except ValueError:
        raise SettingsError("the hosts in REDIS_URL must be host:port, with commas between them") from None
    return HostsUrl(pairs, unquote(username) or None, unquote(password) or None, path)


def _host(text: str, default_port: int) -> tuple[str, int]:
    host, _, port = text.rpartition(":") if ":" in text.rpartition("]")[2] else (text, "", "")
    if not host:
        raise ValueError(text)
    return host.strip("[]"), int(port or default_port)
