"""By how much the times of all events are moved, so that they happen now and none is ahead of the clock."""

import math

import numpy as np

from replay.pace import Pace
from replay.timeline import Timeline


def shift_ms(timeline: Timeline, pace: Pace, laps: int, start_ms: int) -> int:
    """Return by how much times are to be moved where the replay starts at `start_ms` (epoch ms).

    Where events are sent faster than they happened, they get ahead until the last one; slower, the first is
    furthest ahead; with a ramp it may be the one at which the speed passes 1. A silence that is left out
    brings all after it ahead.
    """
    last = np.array([timeline.last_ms])
    left_out_ms = timeline.last_ms - timeline.first_ms - int(timeline.replay_ms(last)[0])
    end_s = float(timeline.replay_ms(last)[0] + (laps - 1) * timeline.length_ms) / 1_000
    event_s = np.array([0.0, min(pace.event_s_at_speed_one(), end_s), end_s])
    ahead_s = float((event_s - pace.sending_s(event_s)).max())
    return start_ms - timeline.first_ms - left_out_ms - math.ceil(ahead_s * 1_000)
