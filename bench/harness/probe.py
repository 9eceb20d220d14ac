"""A process that measures freshness and shares nothing with the worker: `python -m bench.harness.probe`.

It prints `ready` once it follows the topic, then reads the number of events that were sent from its input,
waits until all are readable, and prints what it found as JSON.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import click
import msgspec

from bench.harness.slow_events import Passed
from local.freshness import FreshnessProbe
from local.servers import ROOT
from models.command import Command
from models.errors import TwintideError
from stream.settings import Settings
from stream.store.clients import redis_client

#: How often the probe asks whether all is readable (s), and after how long without progress it gives up (s).
READABLE_POLL_S, READABLE_TIMEOUT_S = 0.5, 60.0


class ProbeProcess:
    """The probe as its starter sees it."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def result(self, sent: int) -> dict[str, float]:
        """Return what the probe found once all that was sent is readable, or nothing more becomes so."""
        answer, _ = self._process.communicate(f"{sent}\n")
        if self._process.returncode:
            raise TwintideError(f"the probe has failed with status {self._process.returncode}")
        return dict(json.loads(answer))


@contextmanager
def probing(
    topic: str, key_prefix: str, sample_every: int, events: Path | None = None
) -> Iterator[ProbeProcess]:
    """Give a probe that follows a topic, and end it; what it timed is in `events`."""
    options = ["--topic", topic, "--key-prefix", key_prefix, "--sample-every", str(sample_every)]
    options += ["--events", str(events)] if events else []
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "bench.harness.probe", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        if process.stdout is None or process.stdout.readline() != "ready\n":
            raise TwintideError("the probe did not start")
        yield ProbeProcess(process)
    finally:
        process.kill()
        process.wait()


@click.command(cls=Command)
@click.option("--topic", required=True, help="Topic of the events.")
@click.option("--key-prefix", required=True, help="What users' keys in Redis begin with.")
@click.option("--sample-every", default=1, help="Time one of this many events.")
@click.option("--events", "events_path", type=click.Path(path_type=Path), help="Write the timed events here.")
def main(topic: str, key_prefix: str, sample_every: int, events_path: Path | None) -> None:
    """Measure how long events wait until their users' vectors are readable.

    \b
    Example: python -m bench.harness.probe --topic user-behavior --key-prefix user:
    """
    settings = replace(Settings.from_environment(os.environ), topic=topic, key_prefix=key_prefix)
    with redis_client(settings.redis) as client:
        probe = FreshnessProbe(settings, client, sample_every)
        probe.start()
        click.echo("ready")
        sys.stdout.flush()
        sent = int(sys.stdin.readline())
        readable = _wait_until_readable(probe, sent)
        probe.stop(drain_s=READABLE_POLL_S)
    p50_ms, p99_ms = probe.percentiles_ms((50, 99))
    if events_path:
        prefix = len(key_prefix)
        passed = [
            Passed(each.partition, each.key[prefix:], each.offset, sent_s, sent_s + took_s)
            for each, (sent_s, took_s) in zip(probe.measured, probe.timed, strict=False)
        ]
        events_path.write_bytes(msgspec.json.encode(passed))
    found = {"p50_ms": p50_ms, "p99_ms": p99_ms, "sent": sent, "readable": readable, "timed": probe.samples}
    click.echo(json.dumps(found))


def _wait_until_readable(probe: FreshnessProbe, sent: int) -> int:
    readable, moved_at = -1, time.monotonic()
    while readable < sent and time.monotonic() - moved_at < READABLE_TIMEOUT_S:
        time.sleep(READABLE_POLL_S)
        if (now := probe.readable()) != readable:
            readable, moved_at = now, time.monotonic()
    return readable


if __name__ == "__main__":
    main()
