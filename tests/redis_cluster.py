"""A Redis Cluster of three nodes, real ones, with a third of the hash slots each."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import redis

from local.ports import free_port
from local.redis import RedisServer

SLOTS, NODES = 16_384, 3


@contextmanager
def redis_cluster(folder: Path, durable: bool = False) -> Iterator[list[RedisServer]]:
    """Give the nodes of a Cluster that is formed; durable: a node that is killed has its data again."""
    nodes, buses = [], []
    for number in range(NODES):
        buses.append(free_port())
        settings = {"cluster-enabled": "yes", "cluster-port": str(buses[-1]), "cluster-node-timeout": "5000"}
        nodes.append(RedisServer(folder / f"node{number}", settings=settings, durable=durable))
    try:
        for node in nodes:
            node.start()
        clients: list[Any] = [redis.Redis(port=node.port) for node in nodes]
        for number, client in enumerate(clients):
            first, last = number * SLOTS // NODES, (number + 1) * SLOTS // NODES - 1
            client.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
            if number:
                client.execute_command("CLUSTER MEET", "127.0.0.1", nodes[0].port, buses[0])
        for client in clients:
            wait_for(partial(is_formed, client))
            client.close()
        yield nodes
    finally:
        for node in nodes:
            node.stop()


def is_formed(client: Any) -> bool:
    """Return whether a node finds the whole Cluster there."""
    return bool(client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")


def wait_for(condition: Callable[[], object], timeout_s: float = 120) -> None:
    """Return when a condition holds, also where Redis fails meanwhile; fail where it never does."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if condition():
                return
        except redis.RedisError:
            pass
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.1)
