"""A real worker, `faust -A stream.app worker`, as a child process, seen from outside through HTTP."""

import json
import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from local.ports import free_port
from local.processes import ServerProcess
from local.servers import ROOT
from models.location import Location
from stream.settings import Settings


class WorkerProcess:
    """A worker with its data in `directory`; `start` after `kill` or `stop` finds that data again."""

    def __init__(
        self, directory: Path, environment: Mapping[str, str], name: str = "worker", app: str = "stream.app"
    ) -> None:
        """`environment` holds what the worker is told: KAFKA_*, REDIS_URL and TWINTIDE_* variables.

        `app` is the module that `faust -A` runs: a test may have a broken worker of its own.
        """
        self.port = free_port()
        self.app = app
        self.process = ServerProcess(name, directory, self.port)
        self._environment = {
            **environment,
            "TWINTIDE_DATA_DIR": str(self.process.directory / "state"),
            "TWINTIDE_METRICS_PORT": str(self.port),
            "PYTHONPATH": str(ROOT),
        }

    def tell(self, environment: Mapping[str, str]) -> None:
        """Give the worker more variables, from its next start on."""
        self._environment |= environment

    def start(self, wait: bool = True) -> None:
        """Start the worker and return when it is ready to read; at once where nobody is to wait for that."""
        self.process.directory.mkdir(parents=True, exist_ok=True)
        is_ready = self.is_ready if wait else lambda: True
        self.process.start(self.command(), is_ready, {**os.environ, **self._environment})

    def command(self) -> list[str]:
        """Return what is run."""
        return [str(Path(sys.executable).with_name("faust")), "-A", self.app, "worker", "-l", "info"]

    def stop(self) -> None:
        """Ask the worker to finish and leave (SIGTERM)."""
        self.process.stop()

    def kill(self) -> None:
        """End the worker as a crash does (SIGKILL)."""
        self.process.kill()

    def pause(self) -> None:
        """Freeze the worker (SIGSTOP): to the group it is dead, and it does not know that."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused worker resume (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def wait(self, timeout_s: float) -> int:
        """Return the exit status of a worker that ends by itself; UnreachableError where it does not."""
        return self.process.wait(timeout_s)

    def is_ready(self) -> bool:
        """Return whether /health says ready."""
        return self.health().get("status") == "ready"

    def health(self) -> dict[str, Any]:
        """Return what /health says, {} where it does not answer."""
        try:
            return dict(json.loads(self._get("/health")))
        except urllib.error.HTTPError as error:
            return dict(json.loads(error.read()))
        except OSError:
            return {}

    def metrics(self) -> dict[str, float]:
        """Return the samples of /metrics, labels in the names as Prometheus writes them; {} if it is down."""
        try:
            text = self._get("/metrics")
        except OSError:
            return {}
        return {
            sample.name + "".join(f"{{{value}}}" for value in sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def _signal(self, number: signal.Signals) -> None:
        if self.process.pid is not None:
            os.kill(self.process.pid, number)

    def _get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            return str(answer.read().decode())


def worker_environment(settings: Settings) -> dict[str, str]:
    """Return the variables that give a worker these settings, as far as demo and tests set them."""
    return {
        "TWINTIDE_ARTIFACT": _absolute(settings.artifact),
        "TWINTIDE_APP_ID": settings.app_id,
        "TWINTIDE_TOPIC": settings.topic,
        "TWINTIDE_DEAD_LETTER_TOPIC": settings.dead_letter_topic,
        "TWINTIDE_KEY_PREFIX": settings.key_prefix,
        "TWINTIDE_EVENT_FORMAT": settings.event_format,
        **servers_of(settings),
    }


def _absolute(where: Location) -> str:
    """Return a location as another working directory understands it."""
    return str(where.resolve() if isinstance(where, Path) else where)


def servers_of(settings: Settings) -> dict[str, str]:
    """Return the variables that tell any command of Twintide where these servers are."""
    registry = settings.registry
    return {
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        "REDIS_URL": settings.redis.url,
        "SCHEMA_REGISTRY_URL": registry.url,
        "SCHEMA_REGISTRY_USERNAME": registry.username,
        "SCHEMA_REGISTRY_PASSWORD": registry.password,
        "SCHEMA_REGISTRY_TOKEN": registry.token,
        "SCHEMA_REGISTRY_SSL_CA_FILE": registry.ssl_ca_file,
        "PYTHONPATH": str(ROOT),
    }
