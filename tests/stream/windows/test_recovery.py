"""What the progress of a recovery says."""

import pytest

from stream import metrics
from stream.windows.recovery import PROGRESS_EVERY_S, RestoreProgress


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
