"""A real Prometheus scrapes a real worker and a canary: panels have data, and alerts see what happens."""

import json
import re
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.ports import free_port
from local.processes import ServerProcess
from local.servers import ROOT
from local.worker import WorkerProcess, worker_environment
from stream.settings import Settings
from tests.integration.shop import Shop

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not on the PATH"),
]

#: Panels that need a trainer or an item learner, which do not run here, and the alerts that say so.
OTHERS, ABSENT = ("Trainer: ", "Items: ", "Serving: "), {"NoTrainer", "NoItemLearner"}


class Prometheus:
    """Prometheus with the project's rules, on loopback."""

    def __init__(self, directory: Path, targets: dict[str, int]) -> None:
        self.process = ServerProcess("prometheus", directory / "prometheus", free_port())
        self._url = f"http://127.0.0.1:{self.process.port}"
        jobs = [
            {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
            for name, port in targets.items()
        ]
        self._config = directory / "prometheus.yml"
        content = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(ROOT / "deploy" / "alerts.yml")],
            "scrape_configs": jobs,
        }
        self._config.write_text(yaml.safe_dump(content))

    def start(self) -> None:
        self.process.directory.mkdir(parents=True)
        options = {
            "config.file": self._config,
            "storage.tsdb.path": self.process.directory / "data",
            "web.listen-address": f"127.0.0.1:{self.process.port}",
        }
        command = ["prometheus", *(f"--{name}={value}" for name, value in options.items())]
        self.process.start(command, self._is_ready)

    def _is_ready(self) -> bool:
        try:
            return bool(urllib.request.urlopen(self._url + "/-/ready", timeout=5).status == 200)
        except OSError:
            return False

    def ask(self, query: str) -> list[Any]:
        """Return the samples that a query has now."""
        url = self._url + "/api/v1/query?"
        with urllib.request.urlopen(url + urllib.parse.urlencode({"query": query}), timeout=10) as answer:
            found = json.loads(answer.read())
        assert found["status"] == "success", found
        return list(found["data"]["result"])

    def alerts(self) -> set[str]:
        """Return the alerts that are firing, or about to."""
        return {each["metric"]["alertname"] for each in self.ask("ALERTS")}


def queries() -> dict[str, list[str]]:
    """Return the queries of each panel."""
    panels = json.loads((ROOT / "deploy/grafana/dashboards/twintide.json").read_text())["panels"]
    return {
        panel["title"]: [re.sub(r"\$__(rate_)?interval", "10s", each["expr"]) for each in panel["targets"]]
        for panel in panels
        if panel["type"] != "row"
    }


@pytest.fixture
def canary_port(settings: Settings) -> Iterator[int]:
    """Run a canary for ever, and give the port of its metrics."""
    port = free_port()
    options = ["--every-s", "0.3", "--lost-after-s", "3", "--metrics-port", str(port)]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **worker_environment(settings)}
    process = subprocess.Popen([sys.executable, "-m", "stream.canary", *options], env=environment)
    yield port
    process.kill()
    process.wait()


def test_panels_have_data_and_alerts_see_what_happens(
    shop: Shop,
    worker: WorkerProcess,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    until: Callable[..., None],
) -> None:
    worker.start()
    canary_port = request.getfixturevalue("canary_port")
    prometheus = Prometheus(tmp_path, {"twintide-worker": worker.port, "twintide-canary": canary_port})
    prometheus.start()
    try:
        until(lambda: prometheus.ask('up{job="twintide-canary"} == 1'), timeout_s=120)
        until(lambda: prometheus.alerts() <= ABSENT)
        shop.send_raw(b"u", b"no json")
        with shop.load(first=0):
            until(lambda: "EventsUnreadable" in prometheus.alerts())
            for query in panel_queries():
                until(partial(prometheus.ask, query))
        worker.kill()
        until(lambda: {"NoWorker", "WorkerDown", "CanaryLost"} <= prometheus.alerts(), timeout_s=120)
    finally:
        prometheus.process.kill()


def panel_queries() -> list[str]:
    """Return the queries that must have data beside a worker and a canary at work."""
    return [query for title, found in queries().items() if not title.startswith(OTHERS) for query in found]
