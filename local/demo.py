"""`./run demo`: the whole path on real servers, watched live, and a proof at its end."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import click
import numpy as np

from local import new_item, show
from local.freshness import FreshnessProbe
from local.items import ItemsProcess
from local.processes import spawn
from local.proof import Proof, prove, wait_until_committed
from local.servers import LOCAL, ROOT, servers
from local.worker import WorkerProcess, servers_of, worker_environment
from models.artifact import artifact as artifacts
from models.artifact.artifact import Artifact
from models.command import Command
from models.errors import TwintideError
from models.log.behaviour_log import BehaviourLog, read_behaviour_log
from models.windows.window import DAY_MS
from stream.serving.reader import Reader, UserVectors
from stream.settings import Settings
from stream.store.clients import redis_client


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the demo was asked to do."""

    data: Path | None
    users: int
    rows: int
    epochs: int | None
    speed: str
    days: float
    kill_worker: bool


@click.command(cls=Command)
@click.option("--data", type=click.Path(path_type=Path), help="A behaviour CSV instead of a made-up one.")
@click.option("--users", default=1_000, show_default=True, help="Users of the made-up log.")
@click.option("--rows", default=100_000, show_default=True, help="Rows of the made-up log.")
@click.option("--epochs", type=int, help="Passes over the data at most; default: offline.train's.")
@click.option("--speed", default="2000x", show_default=True, help="Pace of the replay: 100x, 2000x, max.")
@click.option("--days", default=2.0, show_default=True, help="How many of the last days are replayed.")
@click.option("--kill-worker", is_flag=True, help="Kill the worker with -9 in mid-replay and start it again.")
def main(**options: object) -> None:
    """Train, stream and prove, on servers that start for it and end with it.

    A log is made up (or --data read), the towers are trained, the log's last days are replayed to Kafka, a
    worker keeps the users' vectors in Redis fresh, and at the end every vector is compared with the batch
    encoding of its user's events. The last line is the proof; exit 1 where it fails.

    \b
    Example:
      ./run demo
      ./run demo --data tianchi_mobile_recommend_train_user.csv --days 1
      ./run demo --kill-worker
    """
    directory = LOCAL / "demo"
    directory.mkdir(parents=True, exist_ok=True)
    found = run(DemoOptions(**options), directory)  # type: ignore[arg-type]
    click.echo(str(found))
    sys.exit(0 if found.is_ok else 1)


def run(options: DemoOptions, directory: Path) -> Proof:
    """Run the whole path in `directory` and return what the proof found."""
    data = options.data or _make_sample(options, directory)
    store = Path(tempfile.mkdtemp(prefix="artifacts-", dir=directory))
    try:
        _train(options, data, store)
        artifact, log = artifacts.load(store), read_behaviour_log(data)
        with servers(directory, os.environ) as running:
            settings = _settings(running.environment, store, running.kafka is not None)
            return _stream(options, settings, artifact, _last_days(log, options.days), directory)
    finally:
        shutil.rmtree(store, ignore_errors=True)


def _make_sample(options: DemoOptions, directory: Path) -> Path:
    data = directory / "behaviour.csv"
    show.heading("A made-up behaviour log")
    arguments = ["--users", str(options.users), "--rows", str(options.rows), "--out", str(data)]
    _python("offline.sample", *arguments, "--precision", "second", "--seed", "7")
    return data


def _train(options: DemoOptions, data: Path, store: Path) -> None:
    show.heading("Training the towers")
    epochs = ["--epochs", str(options.epochs)] if options.epochs else []
    _python("offline.train", "--data-path", str(data), "--save-dir", str(store), *epochs)


def _settings(environment: dict[str, str], store: Path, are_servers_ours: bool) -> Settings:
    """Return the worker's settings; names of our own where the servers hold other people's data too."""
    environment = {
        name: value for name, value in os.environ.items() if name.startswith("KAFKA_")
    } | environment
    settings = replace(Settings.from_environment(environment), artifact=store)
    if are_servers_ours:
        return settings
    name = f"twintide-demo-{os.getpid()}"
    return replace(
        settings,
        app_id=name,
        topic=f"{name}-events",
        dead_letter_topic=f"{name}-dlq",
        key_prefix=f"{name}:user:",
    )


def _last_days(log: BehaviourLog, days: float) -> BehaviourLog:
    return log.select(log.time_ms >= log.time_ms.max() - int(days * DAY_MS)).in_time_order()


@dataclass(frozen=True, slots=True)
class RunningDemo:
    """What the demo works with once the servers run."""

    options: DemoOptions
    settings: Settings
    replayed: BehaviourLog
    worker: WorkerProcess
    probe: FreshnessProbe
    reader: Reader
    #: The user whose story is told.
    user_id: str


def _stream(
    options: DemoOptions, settings: Settings, artifact: Artifact, replayed: BehaviourLog, directory: Path
) -> Proof:
    show.heading(f"Replaying {len(replayed):,} events of the last {options.days:g} days at {options.speed}")
    shutil.rmtree(directory / "worker", ignore_errors=True)
    client = redis_client(settings.redis)
    demo = RunningDemo(
        options=options,
        settings=settings,
        replayed=replayed,
        worker=WorkerProcess(directory / "worker", worker_environment(settings)),
        probe=FreshnessProbe(settings, client),
        reader=Reader(client, key_prefix=settings.key_prefix, model=artifact.version),
        user_id=_busiest_user(replayed),
    )
    learner = ItemsProcess(directory / "items", worker_environment(settings), always=True)
    try:
        demo.worker.start()
        demo.probe.start()
        published, before = _replay_and_watch(demo, directory / "logs" / "replay.out")
        wait_until_committed(settings, timeout_s=120)
        show.heading("An item that did not exist")
        story = new_item.tell(settings, replayed, demo.reader, learner)
        show.console.print(f"  {story}")
        published += story.clicks
        wait_until_committed(settings, timeout_s=120)
        demo.probe.stop(drain_s=0.5)
        (after,) = demo.reader.read([demo.user_id])
        counts = demo.worker.metrics()
    finally:
        learner.stop()
        demo.worker.stop()
    show.one_user(artifact, replayed, before, after)
    show.summary(published, counts, demo.probe)
    found = prove(settings, published=published)
    if found.complaint:
        click.echo(f"the proof failed: {found.complaint}", err=True)
    return found


def _replay_and_watch(demo: RunningDemo, report: Path) -> tuple[int, UserVectors | None]:
    """Replay in a child process and watch it; return what it published, and the user's first vector."""
    before: UserVectors | None = None
    is_kill_due = demo.options.kill_worker
    with report.open("wb") as output, show.LiveView(demo.worker, demo.probe) as view:
        child = spawn(_replay_command(demo), output, {**os.environ, **servers_of(demo.settings)})
        try:
            while child.poll() is None:
                time.sleep(0.25)
                view.update()
                (found,) = demo.reader.read([demo.user_id])
                before = before or (None if found.reason else found)
                if is_kill_due and view.events > len(demo.replayed) / 3:
                    demo.worker.kill()
                    demo.worker.start()
                    is_kill_due = False
        finally:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
                child.wait(timeout=30)
    published = _published(child.returncode, report.read_text(errors="replace"))
    if is_kill_due:
        raise TwintideError(
            "the replay was over before the worker could be killed: replay more days, or slower"
        )
    return published, before


def _published(status: int, text: str) -> int:
    """Return how many events a replay says it published; TwintideError where it failed.

    One that only missed its pace, as on a slow machine, has not.
    """
    report = re.search(r"^\{\n.*?^\}$", text, re.DOTALL | re.MULTILINE)
    found = json.loads(report[0]) if report else {"records": 0, "acknowledged": -1}
    if found["acknowledged"] != found["records"]:
        raise TwintideError(f"replay ended with exit status {status}: {text.strip()[-300:]}")
    return int(found["acknowledged"])


def _replay_command(demo: RunningDemo) -> list[str]:
    first = datetime.fromtimestamp(int(demo.replayed.time_ms[0]) / 1000, UTC)
    arguments = ["--data-path", str(demo.replayed.path), "--topic", demo.settings.topic]
    arguments += ["--speed", demo.options.speed, "--from", first.strftime("%Y-%m-%d %H:%M:%S")]
    return [sys.executable, "-m", "replay", *arguments]


def _busiest_user(log: BehaviourLog) -> str:
    return str(log.user.values[np.bincount(log.user.codes).argmax()])


def _python(module: str, *arguments: str) -> None:
    """Run one of Twintide's commands with its output shown; TwintideError where it fails."""
    command = [sys.executable, "-m", module, *arguments]
    click.echo(f"$ python -m {module} {' '.join(arguments)}", err=True)
    status = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}).returncode
    if status:
        raise TwintideError(f"python -m {module} ended with exit status {status}")
