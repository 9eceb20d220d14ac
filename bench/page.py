"""`./run bench page`: how soon the explain page answers under load, and what that costs the worker."""

import multiprocessing
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import click
import numpy as np

from bench.freshness import PARTITIONS, hold
from bench.harness.artifact import publish_untrained
from bench.harness.behaviour import distinct, make_log
from bench.harness.contestants import WatchedWorker
from bench.harness.looker import look
from bench.harness.report import Report, Result, print_table
from bench.harness.stage import Stage, stage
from bench.harness.timing import percentiles
from bench.harness.traffic import WARM_UP_EVENTS
from models.command import Command, log_to_stderr
from models.errors import SettingsError
from models.ids.log_vocabulary import vocabulary_of_log
from models.log.behaviour_log import BehaviourLog
from stream.kafka.topics import ensure_topic

SMOKE_RATE, SMOKE_SECONDS = 200, 3
#: Who is asked about, in turn.
ASKED_USERS = 200


@click.command(cls=Command, context_settings={"max_content_width": 110})
@click.option("--rate", default=5_000, show_default=True, help="Events per second.")
@click.option("--seconds", default=15, show_default=True, help="How long each part of a round is.")
@click.option("--rounds", default=3, show_default=True, help="Each has a part without and one with a looker.")
@click.option("--users", default=10_000, show_default=True, help="Users, with a heavy tail.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the result to this file.")
@click.option("--smoke", is_flag=True, help="A short run, to see that it works; figures mean nothing.")
def main(rate: int, seconds: int, rounds: int, users: int, json_path: Path | None, smoke: bool) -> None:
    """Measure the explain page of a worker that follows a steady rate.

    In turn nobody looks, and somebody does: a process asks once a second for the worker's state, a user and
    their nearest items, as an open page does. How long the answers took, and freshness and the worker's CPU
    time with and without the looker, as the median of the rounds; what the looker costs, with its error.
    Servers, producer and probe share the machine.

    \b
    Example: ./run bench page --json page.json
    """
    log_to_stderr()
    report = run(SMOKE_RATE, SMOKE_SECONDS, 2, users) if smoke else run(rate, seconds, rounds, users)
    _print(report)
    if json_path:
        report.write(json_path)


def run(rate: int, seconds: int, rounds: int, users: int) -> Report:
    """Hold the rate in turn without and with a looker, and return what was found."""
    if min(rate, seconds, rounds - 1, users) < 1:
        raise SettingsError("--rate, --seconds and --users must be at least 1, --rounds 2")
    log = distinct(make_log(WARM_UP_EVENTS + 4 * rate * seconds * rounds, users))
    with stage(PARTITIONS) as here:
        publish_untrained(here.artifact_store, vocabulary_of_log(log))
        topic = f"{here.prefix}-events"
        ensure_topic(here.kafka, topic, PARTITIONS)
        worker = here.worker("twintide", topic)
        try:
            worker.start()
            hold(here, worker, log.select(np.arange(WARM_UP_EVENTS)), rate=WARM_UP_EVENTS // 4)
            results = _rounds(here, worker, log, rate, seconds, rounds)
            worker.stop()
        finally:
            worker.kill()
    settings = {"rate": rate, "seconds": seconds, "rounds": rounds, "users": users, "partitions": PARTITIONS}
    return Report(settings, results)


def _rounds(
    here: Stage, worker: WatchedWorker, log: BehaviourLog, rate: int, seconds: int, rounds: int
) -> dict[str, Result]:
    """Return the worker's figures of the parts, and the page's answers."""
    held: dict[str, list[Result]] = {"nobody looks": [], "one looks": []}
    took: dict[str, list[float]] = defaultdict(list)
    user_ids = log.user.values[np.unique(log.user.codes[:WARM_UP_EVENTS])[:ASKED_USERS]].tolist()
    first = WARM_UP_EVENTS
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        for name in list(held) * rounds:
            part = log.select(np.arange(first, first + rate * seconds))
            first += len(part)
            click.echo(f"{rate:,} events/s for {seconds} s, {name}", err=True)
            is_looked_at = name == "one looks"
            looker = pool.submit(look, worker.port, user_ids, seconds) if is_looked_at else None
            held[name].append(hold(here, worker, part, rate))
            for asked, times in (looker.result() if looker else {}).items():
                took[asked] += times
    answers = {f"/explain/api/{asked}": percentiles(times) for asked, times in took.items()}
    cost = _cost(held["nobody looks"], held["one looks"])
    return {name: _median(parts) for name, parts in held.items()} | answers | {"cost": cost}


def _cost(without: Sequence[Result], looked_at: Sequence[Result]) -> Result:
    """Return what a looker costs: of the pairs, the mean difference of CPU (cores) and its standard error."""
    cores = [
        theirs["worker_cores"] - own["worker_cores"] for own, theirs in zip(without, looked_at, strict=True)
    ]
    error = float(np.std(cores, ddof=1) / len(cores) ** 0.5)
    return {"pairs": len(cores), "cores": float(np.mean(cores)), "standard_error": error}


def _median(parts: Sequence[Result]) -> Result:
    return {name: float(np.median([part[name] for part in parts])) for name in parts[0]}


def _print(report: Report) -> None:
    rows = {
        name: {"p50 ms": found["p50_ms"], "p99 ms": found["p99_ms"], "CPU": found.get("worker_cores", np.nan)}
        for name, found in report.results.items()
        if name != "cost"
    }
    title = "freshness of vectors without and with a looker, and how long the page took to answer"
    print_table(title, rows, {"p50 ms": ",.0f", "p99 ms": ",.0f", "CPU": ".1%"})
    cost = report.results["cost"]
    click.echo(
        f"a looker costs the worker {cost['cores']:+.1%} of a core, s.e. {cost['standard_error']:.1%}, "
        f"of {cost['pairs']:.0f} pairs"
    )


if __name__ == "__main__":
    main(prog_name="./run bench page")
