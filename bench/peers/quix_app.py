"""Quix Streams: the idiomatic stateful apply, `python -m bench.peers.quix_app`.

Everything is Quix Streams' default (changelog topics on, RocksDB, at least once) but: reading begins at the
beginning, the commit interval of all contestants, and `set_bytes`, which spares a JSON encode of the window.
"""

import os
from typing import Any

from quixstreams import Application, State  # type: ignore[import-not-found]  # in its own environment

from bench.peers.job import COMMIT_INTERVAL_S, Job, fold_event


def main() -> None:
    """Keep the windows until SIGTERM."""
    job = Job.from_environment(os.environ)
    is_first = True

    def keep_window(event: dict[str, Any], state: State) -> None:
        nonlocal is_first
        if is_first:
            job.mark("first_event")
            is_first = False
        state.set_bytes("window", fold_event(state.get_bytes("window"), event))

    app = Application(
        broker_address=job.bootstrap_servers,
        consumer_group=job.group,
        auto_offset_reset="earliest",
        commit_interval=COMMIT_INTERVAL_S,
        state_dir=job.directory / "state",
        loglevel="WARNING",
    )
    behaviour = app.topic(job.topic, key_deserializer="bytes", value_deserializer="json")
    app.dataframe(behaviour).apply(keep_window, stateful=True)
    app.run()


if __name__ == "__main__":
    main()
