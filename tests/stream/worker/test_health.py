"""What /health says of a worker, from what its parts say."""

import asyncio
import socket
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from models.errors import SettingsError, UnreachableError
from models.windows.window import WindowSettings
from stream import metrics
from stream.kafka.connection import KafkaConnection
from stream.kafka.topics import NotAllowedError, TopicState
from stream.windows.assignment import Assignment
from stream.windows.partition import Partition
from stream.worker import health
from stream.worker.source import Topic
from stream.worker.topic_watch import TopicMadeAgainError, TopicWatch


class App:
    """A worker that is ready, unless its parts are told otherwise."""

    behaviour_topic = "events"
    rebalancing = False

    def __init__(self) -> None:
        self.partitions = [0]
        self.recovery = SimpleNamespace(
            in_recovery=False,
            completed=SimpleNamespace(is_set=lambda: True),
            active_remaining_total=lambda: 7,
        )
        self.uncommitted_s = 0.0
        held = {0: Partition("t", 0, WindowSettings(), lambda keys: [None for _ in keys])}
        self.parts = SimpleNamespace(
            assignments=SimpleNamespace(current=Assignment(1, held)),
            commits=SimpleNamespace(uncommitted_s=lambda: self.uncommitted_s),
            topic_watch=TopicWatch(KafkaConnection(), Topic("events", "t", 2), "g"),
            refresher=None,
            live_models=None,
        )
        self.tables = SimpleNamespace(_recovery=self.recovery)
        self.source = SimpleNamespace(waits_for="")

    def assigned_partitions(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(topic="events", partition=number) for number in self.partitions]

    def status(self) -> str:
        return health.check(self).status


def test_worker_that_reads_and_commits_is_ready_and_so_is_one_without_partitions() -> None:
    app = App()
    assert app.status() == "ready"
    app.partitions = []
    app.parts.assignments.current.end()
    assert app.status() == "ready"


def test_partitions_that_nobody_reads_are_said_and_a_topic_that_is_made_again_ends_the_watch() -> None:
    app = App()
    app.parts.topic_watch.judge(TopicState("t", 3))
    assert health.check(app).status == "stuck"
    assert "events has 3 partitions, windows are kept for 2" in health.check(app).reason
    app.parts.topic_watch.judge(TopicState("t", 2))
    assert app.status() == "ready"
    with pytest.raises(TopicMadeAgainError, match="deleted and made again"):
        app.parts.topic_watch.judge(TopicState("another", 2))


def test_right_that_is_lost_is_said_while_it_is_and_an_outage_is_none() -> None:
    app, answers = App(), Mock()
    topic = Topic("events", "t", 2)
    watch = TopicWatch(KafkaConnection(), topic, "g", answers.ask, answers.check)
    app.parts.topic_watch, app.rebalancing = watch, True
    answers.ask.return_value = TopicState("t", 2)
    refused = NotAllowedError("group g: not allowed")
    for said, status, lost in (
        (UnreachableError("Kafka did not answer"), "starting", 0),
        (refused, "stuck", 1),
        (UnreachableError("Kafka did not answer"), "stuck", 1),
        (None, "starting", 0),
    ):
        answers.check.side_effect = said
        asyncio.run(watch.poll())
        assert (app.status(), metrics.not_allowed._value.get()) == (status, lost)
        assert (health.check(app).reason == str(refused)) == bool(lost)


def test_worker_that_has_partitions_and_reads_none_is_stuck(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = App()
    app.parts.assignments.current.end()
    assert app.status() == "ready"
    monkeypatch.setattr(health, "STUCK_AFTER_S", 0.0)
    app.rebalancing = True
    assert app.status() == "starting"
    app.rebalancing = False
    assert app.status() == "stuck"
    assert "nothing is read" in health.check(app).reason


def test_recovery_is_said_first_and_how_much_is_left() -> None:
    app = App()
    app.recovery.in_recovery = True
    app.parts.assignments.current.end()
    found = health.check(app)
    assert (found.status, found.recovery_remaining) == ("recovering", 7)


def test_worker_that_reads_and_never_commits_is_stuck() -> None:
    app = App()
    app.uncommitted_s = health.STUCK_AFTER_S + 1
    assert app.status() == "stuck"


def test_worker_that_waits_for_a_schema_registry_says_so() -> None:
    app = App()
    app.source.waits_for = "the schema registry at http://registry:8081 does not answer"
    assert health.check(app) == health.Health("stuck", f"{app.source.waits_for}: reading waits for it", 1)


def test_last_port_that_is_taken_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 65_535))
        taken.listen()
        with pytest.raises(SettingsError, match=r"no port of 127.0.0.1:65535-65554 is free for /metrics"):
            health.serve("127.0.0.1", 65_535, lambda: health.Health("ready"))
