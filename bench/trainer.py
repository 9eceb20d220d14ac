"""`./run bench trainer`: the trainer beside two workers under load: reads, freshness, kills, and its gate."""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
import numpy as np

from bench.harness.books import Books, read_books
from bench.harness.deployment import Deployment, Load, deployed
from bench.harness.even_log import even_log, session_gap_ms
from bench.harness.gate_tries import ShuffledStep, accepted
from bench.harness.ranker import Ranker
from bench.harness.report import Report, Result, print_table
from bench.harness.rollouts import OTHERWISE, ROLLED_OUT, Rollouts
from bench.harness.stage import stage
from local.freshness import FreshnessProbe
from local.proof import Proof, prove, wait_until_committed
from local.trainer import TrainerProcess
from local.worker import worker_environment
from models.artifact.local_store import LocalStore
from models.command import Command, log_to_stderr
from models.errors import SettingsError, TwintideError
from models.log.behaviour_log import BehaviourLog
from offline.continual.step import Step
from offline.stream_log.log import read_stream_log
from offline.training.run import train
from offline.training.settings import read_config
from stream.store.clients import redis_client

PARTITIONS = 4
#: Passes of the first training; more is not needed for a model that something can be learned after.
EPOCHS = 2
#: Events timed per second, about.
TIMED_PER_SECOND = 100
#: How long a trainer that was killed may take, until it leads again, and for a step (s).
LEADS_WITHIN_S, STEP_WITHIN_S = 120, 900
#: How long a trainer runs after it leads at most before it is killed, where no step was timed (s).
KILL_WITHIN_S = 30.0
#: The least of the new rows that judge a model; the trainer's default is 200.
HELD_BACK = 100


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done: an hour of event time, then kills under the same load, then the gate alone."""

    rate: int
    speed: float
    minutes: float
    every_s: int
    kills: int
    tries: int
    seed: int
    history: int = 20_000

    def __post_init__(self) -> None:
        if min(self.rate, self.every_s) < 1 or min(self.speed, self.minutes) <= 0:
            raise SettingsError("--rate and --every-s must be at least 1, --speed and --minutes above 0")
        if min(self.kills, self.tries) < 0:
            raise SettingsError("--kills and --tries must not be negative")

    @property
    def rows(self) -> int:
        """Return how many events there are to be, for as long as the kills may take."""
        seconds = self.hour_s + 60 + self.kills * LEADS_WITHIN_S + STEP_WITHIN_S
        return self.history + int(self.rate * seconds)

    @property
    def step_ms(self) -> float:
        """Return the event time between two events (ms)."""
        return 1_000 * self.speed / self.rate

    @property
    def hour_s(self) -> float:
        """Return how long the event time takes (s)."""
        return self.minutes * 60 / self.speed


@click.command(cls=Command, context_settings={"max_content_width": 110})
@click.option("--rate", default=200, show_default=True, help="Events per second.")
@click.option("--speed", default=10.0, show_default=True, help="How many times faster event time goes by.")
@click.option("--minutes", default=60.0, show_default=True, help="Event time before the first kill.")
@click.option("--every-s", default=20, show_default=True, help="Pause between two steps of the trainer (s).")
@click.option("--kills", default=10, show_default=True, help="How often the trainer is killed, after that.")
@click.option(
    "--tries", default=10, show_default=True, help="Good and bad models that the gate judges, each."
)
@click.option("--seed", default=1, show_default=True, help="Decides when it is killed.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the result to this file.")
@click.option("--smoke", is_flag=True, help="A short form, to see that it works; figures mean nothing.")
def main(json_path: Path | None, smoke: bool, **given: float) -> None:
    """Let the trainer publish model after model beside two workers under load, and see what readers notice.

    A model is trained on the beginning of a made-up log, whose time is bent so that events come evenly. The
    rest is sent at a steady rate; two workers follow, a ranker reads 20 users 20 times a second, and the
    trainer goes on from what serves. Then it is killed with -9 at random moments and started again, under the
    same load. Fails where a read is mixed, missing, refused or another model's; where a publication is there
    twice; where a row between the first and the last model was learned by no step or by two; where the proof
    of windows and vectors fails; where the gate refuses a good model or lets one through that learned
    shuffled items; and where freshness p99 during rollouts is over twice what it is otherwise.

    \b
    Example: ./run bench trainer --json trainer.json
    """
    log_to_stderr()
    plan = Plan(**given)  # type: ignore[arg-type]
    if smoke:
        plan = replace(plan, rate=40, minutes=2, every_s=5, kills=1, tries=1, history=2_000)
    report = run(plan)
    _print(report)
    if json_path:
        report.write(json_path)
    if faults := faults_of(report.results, with_freshness=not smoke):
        raise TwintideError("; ".join(faults))


def run(plan: Plan) -> Report:
    """Return what was found."""
    load = Load(even_log(plan.rows, plan.step_ms), plan.history, plan.rate)
    with stage(PARTITIONS) as here:
        gap_ms = session_gap_ms(plan.rows, plan.step_ms)
        config = read_config(None, {"gap_ms": gap_ms, "epochs": EPOCHS, "live_items": False})
        train(load.before(), config, here.artifact_store)
        with deployed(here, load) as deployment:
            trainer = _trainer(deployment, plan)
            try:
                results = _under_load(deployment, trainer, plan)
            finally:
                trainer.kill()
            results["gate"] = _gate(deployment, read_books(LocalStore(here.artifact_store)), plan)
        return Report(asdict(plan), results)


def _trainer(deployment: Deployment, plan: Plan) -> TrainerProcess:
    options = ["--every", f"{plan.every_s}s", "--min-held-out", str(HELD_BACK)]
    environment = worker_environment(deployment.settings)
    return TrainerProcess(deployment.here.directory / "trainer", environment, options)


def _under_load(deployment: Deployment, trainer: TrainerProcess, plan: Plan) -> dict[str, Result]:
    settings, store = deployment.settings, LocalStore(deployment.here.artifact_store)
    rollouts = Rollouts(settings, store, trainer)
    ranker = Ranker(settings, deployment.known_users(), plan.seed)
    traffic = deployment.traffic()
    with redis_client(settings.redis) as client:
        probe = FreshnessProbe(settings, client, max(plan.rate // TIMED_PER_SECOND, 1))
        probe.start()
        for thread in (traffic, rollouts, ranker):
            thread.start()
        trainer.start()
        time.sleep(plan.hour_s)
        _kill_again_and_again(trainer, plan)
        before = len(rollouts.active)
        _wait(
            lambda: rollouts.is_settled(before + 1),
            STEP_WITHIN_S,
            "nothing was published and served after the kills",
        )
        log = deployment.sent(traffic.finish())
        wait_until_committed(settings, timeout_s=120)
        probe.stop()
    _wait_for_rest(trainer)
    for thread in (ranker, rollouts):
        thread.finish()
    kept, proof = ranker.check_kept(log), prove(settings, published=len(log))
    return {
        **rollouts.freshness(np.array(probe.timed)),
        "reads": {
            "reads": ranker.reads,
            "models": len(ranker.versions),
            "vectors_checked": kept,
            **{what: ranker.faults[what] for what in ("mixed", "missing", "wrong", "refused", "unanswered")},
        },
        "models": _books(
            read_books(store), rollouts.active, _with_partitions(log, deployment), plan, trainer
        ),
        "proof": _proof(proof),
    }


def _kill_again_and_again(trainer: TrainerProcess, plan: Plan) -> None:
    """Kill the trainer at random moments of its steps and of the pauses between them."""
    chance = random.Random(plan.seed)
    published = max(trainer.said("published"), 1)
    longest_s = min(max(plan.hour_s / published, plan.every_s), KILL_WITHIN_S + plan.every_s)
    for number in range(plan.kills):
        _wait(trainer.leads, LEADS_WITHIN_S, "the trainer did not lead")
        time.sleep(chance.uniform(0, longest_s))
        trainer.kill()
        click.echo(f"kill {number + 1} of {plan.kills}", err=True)
        trainer.start()


def _wait_for_rest(trainer: TrainerProcess) -> None:
    """Return when a step that began after the last event has found too little to learn, or nothing better.

    What the gate refuses once, it refuses until there are new rows.
    """

    def ended() -> float:
        steps = trainer.metrics()
        return sum(steps.get(f"twintide_trainer_steps_total{{{how}}}", 0) for how in ("too_few", "refused"))

    one_under_way = ended() + 1
    _wait(lambda: ended() > one_under_way, STEP_WITHIN_S, "the trainer did not come to rest")


def _wait(condition: Callable[[], bool], timeout_s: float, complaint: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TwintideError(f"{complaint} within {timeout_s:g} s: see the trainer's log")
        time.sleep(0.5)


def _with_partitions(log: BehaviourLog, deployment: Deployment) -> BehaviourLog:
    """Return the log with the partition of each user, as the changelog has them."""
    stored = read_stream_log(deployment.settings)
    assert stored.partition is not None
    of_user = dict(zip(stored.user.values.tolist(), stored.partition.tolist(), strict=True))
    return replace(log, partition=np.array([of_user.get(user, 0) for user in log.user.values], np.int64))


def _books(books: Books, active: list[str], log: BehaviourLog, plan: Plan, trainer: TrainerProcess) -> Result:
    (to_learn, fallen), learned = books.to_learn(log), books.learned()
    return {
        "published": len(books.chain) - 1,
        "refused": trainer.said("refused"),
        "failed": trainer.said("a step failed"),
        "kills": plan.kills,
        "twice": books.twice,
        "beside": books.beside(active),
        "rows": to_learn,
        "fallen_out_of_windows": fallen,
        "lost": max(to_learn - learned, 0),
        "learned_twice": max(learned - to_learn, 0),
    }


def _proof(proof: Proof) -> Result:
    if proof.complaint:
        click.echo(f"the proof failed: {proof.complaint}", err=True)
    return {"events": proof.applied, "ok": float(proof.is_ok)}


def _gate(deployment: Deployment, books: Books, plan: Plan) -> Result:
    """Have the gate judge steps from the models of the run, with random numbers of rows that are new."""
    chance, log = np.random.default_rng(plan.seed), deployment.load.log
    befores = [books.chain[at] for at in chance.integers(0, len(books.chain), plan.tries)]
    until = np.searchsorted(log.time_ms, [each.training["learned_until_ms"] for each in befores], "right")
    usual = max(int(plan.rate * plan.every_s), 4 * HELD_BACK)
    ends = np.minimum(until + chance.integers(usual // 2, 2 * usual, plan.tries), len(log)).tolist()
    with redis_client(deployment.settings.redis) as client:
        good, bad = (accepted(kind, befores, log, ends, client, HELD_BACK) for kind in (Step, ShuffledStep))
    return {"good": len(good), "good_refused": good.count(False), "bad": len(bad), "bad_accepted": sum(bad)}


def faults_of(results: Mapping[str, Result], with_freshness: bool = True) -> list[str]:
    """Return what is not as promised, a few words each."""
    promised = {
        "reads": ("mixed", "missing", "wrong", "refused", "unanswered"),
        "models": ("twice", "beside", "lost", "learned_twice"),
        "gate": ("good_refused", "bad_accepted"),
    }
    found = [
        f"{name} {what.replace('_', ' ')}: {results[name][what]:.0f}"
        for name, whats in promised.items()
        for what in whats
        if results[name][what]
    ]
    if not results["proof"]["ok"]:
        found.append("windows or vectors are wrong")
    ratio = results[ROLLED_OUT]["p99_ms"] / results[OTHERWISE]["p99_ms"]
    if with_freshness and not ratio <= 2:
        found.append(f"freshness p99 during rollouts is {ratio:.1f}x of what it is otherwise")
    return found


def _print(report: Report) -> None:
    freshness = {name: result for name, result in report.results.items() if "p99_ms" in result}
    columns = {"seconds": ",.0f", "events": ",.0f", "p50_ms": ",.0f", "p99_ms": ",.0f"}
    print_table("freshness of the events sent while ...", freshness, columns)
    for name in ("reads", "models", "proof", "gate"):
        result = report.results[name]
        click.echo(
            f"{name}: " + ", ".join(f"{what.replace('_', ' ')} {n:,.0f}" for what, n in result.items())
        )


if __name__ == "__main__":
    main(prog_name="./run bench trainer")
