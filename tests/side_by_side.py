"""Tests in several processes: how many, what each may use, and which files come first.

pytest-xdist asks here where it is told `-n auto`, as `./run test` tells it. A file's tests stay in one
process (`--dist loadfile`), and every process has servers of its own: nothing is shared but the machine.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import psutil
import pytest

from local import ports

#: What a process takes at most: its own torch, a broker, and a few workers of a test.
BYTES_EACH = 3_000_000_000

#: More processes than this wait for the longest file.
MOST = 6

#: Tests wait about as much as they compute, so that one process more than cores keeps these at work.
WAITING = 1


def processes(named: Iterable[str], cores: int, available_bytes: int) -> int:
    """Return how many processes the tests that are named are worth, 0 for none but this one.

    Single files are for one, directories for as many as there are cores and memory for.
    """
    if cores == 1 or not any(Path(each).is_dir() for each in named):
        return 0
    count = min(cores + WAITING, available_bytes // BYTES_EACH, MOST)
    return count if count > 1 else 0


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Say what `-n auto` means here.

    It is one process where output is to be seen (-s), tests are only listed, or the environment names
    servers, which some tests empty.
    """
    names_servers = any(map(os.environ.get, ("KAFKA_BOOTSTRAP_SERVERS", "REDIS_URL")))
    if config.option.capture == "no" or config.option.collectonly or names_servers:
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return processes(config.args, cores, psutil.virtual_memory().available)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Let every process, and what it starts, compute on one core: several would wait for each other."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure(config: pytest.Config) -> None:
    """Give each process ports of its own: one that is free now may be another's a moment later."""
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        number, count = int(worker["workerid"].removeprefix("gw")), int(worker["workercount"])
        ports.RANGE = ports.RANGE[number % count :: count]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put files with servers first where processes share the tests: short ones even out the end."""
    if hasattr(config, "workerinput"):
        files = {item.path for item in items if item.get_closest_marker("integration")}
        items.sort(key=lambda item: item.path not in files)
