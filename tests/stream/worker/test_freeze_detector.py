"""When a worker may no longer trust that its partitions are its own."""

import pytest

from stream.worker.freeze_detector import DOUBT_S, POLL_CLOCK_EVERY_S, TOO_LONG_S, FreezeDetector


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_regular_polls_raise_no_doubt(clock: Clock) -> None:
    freeze_detector = FreezeDetector(clock)
    for _ in range(100):
        freeze_detector.poll()
        clock.now += POLL_CLOCK_EVERY_S
        assert not freeze_detector.is_in_doubt()


def test_freeze_is_noticed_by_whoever_asks_first_and_forgotten_in_time(clock: Clock) -> None:
    freeze_detector = FreezeDetector(clock)
    freeze_detector.poll()
    clock.now += TOO_LONG_S + 1
    assert freeze_detector.is_in_doubt()
    clock.now += DOUBT_S / 2
    assert freeze_detector.is_in_doubt()
    clock.now += DOUBT_S / 2
    assert not freeze_detector.is_in_doubt()


def test_start_that_takes_long_is_no_freeze(clock: Clock) -> None:
    freeze_detector = FreezeDetector(clock)
    clock.now += 60
    assert not freeze_detector.is_in_doubt()
    freeze_detector.poll()
    assert not freeze_detector.is_in_doubt()
