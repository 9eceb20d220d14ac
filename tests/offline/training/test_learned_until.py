"""What is newer is told partition by partition, as partitions do not come in step."""

from dataclasses import replace

import numpy as np
import pytest

from models.errors import ArtifactError
from models.log.behaviour_log import BehaviourLog, Column
from offline.training.learned_until import newer_rows, until_of
from tests.offline.continual.making import log_of


def log_with(partitions: list[int] | None, users: list[int], times_ms: list[int]) -> BehaviourLog:
    """Return a log of users by number, whose partitions these are."""
    names = np.array([f"u{user}" for user in range(max(users) + 1)], object)
    found = None if partitions is None else np.array(partitions, np.int64)
    return replace(log_of(times_ms), user=Column(np.array(users, np.int32), names), partition=found)


def test_row_of_a_partition_that_was_behind_is_new_though_others_are_further() -> None:
    learned = until_of(log_with([0, 1], [0, 0, 1], [10, 90, 20]))
    assert learned["learned_until_ms"] == 90
    later = log_with([0, 1], [0, 0, 1, 1, 1], [10, 90, 20, 21, 80])
    assert newer_rows(later, learned, "a").tolist() == [False, False, False, True, True]


def test_partition_without_a_row_has_learned_nothing() -> None:
    learned = until_of(log_with([0, 2], [0, 1], [50, 60]))
    later = log_with([0, 1, 2], [0, 1, 2, 2], [50, 40, 60, 61])
    assert newer_rows(later, learned, "a").tolist() == [False, True, False, True]


def test_logs_without_partitions_and_partitions_that_were_added_are_asked_as_all_are() -> None:
    learned = until_of(log_with([0, 1], [0, 1], [50, 60]))
    assert newer_rows(log_with(None, [0, 1, 1], [55, 60, 61]), learned, "a").tolist() == [False, False, True]
    added = log_with([0, 5], [0, 1, 1], [51, 60, 61])
    assert newer_rows(added, learned, "a").tolist() == [True, False, True]
    from_file = until_of(log_with(None, [0], [50]))
    assert newer_rows(log_with([0, 1], [0, 1], [50, 51]), from_file, "a").tolist() == [False, True]


def test_artifact_that_does_not_say_is_named() -> None:
    with pytest.raises(ArtifactError, match="artifacts/v does not say until when it has learned"):
        newer_rows(log_of([1]), {}, "artifacts/v")


def test_row_ahead_of_the_clock_is_said_because_what_comes_before_it_is_not_new(
    caplog: pytest.LogCaptureFixture,
) -> None:
    until_of(log_of([1_700_000_000_000]))
    assert not caplog.messages
    until_of(log_of([1_700_000_000_000, 4_102_444_800_000]))
    assert "log: its newest row is of 2100-01-01T00:00:00.000, ahead of this host's clock" in caplog.text
