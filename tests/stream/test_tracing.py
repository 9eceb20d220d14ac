"""A trace is for who looks for slow events: where it cannot be written, a worker goes on without."""

import resource
from pathlib import Path

import pytest

from models.errors import SettingsError
from stream.tracing import Folded, open_trace, read_trace

FOLDED = Folded(0, 1, 1.0, 2.0, 3.0, 4.0)


def test_trace_that_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"TWINTIDE_TRACE: .*/no/trace cannot be written \(No such file"):
        open_trace(str(tmp_path / "no" / "trace"))


def test_disk_that_is_full_ends_the_trace_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trace = open_trace(str(tmp_path / "trace"))
    assert trace
    trace.add(FOLDED)
    size, limits = (tmp_path / "trace").stat().st_size, resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        for _ in range(3):
            trace.add(FOLDED)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [each.partition(" cannot be written any more (")[2] for each in caplog.messages] == [
        "File too large): the trace ends"
    ]
    assert read_trace(tmp_path / "trace") == ([FOLDED], [])
    trace.close()
