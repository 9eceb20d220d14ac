"""A real worker, `faust -A stream.app worker`, as a child process, seen from outside through HTTP."""

import json
import os
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from local.ports import free_port
from local.processes import ServerProcess
from local.servers import ROOT


class WorkerProcess:
    """A worker with its data in `directory`; `start` after `kill` or `stop` finds that data again."""

    def __init__(self, directory: Path, environment: Mapping[str, str], name: str = "worker") -> None:
        """`environment` holds what the worker is told: KAFKA_*, REDIS_URL and TWINTIDE_* variables."""
        self.port = free_port()
        self.process = ServerProcess(name, directory, self.port)
        self._environment = {
            **environment,
            "TWINTIDE_DATA_DIR": str(self.process.directory / "state"),
            "TWINTIDE_METRICS_PORT": str(self.port),
            "PYTHONPATH": str(ROOT),
        }

    def start(self) -> None:
        """Start the worker and return when it is ready to read."""
        self.process.directory.mkdir(parents=True, exist_ok=True)
        faust = Path(sys.executable).with_name("faust")
        command = [str(faust), "-A", "stream.app", "worker", "-l", "info"]
        self.process.start(command, self.is_ready, {**os.environ, **self._environment})

    def stop(self) -> None:
        """Ask the worker to finish and leave (SIGTERM)."""
        self.process.stop()

    def kill(self) -> None:
        """End the worker as a crash does (SIGKILL)."""
        self.process.kill()

    def is_ready(self) -> bool:
        """Return whether /health says ready."""
        try:
            return bool(json.loads(self._get("/health"))["status"] == "ready")
        except OSError:
            return False

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

    def _get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            return str(answer.read().decode())
