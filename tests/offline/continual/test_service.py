"""The trainer's loop says why it stands still, and goes on by itself when the trouble is over."""

from collections.abc import Callable
from threading import Event

import pytest
import redis

from models.errors import TwintideError
from offline.continual import service
from offline.continual.metrics import REGISTRY
from offline.continual.pause import Pause
from offline.continual.service import Status, serve
from offline.continual.step import Done
from stream.kafka.assigned_consumer import SourceError
from stream.store.lease import LeaseLostError

#: A trouble, or None where all is well.
Trouble = Exception | None


class FakeLease:
    """A lease whose next requests for it, and renewals, end so."""

    def __init__(self, taken: list[Trouble], renewed: list[Trouble]) -> None:
        self._taken, self._renewed = taken, renewed

    def wait(self, is_over: Callable[[], bool]) -> bool:
        _raise_next(self._taken)
        return True

    def require(self) -> None:
        _raise_next(self._renewed)

    def give_up(self) -> None:
        pass


def _raise_next(troubles: list[Trouble]) -> None:
    if troubles and (trouble := troubles.pop(0)):
        raise trouble


@pytest.mark.parametrize(
    ("steps", "taken", "renewed", "said"),
    [
        (
            [SourceError("topic changelog cannot be read: Broker: Topic authorization failed")],
            [],
            [],
            [("stuck", "a step failed: topic changelog cannot be read: Broker: Topic authorization failed")],
        ),
        (
            [TwintideError("no Kafka"), redis.OutOfMemoryError("used memory > 'maxmemory'"), OSError("disk")],
            [],
            [],
            [
                ("stuck", "a step failed: no Kafka"),
                ("stuck", "a step failed: used memory > 'maxmemory'"),
                ("stuck", "a step failed: disk"),
            ],
        ),
        (
            [],
            [None, redis.OutOfMemoryError("used memory > 'maxmemory'")],
            [LeaseLostError("READONLY")],
            [("stuck", "Redis does not say who leads: used memory > 'maxmemory'")],
        ),
    ],
)
def test_trainer_that_is_refused_says_so_and_goes_on_when_it_is_over(
    steps: list[Trouble],
    taken: list[Trouble],
    renewed: list[Trouble],
    said: list[tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stop, status, seen = Event(), Status(), list[tuple[str, str]]()
    failed = REGISTRY.get_sample_value("twintide_trainer_steps_total", {"result": "failed"})
    expected_failures = len(steps)

    def note(seconds: float | None = None) -> bool:
        seen.append((status.health.status, status.health.reason))
        return False

    def step() -> Done:
        _raise_next(steps)
        return Done("too_few", "nothing is new")

    def wait(self: Pause, before: int | None, stop: Event, at_most_s: float) -> None:
        note()
        if at_most_s != service.RETRY_S:
            stop.set()

    monkeypatch.setattr(Pause, "wait", wait)
    monkeypatch.setattr(stop, "wait", note)
    serve(step, FakeLease(taken, renewed), Pause(60, 0, lambda: 0), stop, status)  # type: ignore[arg-type]
    assert seen == [*said, ("ready", "")]
    assert all("\n" not in line for line in caplog.messages)
    now = REGISTRY.get_sample_value("twintide_trainer_steps_total", {"result": "failed"})
    assert failed is not None and now == failed + expected_failures
