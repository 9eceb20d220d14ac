"""Which of a key's changelog records stays, and what the progress says."""

import pytest

from models.windows.window import Window, window_to_bytes
from stream import metrics
from stream.windows.recovery import PROGRESS_EVERY_S, RestoreProgress, newest


def window(offset: int) -> bytes:
    return window_to_bytes(Window(topic_id="t", partition=0, offset=offset))


def test_last_record_of_a_key_stays() -> None:
    assert newest([b"a", b"a"], [window(1), window(2)], {}) == {b"a": window(2)}


def test_older_window_written_late_by_a_zombie_does_not_count() -> None:
    assert newest([b"a", b"a"], [window(200), window(150)], {}) == {b"a": window(200)}
    assert newest([b"a"], [window(150)], {b"a": window(200)}) == {}


def test_tombstone_counts_and_what_follows_it_too() -> None:
    assert newest([b"a", b"a"], [window(5), None], {}) == {b"a": None}
    assert newest([b"a", b"a"], [None, window(1)], {b"a": window(9)}) == {b"a": window(1)}


def test_progress_is_said_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    progress = RestoreProgress(clock=lambda: now)
    with caplog.at_level("INFO"):
        progress.add(100, remaining=900)
        now = PROGRESS_EVERY_S
        progress.add(400, remaining=500)
    assert [each.getMessage() for each in caplog.records] == [
        "restored 500 records, 100 a second; 500 left, about 5 s"
    ]
    assert metrics.recovery_remaining._value.get() == 500
