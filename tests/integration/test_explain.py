"""The explain page of real workers: who holds a user, and the same vector seen from either."""

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from local.worker import WorkerProcess, worker_environment
from stream.settings import Settings
from tests.integration.shop import Shop

pytestmark = pytest.mark.integration


def ask(worker: WorkerProcess, what: str) -> dict[str, Any]:
    """Return what a worker's page answers."""
    with urllib.request.urlopen(f"http://127.0.0.1:{worker.port}/explain/api/{what}", timeout=30) as answer:
        return dict(json.loads(answer.read()))


def test_two_workers_explain_all_users_between_them(
    shop: Shop, worker: WorkerProcess, settings: Settings, tmp_path: Path, until: Callable[..., None]
) -> None:
    other = WorkerProcess(tmp_path / "other", worker_environment(settings))
    try:
        for each in (worker, other):  # at once, on a Kafka without their changelog
            each.start(wait=False)
        until(lambda: [each.health().get("partitions") for each in (worker, other)] == [2, 2], timeout_s=120)
        until(lambda: worker.is_ready() and other.is_ready(), timeout_s=120)
        shop.send(2_000)
        shop.send_raw(b"u", b"no json")
        assert shop.prove().is_ok
        for user_id in sorted(shop.users_with_vectors())[:12]:
            found = [ask(each, f"user?id={quote(user_id)}") for each in (worker, other)]
            here, there = sorted(found, key=lambda each: str(each["where"]), reverse=True)
            assert (here["where"], there["where"]) == ("here", "elsewhere")
            assert here["worker"] == there["worker"] != ""
            assert here["vector"]["offset"] == there["vector"]["offset"] == here["window"]["offset"]
            assert here["difference"] < 1e-5 and len(here["weights"]["influence"]) == here["vector"]["events"]
        assert [len(ask(each, "live")["partitions"]) for each in (worker, other)] == [2, 2]
        reasons = [ask(each, "live")["dead_letters"] for each in (worker, other)]
        assert sorted(reasons, key=len) == [{}, {"unreadable": 1}]
        other.stop()
        until(lambda: worker.health().get("partitions") == 4 and worker.is_ready(), timeout_s=60)
        assert ask(worker, f"user?id={quote(user_id)}")["where"] == "here"
    finally:
        other.kill()
