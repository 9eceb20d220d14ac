"""`./run bench recovery`: how fast lost state comes back from the changelog."""

from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
from rocksdict import AccessType, Options, Rdict

from bench.harness.artifact import publish_untrained
from bench.harness.behaviour import expected_windows, make_log
from bench.harness.contestants import WatchedWorker
from bench.harness.report import Report, Result, print_table
from bench.harness.stage import Stage, stage
from bench.peers.job import LIMITS
from models.command import Command, log_to_stderr
from models.errors import SettingsError, TwintideError
from models.ids.vocabulary import Vocabulary
from models.windows.window import window_to_bytes
from replay.publisher import PublisherSettings, ReplayProducer
from replay.source import ReplayMessage
from stream.kafka.topics import CHANGELOG_SETTINGS, KEEP_FOREVER, changelog_topic, ensure_topic

CONTESTANTS = ("faust", "twintide")
SMOKE_USERS = 5_000
PARTITIONS = 4
#: Events per window, on average; a few users have many more.
EVENTS_PER_USER = 20
#: Different windows; each user has one of them, told apart by its offset.
MODELS = 1_000
#: Faust keeps the changelog offset under this key, among the windows.
OFFSET_KEY = b"__faust\0offset__"

REPORT_COLUMNS = {
    "records": ",.0f",
    "seconds": ",.2f",
    "records/s": ",.0f",
    "CPU s": ",.1f",
    "peak MB": ",.0f",
}


@click.command(cls=Command, context_settings={"max_content_width": 110})
@click.option("--users", default=200_000, show_default=True, help="Users, with one window each.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the result to this file.")
@click.option("--smoke", is_flag=True, help="5,000 users, to see that it works; figures mean nothing.")
def main(users: int, json_path: Path | None, smoke: bool) -> None:
    """Measure how fast stock Faust and Twintide restore their state from the changelog.

    Each gets a compacted changelog with one window per user, and starts with an empty data directory. The
    clock runs from the assignment of the partitions until recovery is over: for Faust from its signal
    on_partitions_assigned to its callback on_recover; for Twintide from the last poll of /health (20 a
    second) without partitions to the first that says ready. When the process has ended, its RocksDB must
    hold every user's value.

    \b
    Example: ./run bench recovery --json recovery.json
    """
    log_to_stderr()
    report = run(SMOKE_USERS if smoke else users)
    _print(report)
    if json_path:
        report.write(json_path)


def run(users: int) -> Report:
    """Let each contestant recover, and return what was measured."""
    if users < 1:
        raise SettingsError(f"--users is {users}; it must be at least 1")
    values = _values(users)
    results: dict[str, Result] = {}
    with stage(PARTITIONS) as here:
        publish_untrained(here.artifact_store, Vocabulary(["1"], [2], ["1"]))
        for name in CONTESTANTS:
            results[name] = _measure(here, name, values)
    mean_bytes = sum(map(len, values.values())) / users
    report = Report({"users": users, "partitions": PARTITIONS, "mean_value_bytes": mean_bytes}, results)
    report.compare("twintide", ("faust",), "records_per_second")
    return report


def _values(users: int) -> dict[bytes, bytes]:
    """Return a window's value for each user."""
    models = min(users, MODELS)
    windows = list(expected_windows(make_log(models * EVENTS_PER_USER, models), LIMITS).values())
    return {
        str(142_455_899 + 7 * number).encode(): window_to_bytes(
            msgspec.structs.replace(
                windows[number % len(windows)], topic_id="bench", partition=0, offset=number
            )
        )
        for number in range(users)
    }


def _measure(here: Stage, name: str, values: dict[bytes, bytes]) -> Result:
    """Give the contestant a changelog and no disk, and wait until it has its state back."""
    click.echo(f"{name}: {len(values):,} windows", err=True)
    topic = f"{here.prefix}-events"
    ensure_topic(here.kafka, topic, PARTITIONS)
    _fill(here, changelog_topic(here.group(name)), values)
    contestant = (
        here.worker(name, topic) if name == "twintide" else here.peer(name, topic, awaited="recovered")
    )
    try:
        contestant.start()
        if isinstance(contestant, WatchedWorker):
            contestant.stop()  # it keeps no log of its own: what -9 takes from memory, the changelog has
    finally:
        contestant.kill()
    if isinstance(contestant, WatchedWorker):
        start, end = contestant.unassigned_at, contestant.ready_at
    else:
        start, end = contestant.marked_at("assigned"), contestant.marked_at("recovered")
    _check_values(name, contestant.process.directory, values)
    return {
        "records": len(values),
        "seconds": end - start,
        "records_per_second": len(values) / (end - start),
        "cpu_seconds": contestant.watch.cpu_seconds(start, end),
        "peak_mb": contestant.watch.peak_mb(),
    }


def _fill(here: Stage, changelog: str, values: dict[bytes, bytes]) -> None:
    ensure_topic(here.kafka, changelog, PARTITIONS, {**KEEP_FOREVER, **CHANGELOG_SETTINGS})
    publisher = ReplayProducer(here.kafka, PublisherSettings(topic=changelog))
    messages: list[ReplayMessage] = [(key, value, 1_416_268_800_000) for key, value in values.items()]
    publisher.send(messages)
    publisher.finish()


def _check_values(name: str, directory: Path, values: dict[bytes, bytes]) -> None:
    """Compare what RocksDB holds with the changelog; TwintideError where they differ."""
    seen = 0
    for key, value in _stored(directory):
        if values.get(key) != value:
            raise TwintideError(
                f"{name}: the restored window of user {key.decode()!r} is not the changelog's"
            )
        seen += 1
    if seen != len(values):
        raise TwintideError(f"{name}: {seen} windows were restored of {len(values)}")


def _stored(directory: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield the windows in every partition's database below the directory."""
    for path in sorted(directory.rglob("windows-*.db")):
        database = Rdict(str(path), options=Options(raw_mode=True), access_type=AccessType.read_only())
        try:
            yield from ((key, value) for key, value in database.items() if key != OFFSET_KEY)
        finally:
            database.close()


def _print(report: Report) -> None:
    rows = {
        name: {
            "records": result["records"],
            "seconds": result["seconds"],
            "records/s": result["records_per_second"],
            "CPU s": result["cpu_seconds"],
            "peak MB": result["peak_mb"],
        }
        for name, result in report.results.items()
    }
    print_table("recovery: windows restored from the changelog", rows, REPORT_COLUMNS)
    for ratio_name, ratio in report.ratios.items():
        click.echo(f"{ratio_name} {ratio:.1f}x")


if __name__ == "__main__":
    main(prog_name="./run bench recovery")
