"""An event is found in the batch that folded it and in the first that encoded its user afterwards."""

from pathlib import Path

import numpy as np
import pytest

from bench.harness.slow_events import STAGES, Passed, by_stage, stages_of
from stream.tracing import Folded, Trace, Written, open_trace, read_trace


def test_event_is_followed_through_its_own_batches() -> None:
    folded = [
        Folded(0, 10, fetched=1.0, read=1.1, begun=1.2, ended=1.3),
        Folded(0, 20, fetched=2.0, read=2.5, begun=2.75, ended=3.0),
        Folded(1, 20, fetched=9.0, read=9.0, begun=9.0, ended=9.0),
    ]
    written = [
        Written([(0, "u")], taken=2.9, encoded=8.0, written=8.5),  # began before the event was folded
        Written([(1, "u"), (0, "v")], taken=3.1, encoded=8.0, written=8.5),  # another user
        Written([(0, "u")], taken=4.0, encoded=5.0, written=5.5),
        Written([(0, "u")], taken=6.0, encoded=7.0, written=7.5),
    ]
    events = [Passed(0, "u", offset=10, sent=1.0, seen=6.0), Passed(0, "u", offset=25, sent=1.0, seen=6.0)]
    (row,) = stages_of(events, folded, written)  # the second is in no batch
    assert dict(zip(STAGES, row, strict=True)) == {
        **{"fetch": 1.0, "decode": 0.5, "buffer": 0.25, "fold": 0.25},
        **{"wait": 1.0, "encode": 1.0, "write": 0.5, "seen": 0.5},
    }
    assert stages_of(events[1:], folded, written).shape == (0, len(STAGES))


def test_slow_hundredth_is_told_from_the_rest() -> None:
    stages = np.full((1000, len(STAGES)), 0.001)
    stages[:10, STAGES.index("write")] = 0.093  # each of these took 100 ms
    found = by_stage(stages)
    assert found["write"] == pytest.approx({"median_ms": 1.0, "slow_ms": 93.0, "share": 0.93})
    assert found["fold"] == pytest.approx({"median_ms": 1.0, "slow_ms": 1.0, "share": 0.01})


def test_trace_is_read_as_it_was_written_but_for_half_a_line(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    trace = open_trace(str(path))
    assert isinstance(trace, Trace)
    folded, written = Folded(0, 1, 1.0, 2.0, 3.0, 4.0), Written([(0, "ü")], 1.0, 2.0, 3.0)
    trace.add(folded)
    trace.add(written)
    trace.close()
    with path.open("ab") as file:
        file.write(b'{"type":"folded"')
    assert read_trace(path) == ([folded], [written])
    assert open_trace("") is None
