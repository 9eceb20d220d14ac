"""Who was encoded a moment ago rests, for longer while the worker is behind, and never for ever."""

from hypothesis import given
from hypothesis import strategies as st

from stream.encoding.encode_interval import EVENTS_PER_SECOND, LONGEST_S, EncodeInterval


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_user_rests_for_the_interval_and_others_do_not() -> None:
    clock = Clock()
    encode_interval = EncodeInterval(0.05, clock)
    encode_interval.note(["u"])
    clock.now += 0.04
    assert list(filter(encode_interval.judge(), ["u", "v"])) == ["v"]
    clock.now += 0.02
    assert list(filter(encode_interval.judge(), ["u", "v"])) == ["u", "v"]


def test_without_an_interval_nobody_rests() -> None:
    encode_interval = EncodeInterval(0.0, Clock())
    encode_interval.note(["u"])
    assert encode_interval.judge()("u")


def test_a_worker_that_is_behind_lets_users_rest_longer_and_no_longer_once_it_has_caught_up() -> None:
    encode_interval = EncodeInterval(0.05)
    intervals = []
    for events in (0, EVENTS_PER_SECOND // 100, EVENTS_PER_SECOND, 1_000 * EVENTS_PER_SECOND, 0):
        encode_interval.fall_behind(events)
        intervals.append(encode_interval.interval_s)
    assert intervals == [0.05, 0.05, 1.0, LONGEST_S, 0.05]


def test_a_worker_that_falls_behind_lets_even_new_users_rest_and_none_once_it_has_caught_up() -> None:
    clock = Clock()
    encode_interval = EncodeInterval(0.05, clock)
    for events in (EVENTS_PER_SECOND, 2 * EVENTS_PER_SECOND, EVENTS_PER_SECOND):
        encode_interval.fall_behind(events)
        clock.now += 0.3
        assert not encode_interval.judge()("new")
    clock.now += 0.2
    assert encode_interval.judge()("new")
    encode_interval.fall_behind(0)
    encode_interval.fall_behind(EVENTS_PER_SECOND)
    assert not encode_interval.judge()("new")
    encode_interval.fall_behind(0)
    assert encode_interval.judge()("new")


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.floats(0, 2), st.integers(0, 10 * EVENTS_PER_SECOND)), max_size=50
    ),
    st.floats(0, 5),
)
def test_users_are_due_exactly_when_their_last_encode_or_the_fall_behind_is_an_interval_ago(
    encodes: list[tuple[int, float, int]], least_s: float
) -> None:
    clock = Clock()
    encode_interval, last = EncodeInterval(least_s, clock), dict[str, float]()
    behind_since = -1e9
    for number, pause_s, behind in encodes:
        clock.now += pause_s
        encode_interval.fall_behind(behind)
        if encode_interval.interval_s == least_s:
            behind_since = -1e9
        elif behind_since < 0:
            behind_since = clock.now
        is_due = encode_interval.judge()
        for user_id in map(str, range(6)):
            rested_s = clock.now - max(last.get(user_id, -1e9), behind_since)
            if abs(rested_s - encode_interval.interval_s) > 1e-6:
                assert is_due(user_id) == (rested_s > encode_interval.interval_s)
        encode_interval.note([str(number)])
        last[str(number)] = clock.now
    clock.now += max(LONGEST_S, least_s) + 0.001
    assert all(map(encode_interval.judge(), map(str, range(6))))
