"""`./run bench soak`: does anything grow while models change, users are forgotten and servers fail?"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np

from bench.harness.artifact import two_untrained
from bench.harness.behaviour import distinct, make_log
from bench.harness.deployment import Deployment, Load, deployed
from bench.harness.ranker import Ranker
from bench.harness.report import Report, Result, print_table
from bench.harness.soaked import FRESHNESS, HANDLES, MEMORY, REDIS, Soaked, calm_p99
from bench.harness.stage import Stage, directory_of_run, stage_on
from bench.harness.trend import LEAST_BLOCKS, trend
from local.freshness import FreshnessProbe
from local.kafka import KafkaServer
from local.proof import prove, wait_until_committed
from local.redis import RedisServer
from models.arrays import Doubles
from models.artifact.artifact import publish
from models.command import Command, log_to_stderr
from models.errors import SettingsError, TwintideError
from models.ids.log_vocabulary import vocabulary_of_log
from stream.forget import forget
from stream.kafka.connection import KafkaConnection
from stream.store.clients import redis_client
from stream.store.connection import RedisConnection

PARTITIONS = 4
#: Users who come again and again, so that after the warm-up there is nothing new to keep; as many events as
#: fill the windows of most of them come before.
USERS, HISTORY = 2_000, 150_000
#: Every so many of the users are forgotten in turn, and come back; the others are read.
FORGOTTEN = 20
#: Events timed per second, about.
TIMED_PER_SECOND = 100
FORGOTTEN_WITHIN_S = CLEANED_UP_WITHIN_S = 300.0
#: What a figure may grow by in an hour.
BOUNDS = {MEMORY: 20.0, HANDLES: 5.0, REDIS: 1.0, FRESHNESS: 20.0}


@dataclass(frozen=True, slots=True)
class Plan:
    """How long, how much, and how often all of it happens."""

    minutes: float
    warm_up_minutes: float
    rate: int
    cycle_s: float

    def __post_init__(self) -> None:
        if self.rate < 1 or self.cycle_s < 1 or not 0 <= self.warm_up_minutes < self.minutes:
            raise SettingsError(
                "--rate and --cycle-s must be at least 1, --warm-up-minutes less than --minutes"
            )


@click.command(cls=Command, context_settings={"max_content_width": 110})
@click.option("--minutes", default=60.0, show_default=True, help="How long, the warm-up included.")
@click.option("--warm-up-minutes", default=10.0, show_default=True, help="What is not judged.")
@click.option("--rate", default=1_000, show_default=True, help="Events per second.")
@click.option("--cycle-s", default=120.0, show_default=True, help="How often it all happens once (s).")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the result to this file.")
def main(json_path: Path | None, **given: float) -> None:
    """Let a deployment run under load and faults, and see whether anything grows.

    Two workers follow a steady rate of events, and are started again where they give up. In the calm half of
    each cycle another model is published and a user is forgotten; in the other half one worker, Redis and
    Kafka are killed in turn and started again. The memory and file handles of the worker that is not killed
    and what Redis holds are sampled all the time, freshness in the calm halves. Each figure's slope is that
    of a line through block means, after a warm-up. Fails where one is, with 99 % confidence, above its bound
    (worker 20 MB and 5 handles, Redis 1 MB, p99 20 ms an hour), where a read mixes models or is another
    model's, or where the proof of windows and vectors fails.

    \b
    Example: ./run bench soak --minutes 60 --json soak.json
    """
    log_to_stderr()
    plan = Plan(**given)  # type: ignore[arg-type]
    report = run(plan)
    _print(report)
    if json_path:
        report.write(json_path)
    if faults := faults_of(report.results):
        raise TwintideError("; ".join(faults))


def run(plan: Plan) -> Report:
    """Return the trends, and what readers saw."""
    rows = HISTORY + int(plan.rate * (plan.minutes * 90 + 10 * plan.cycle_s))
    log = distinct(make_log(int(rows * 1.02), USERS))
    with _own_servers() as (here, kafka, store):
        models = two_untrained(here.artifact_store, vocabulary_of_log(log))
        publish(here.artifact_store, models[0].name)
        with deployed(here, Load(log, HISTORY, plan.rate)) as deployment:
            results = _soak(deployment, kafka, store, models, plan)
    return Report({**asdict(plan), "users": USERS, "bounds": BOUNDS}, results)


@contextmanager
def _own_servers() -> Iterator[tuple[Stage, KafkaServer, RedisServer]]:
    """Give a stage on servers that nobody else needs; Redis keeps its data over a kill."""
    with directory_of_run() as directory, ExitStack() as stack:
        kafka = KafkaServer(directory / "kafka")
        store = RedisServer(directory / "redis", durable=True)
        for server in (kafka, store):
            stack.callback(server.kill)
            server.start()
        connections = KafkaConnection(kafka.bootstrap_servers), RedisConnection(store.url)
        yield stage_on(*connections, directory, PARTITIONS), kafka, store


def _soak(
    deployment: Deployment, kafka: KafkaServer, store: RedisServer, models: tuple[Path, Path], plan: Plan
) -> dict[str, Result]:
    settings, users = deployment.settings, deployment.known_users()
    soaked = Soaked(deployment.workers[0], settings.redis)
    ranker = Ranker(settings, [user for at, user in enumerate(users) if at % FORGOTTEN])
    cycle = _Cycle(deployment, kafka, store, models, users[::FORGOTTEN])
    with redis_client(settings.redis) as client:
        probe = FreshnessProbe(settings, client, max(plan.rate // TIMED_PER_SECOND, 1))
        probe.start()
        soaked.start()
        ranker.start()
        sent, calm = _live_through(cycle, deployment, soaked, plan)
        soaked.finish()
        cycle.clean_up()
        probe.stop()
    ranker.finish()
    ranker.check_kept(deployment.sent(sent))
    series = soaked.samples(calm[0][0])
    series[FRESHNESS] = calm_p99(np.array(probe.timed), calm)
    proof = prove(settings, say=lambda line: click.echo(line, err=True))
    return {
        **{name: _trend(*samples, len(calm), BOUNDS[name]) for name, samples in series.items()},
        "reads": {"reads": ranker.reads, "models": len(ranker.versions), **ranker.faults},
        "happened": dict(cycle.happened),
        "proof": {"events": proof.applied, "ok": float(proof.is_ok)},
    }


def _live_through(
    cycle: "_Cycle", deployment: Deployment, soaked: Soaked, plan: Plan
) -> tuple[int, list[tuple[float, float]]]:
    """Let cycles pass under traffic; return how many events were sent, and the calm halves to be judged.

    There are enough of these, whatever --minutes says, and the sampled worker lived through them all.
    """
    traffic = deployment.traffic()
    traffic.start()
    until_s = time.time() + plan.minutes * 60
    while True:
        cycle.pass_by(plan.cycle_s)
        if not traffic.is_alive():
            raise TwintideError("there are no more events, as cycles took far longer than --cycle-s")
        calm = cycle.calm_since(soaked.began_s + plan.warm_up_minutes * 60)
        if time.time() >= until_s and len(calm) >= LEAST_BLOCKS:
            return traffic.finish(), calm


class _Cycle:
    """What happens again and again: another model, a user forgotten, and then every fault in turn."""

    def __init__(
        self,
        deployment: Deployment,
        kafka: KafkaServer,
        store: RedisServer,
        models: tuple[Path, Path],
        forgotten: list[str],
    ) -> None:
        self.happened: dict[str, float] = {}
        self._calm: list[tuple[float, float]] = []
        self._deployment, self._kafka, self._store = deployment, kafka, store
        self._models, self._forgotten = models, forgotten

    def calm_since(self, since_s: float) -> list[tuple[float, float]]:
        """Return begin and end (epoch s) of the calm halves of the cycles that began since then."""
        return [part for part in self._calm if part[0] >= since_s]

    def pass_by(self, cycle_s: float) -> None:
        """Let one cycle pass; longer where the servers take longer."""
        began_s = time.time()
        acts = (self._publish, self._forget, self._kill_worker, self._restart_redis, self._restart_kafka)
        starts = (0.05, 0.25, 0.5, 0.65, 0.8)
        for act, start in zip(acts, starts, strict=True):
            self._rest(began_s + start * cycle_s)
            if act == self._kill_worker:
                self._calm.append((began_s, time.time()))
            self._do(act)
        self._rest(began_s + cycle_s)

    def _rest(self, until_s: float) -> None:
        """Wait, and start workers again that gave up, as a supervisor does."""
        while True:
            for worker in self._deployment.workers:
                if worker.process.pid is None:
                    worker.start(wait=False)
                    self._note(f"{worker.process.name} gave up")
            if time.time() >= until_s:
                return
            time.sleep(min(max(until_s - time.time(), 0), 0.5))

    def _do(self, act: Callable[[], None]) -> None:
        act()
        self._note(act.__name__.strip("_").replace("_", " "))

    def _note(self, name: str) -> None:
        self.happened[name] = self.happened.get(name, 0) + 1
        click.echo(f"{time.strftime('%H:%M:%S')} {name} {self.happened[name]:.0f}", err=True)

    def clean_up(self) -> None:
        """Return when workers are ready, and all events are committed."""
        deadline_s = time.time() + CLEANED_UP_WITHIN_S
        while not all(worker.is_ready() for worker in self._deployment.workers):
            if time.time() > deadline_s:
                raise TwintideError("the workers did not get ready after the last fault: see their logs")
            self._rest(time.time() + 0.5)
        while True:  # a worker may still give up, on a machine on which Kafka takes a minute to start
            try:
                return wait_until_committed(self._deployment.settings, timeout_s=5.0)
            except TwintideError:
                if time.time() > deadline_s + CLEANED_UP_WITHIN_S:
                    raise
            self._rest(time.time() + 0.5)

    def _publish(self) -> None:
        number = int(self.happened.get("publish", 0))
        publish(self._deployment.here.artifact_store, self._models[(number + 1) % 2].name)

    def _forget(self) -> None:
        number = int(self.happened.get("forget", 0))
        forget(self._deployment.settings, self._forgotten[number % len(self._forgotten)], FORGOTTEN_WITHIN_S)

    def _kill_worker(self) -> None:
        worker = self._deployment.workers[-1]
        worker.kill()
        worker.start(wait=False)

    def _restart_redis(self) -> None:
        self._store.kill()
        self._store.start()

    def _restart_kafka(self) -> None:
        self._kafka.kill()
        self._kafka.start()


def _trend(at_s: Doubles, values: Doubles, cycles: int, bound: float) -> Result:
    found = trend(at_s, values, min(cycles, len(values)))
    return {
        "mean": found.mean,
        "per_hour": found.per_hour,
        "error": found.error,
        "at_least": found.at_least,
        "bound": bound,
        "grows": float(found.is_above(bound)),
    }


def faults_of(results: Mapping[str, Result]) -> list[str]:
    """Return what is not as promised, a few words each. Servers that are down may leave a read unanswered."""
    found = [
        f"{name} grows by {result['per_hour']:,.1f} +- {result['error']:,.1f} an hour, and may by "
        f"{result['bound']:g}"
        for name, result in results.items()
        if result.get("grows")
    ]
    for what in ("mixed", "missing", "wrong", "refused"):
        if count := results["reads"].get(what):
            found.append(f"reads {what}: {count:.0f}")
    if not results["proof"]["ok"]:
        found.append("windows or vectors are wrong")
    return found


def _print(report: Report) -> None:
    rows = {name: result for name, result in report.results.items() if "per_hour" in result}
    columns = {"mean": ",.1f", "per_hour": ",.2f", "error": ",.2f", "bound": ",.0f"}
    print_table("what each figure grows by in an hour", rows, columns)
    for name in ("reads", "happened", "proof"):
        result = report.results[name]
        click.echo(f"{name}: " + ", ".join(f"{what} {count:,.0f}" for what, count in result.items()))


if __name__ == "__main__":
    main(prog_name="./run bench soak")
