"""Every event is a target once, and reads what a window before it could hold."""

import numpy as np
import pytest

from models.windows.histories import Histories
from offline.recurrent_graph.stretches import cut_stretches, known_targets, periods_of


@pytest.mark.parametrize("seed", range(20))
def test_every_event_is_a_target_once_and_reads_the_events_just_before_it(seed: int) -> None:
    random = np.random.default_rng(seed)
    counts = random.integers(0, 30, 6) + (np.arange(6) == 0)
    starts = np.concatenate(([0], np.cumsum(counts)))
    times = np.concatenate([np.sort(random.integers(0, 500, count)) for count in counts])
    item = random.integers(1, 9, len(times))
    histories = Histories(item, item, np.ones(len(item), np.uint8), times, starts)
    read_events, horizon_ms = int(random.integers(1, 9)), int(random.integers(0, 300))
    begins_ms = periods_of(times, 3)
    stretches = cut_stretches(histories, begins_ms, read_events, horizon_ms)
    stretch, event = known_targets(histories, stretches)
    assert sorted(event.tolist()) == np.flatnonzero(item >= 2).tolist()
    user = np.repeat(np.arange(6), counts)
    for one, target in zip(stretch.tolist(), event.tolist(), strict=True):
        first = int(stretches.first[one])
        begin_ms = begins_ms[stretches.period[one]]
        later = begins_ms[begins_ms > begin_ms]
        assert begin_ms <= times[target] and (not len(later) or times[target] < later[0])
        assert user[first] == user[target] and target - first <= read_events
        could = [
            e for e in range(int(starts[user[target]]), target) if times[target - 1] - times[e] <= horizon_ms
        ]
        assert first >= min([target, *could])
        assert target - first >= min(len(could[-read_events:]), 1)  # the newest is read wherever there is one
