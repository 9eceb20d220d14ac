"""The trainer's and the soak's benchmarks: what they count is right, and what is wrong fails them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from bench import soak, trainer
from bench.harness.books import read_books
from bench.harness.even_log import even_log
from bench.harness.soaked import calm_p99
from models.artifact.artifact import save
from models.artifact.local_store import LocalStore
from models.errors import TwintideError
from stream.kafka.connection import KafkaConnection
from stream.store.connection import RedisConnection
from tests.offline.continual.making import learned

FAULTLESS = {
    "a model is rolled out": {"p99_ms": 90.0},
    "otherwise": {"p99_ms": 50.0},
    "reads": dict.fromkeys(("mixed", "missing", "wrong", "refused", "unanswered"), 0.0),
    "models": dict.fromkeys(("twice", "beside", "lost", "learned_twice"), 0.0),
    "gate": {"good_refused": 0.0, "bad_accepted": 0.0},
    "proof": {"ok": 1.0},
}


@pytest.mark.parametrize(
    ("where", "what", "value", "said"),
    [
        ("reads", "mixed", 2, "reads mixed: 2"),
        ("models", "learned_twice", 1, "models learned twice: 1"),
        ("gate", "bad_accepted", 1, "gate bad accepted: 1"),
        ("proof", "ok", 0, "windows or vectors are wrong"),
        ("a model is rolled out", "p99_ms", 101, "freshness p99 during rollouts is 2.0x"),
        ("otherwise", "p99_ms", float("nan"), "freshness p99 during rollouts is nanx"),
    ],
)
def test_whatever_is_not_as_promised_is_said(where: str, what: str, value: float, said: str) -> None:
    assert not trainer.faults_of(FAULTLESS)
    (found,) = trainer.faults_of({**FAULTLESS, where: {**FAULTLESS[where], what: value}})
    assert found.startswith(said)


def test_books_have_the_chain_the_rows_and_what_was_published_twice(tmp_path: Path) -> None:
    store, before = LocalStore(tmp_path / "s"), None
    for number, until_ms in enumerate((10, 30, 60)):
        model = learned([f"i{each}" for each in range(3 + number)])
        training = {"learned_until_ms": until_ms, **({"continued_from": before} if before else {})}
        made = save(
            store.where, model.towers, model.vocabulary, model.settings, {"gate": {"rows": 20}}, training
        )
        store.publish(made.version)
        before = made.version
    log = even_log(100, step_ms=1.0)
    log.time_ms[:] = np.arange(100)
    books = read_books(store)
    assert [each.version for each in books.chain] == books.published
    assert (books.learned(), books.to_learn(log), books.twice) == (40, (50, 0), 0)
    busy = even_log(400, step_ms=1.0)
    busy.user.codes[:] = 0
    busy.time_ms[:] = np.repeat(np.arange(100), 4)
    # Of the rows up to 30 the last 110 are held, the 80 new ones among them; up to 60, 110 of 120 new ones.
    assert books.to_learn(busy) == (80 + 110, 10)
    assert books.beside([*books.published, "another"]) == 1
    store.publish(books.published[0])
    assert read_books(store).twice == 1
    shutil.rmtree(store.where)


def test_log_comes_evenly_and_users_do_what_they_did() -> None:
    log = even_log(2_000, step_ms=2.5)
    assert np.diff(log.time_ms).tolist() == [2, 3] * 999 + [2]
    assert len(log.user.values) == 50
    assert np.bincount(log.user.codes, minlength=50).min() > 0


def test_soak_says_what_grows_and_what_readers_saw() -> None:
    flat = {"per_hour": 3.0, "error": 1.0, "bound": 5.0, "grows": 0.0}
    fine = {"worker file handles": flat, "reads": {"reads": 9.0, "unanswered": 3.0}, "proof": {"ok": 1.0}}
    assert not soak.faults_of(fine)
    grows = {**fine, "worker file handles": {**flat, "per_hour": 30.0, "grows": 1.0}}
    assert soak.faults_of(grows) == ["worker file handles grows by 30.0 +- 1.0 an hour, and may by 5"]
    assert soak.faults_of({**fine, "reads": {"wrong": 1.0}}) == ["reads wrong: 1"]


def test_freshness_of_the_soak_is_that_of_calm_halves() -> None:
    samples = np.array([[5.0, 0.1], [6.0, 0.1], [15.0, 9.0], [25.0, 0.2]])
    at_s, values = calm_p99(samples, [(0, 10), (20, 30), (40, 50)])
    assert at_s.tolist() == [5, 25]
    assert values == pytest.approx([100, 200])


@pytest.mark.integration
def test_trainer_reports_the_promised_figures(
    kafka: KafkaConnection, redis_connection: RedisConnection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    monkeypatch.setenv("REDIS_URL", redis_connection.url)
    trainer.main(["--smoke", "--json", str(tmp_path / "t.json")], standalone_mode=False)
    results = json.loads((tmp_path / "t.json").read_text())["results"]
    assert results["models"]["kills"] == 1
    assert results["models"]["published"] > 1 < results["reads"]["models"]
    assert results["models"]["rows"] > 0 < results["reads"]["vectors_checked"]
    assert results["a model is rolled out"]["events"] > 0
    assert results["gate"] == {"good": 1, "good_refused": 0, "bad": 1, "bad_accepted": 0}


def test_soak_that_is_over_before_it_begins_is_refused() -> None:
    with pytest.raises(Exception, match="--warm-up-minutes less than --minutes") as refused:
        soak.main(["--minutes", "5"], standalone_mode=False)
    assert isinstance(refused.value.__cause__, TwintideError)
