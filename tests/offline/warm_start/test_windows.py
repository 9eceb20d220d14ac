"""Windows of a whole log at once are those that folding its rows one by one leaves."""

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.events import Event, event_hash
from models.log.behaviour_log import BehaviourLog, Column
from models.windows.reference import IncomingEvent, fold
from models.windows.window import Window, WindowSettings
from offline.warm_start.windows import windows_of_log
from replay.source import MessageSource

#: user, item, behaviour, time (ms); few values, so that times tie and horizons cut.
ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(1, 4), st.integers(1, 30)),
    min_size=1,
    max_size=80,
)
LIMITS = WindowSettings(max_events=5, horizon_ms=12)


def log_of(rows: list[tuple[int, int, int, int]]) -> BehaviourLog:
    users, items, behaviours, times_ms = (np.array(column) for column in zip(*rows, strict=True))
    nothing = Column(np.zeros(len(rows), np.int32), np.array([""], dtype=object))
    return BehaviourLog(
        path="rows.csv",
        fingerprint="abc",
        precision_ms=1,
        user=Column(users.astype(np.int32), np.array(["u0", "u1", "ü2", "u3"], dtype=object)),
        item=Column(items.astype(np.int32), np.array(["i0", "i1", "i2", "i3", "i4"], dtype=object)),
        category=nothing,
        geohash=nothing,
        behaviour=behaviours.astype(np.uint8),
        time_ms=times_ms.astype(np.int64),
        line=np.arange(2, len(rows) + 2),
    )


def folded(log: BehaviourLog) -> dict[str, Window]:
    """Return every user's window by folding what replay would send, event by event."""
    windows: dict[str, Window] = {}
    ordered = log.in_time_order()
    for offset, (_, value, _) in enumerate(MessageSource(ordered).messages(slice(0, len(log)))):
        event = msgspec.json.decode(value, type=Event)
        window = windows.setdefault(str(event.user_id), Window())
        incoming = IncomingEvent(
            *(offset, event.time, event.behavior_type),
            *(str(event.item_id), str(event.item_category), event_hash(str(event.event_id))),
        )
        assert fold(window, incoming, "", -1, LIMITS) == "applied"
        window.offset = -1
    return windows


@settings(deadline=None)
@given(ROWS, st.integers(1, 5))
def test_all_at_once_equals_one_by_one(rows: list[tuple[int, int, int, int]], users_per_portion: int) -> None:
    log = log_of(rows)
    portions = list(windows_of_log(log, LIMITS, users_per_portion))
    assert max(len(portion) for portion in portions) <= users_per_portion
    found = dict(user for portion in portions for user in portion)
    assert found == folded(log)


def test_row_that_comes_again_as_an_event_is_a_duplicate() -> None:
    log = log_of([(0, item, 1, 20 + item) for item in range(4)])
    ((_, window),) = next(iter(windows_of_log(log, LIMITS)))
    for offset, (_, value, _) in enumerate(MessageSource(log).messages(slice(0, 4))):
        event_id = msgspec.json.decode(value)["event_id"]
        event = IncomingEvent(offset, 20 + offset, 1, f"i{offset}", "", event_hash(event_id))
        assert fold(window, event, "t", 0, LIMITS) == "duplicate"
