"""Stock Faust: the idiomatic agent and table, `faust -A bench.peers.faust_app worker`.

Everything is Faust's default but: RocksDB through rocksdict (the maintained driver), the commit interval of
all contestants, and raw bytes in the table, which spare it a JSON encode of the window per event.
"""

# mypy: disable-error-code="untyped-decorator"
# (Faust's decorators have no types.)

import os
from typing import Any

import faust

from bench.peers.job import COMMIT_INTERVAL_S, Job, fold_event

job = Job.from_environment(os.environ)
app = faust.App(
    job.group,
    broker=[f"kafka://{server}" for server in job.bootstrap_servers.split(",")],
    broker_commit_interval=COMMIT_INTERVAL_S,
    consumer_auto_offset_reset="earliest",
    datadir=job.directory / "state",
    store="rocksdb://",
    topic_partitions=job.partitions,
)

behaviour = app.topic(job.topic, key_type=bytes, key_serializer="raw", value_serializer="json")
windows = app.Table("windows", key_type=bytes, value_type=bytes)


@app.agent(behaviour)
async def keep_windows(stream: Any) -> None:
    """Fold every event into its user's window."""
    is_first = True
    async for event in stream.events():
        if is_first:
            job.mark("first_event")
            is_first = False
        windows[event.key] = fold_event(windows.get(event.key), event.value)


@app.on_partitions_assigned.connect
async def _assigned(*_: Any, **__: Any) -> None:
    job.mark("assigned")


@windows.on_recover
async def _recovered() -> None:
    job.mark("recovered")
