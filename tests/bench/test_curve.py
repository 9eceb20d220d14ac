"""What the curve says of each disturbance follows from the timed events alone."""

import numpy as np

from bench.harness.timeline import Moment, freshness_by_moment


def test_events_count_to_the_moment_before_they_were_sent() -> None:
    moments = [Moment("calm", 100.0), Moment("killed", 110.0)]
    sent_s = np.array([100.0, 105.0, 110.0, 112.0, 120.0])
    waited_s = np.array([0.02, 0.04, 12.0, 10.0, 0.03])
    found = freshness_by_moment(moments, np.stack([sent_s, waited_s], axis=1))
    assert found["calm"]["fresh_after_s"] == 0
    assert found["calm"]["worst_s"] == 0.04
    assert found["killed"]["worst_s"] == 12.0
    assert found["killed"]["fresh_after_s"] == 12.0  # the last stale one was readable at 122


def test_moment_in_which_nothing_was_timed_is_left_out() -> None:
    moments = [Moment("calm", 100.0), Moment("nothing", 110.0)]
    assert list(freshness_by_moment(moments, np.array([[101.0, 0.02]]))) == ["calm"]
