"""`./run demo`, small, with the worker killed on the way: the last line is the proof."""

import re
import subprocess
import sys

import pytest

from local.servers import ROOT

pytestmark = pytest.mark.integration

SMALL = ["--users", "150", "--rows", "12000", "--epochs", "1", "--days", "3", "--speed", "10000x"]


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "local", "demo", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


def test_demo_proves_itself_although_the_worker_is_killed() -> None:
    finished = demo(*SMALL, "--kill-worker")
    assert finished.returncode == 0, finished.stderr[-2000:]
    last = finished.stdout.strip().splitlines()[-1]
    found = re.fullmatch(
        r"proof: published=(\d+) applied=(\d+) duplicate=(\d+) late=(\d+) malformed=(\d+) vectors=(\d+) "
        r"max_difference=\d\.\de-\d\d OK",
        last,
    )
    assert found, last
    published, *parts, vectors = map(int, found.groups())
    assert published == sum(parts) > 500
    assert vectors > 50
    assert re.search(r"freshness +p50 \d+ ms, p99 \d+ ms", finished.stderr)


def test_demo_on_a_file_that_is_not_there_is_one_line() -> None:
    finished = demo("--data", "no-such.csv")
    assert finished.returncode == 1
    assert "Traceback" not in finished.stderr
    assert "no-such.csv" in finished.stderr.strip().splitlines()[-2]
