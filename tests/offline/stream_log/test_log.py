"""Windows as a behaviour log: every event once, the same log in whatever order they were read."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import DataError
from models.log.behaviour_log import BehaviourLog
from models.windows.window import Window, WindowError, window_to_bytes
from offline.stream_log import log as stream_log
from offline.stream_log.changelog import Windows
from offline.stream_log.log import log_of_windows

SOURCE = "topic shop-windows-changelog"
HOUR_MS = 3_600_000

#: One event: time, behaviour, item, category.
Event = tuple[int, int, str, str]

events = st.tuples(
    st.integers(1, 2**41), st.integers(1, 4), st.text(min_size=1, max_size=3), st.text(max_size=2)
)
users = st.dictionaries(st.text(min_size=1, max_size=3), st.lists(events, max_size=5), min_size=1)


def value_of(of_user: list[Event], offset: int = 7) -> bytes:
    columns = [[*column] for column in zip(*of_user, strict=True)] or [[], [], [], []]
    times_ms, behaviours, item_ids, categories = columns
    return window_to_bytes(
        Window(
            topic_id="t",
            offset=offset,
            times_ms=times_ms,
            behaviours=behaviours,
            item_ids=item_ids,
            categories=categories,
            event_hashes=[*range(len(of_user))],
        )
    )


def windows_of(users: dict[str, list[Event]], offset: int = 7) -> Windows:
    """Return the windows of users, who are in partitions by the length of their id."""
    return {(len(user), user.encode()): value_of(sorted(of), offset) for user, of in users.items()}


def rows_of(log: BehaviourLog) -> list[tuple[str, Event]]:
    columns = (log.time_ms.tolist(), log.behaviour.tolist(), log.item.strings(), log.category.strings())
    return list(zip(log.user.strings(), zip(*columns, strict=True), strict=True))


@given(users.filter(lambda users: any(users.values())), st.sampled_from([1, 200, 1 << 24]))
def test_every_event_of_every_window_is_a_row_in_its_users_order(
    users: dict[str, list[Event]], portion_bytes: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_log, "PORTION_BYTES", portion_bytes)
        log = log_of_windows(windows_of(users), SOURCE)
    by_key = sorted(users, key=str.encode)
    assert rows_of(log) == [(user, event) for user in by_key for event in sorted(users[user])]
    assert log.line.tolist() == list(range(1, len(log) + 1))
    for column in (log.user, log.item, log.category, log.geohash):
        assert len(set(column.values)) == len(column.values)
        assert column.codes.dtype == np.int32
    assert set(log.geohash.strings()) == {""}
    assert log.partition is not None
    assert log.partition.tolist() == [len(user_id) for user_id in log.user.values]
    assert str(log.path) == SOURCE


def test_fingerprint_is_of_what_users_did_and_not_of_how_it_was_read() -> None:
    users: dict[str, list[Event]] = {f"u{n}": [(n * HOUR_MS, 1, f"i{n % 7}", "c")] for n in range(1, 50)}
    shuffled = list(windows_of(users).items())
    random.Random(1).shuffle(shuffled)
    log = log_of_windows(windows_of(users), SOURCE)
    again = log_of_windows(dict(shuffled), SOURCE)
    assert (again.fingerprint, rows_of(again)) == (log.fingerprint, rows_of(log))
    assert log_of_windows(windows_of(users, offset=9), SOURCE).fingerprint == log.fingerprint
    for other in ((HOUR_MS, 2, "i1", "c"), (HOUR_MS, 1, "i", "1c"), (2 * HOUR_MS, 1, "i1", "c")):
        changed = windows_of(users | {"u1": [other]})
        assert log_of_windows(changed, SOURCE).fingerprint != log.fingerprint
    others = windows_of({f"{user}x": of for user, of in users.items()})
    assert log_of_windows(others, SOURCE).fingerprint != log.fingerprint


def test_precision_is_found_as_for_a_file() -> None:
    hours = log_of_windows(windows_of({"a": [(HOUR_MS, 1, "i", "")]}), SOURCE)
    seconds = log_of_windows(windows_of({"a": [(HOUR_MS + 5_000, 1, "i", "")]}), SOURCE)
    assert (hours.precision_ms, seconds.precision_ms) == (HOUR_MS, 1_000)


def test_user_with_windows_in_two_partitions_is_one_user() -> None:
    windows = {(0, b"a"): value_of([(5, 1, "i", "c")]), (1, b"a"): value_of([(3, 1, "j", "c")])}
    log = log_of_windows(windows, SOURCE)
    assert log.user.values.tolist() == ["a"]
    assert log.time_ms[log.by_user()].tolist() == [3, 5]


def test_windows_without_an_event_are_no_log() -> None:
    for windows in ({}, windows_of({"a": []})):
        with pytest.raises(DataError, match=f"^{SOURCE}: no user has an event there yet; start a worker"):
            log_of_windows(windows, SOURCE)


def test_what_is_no_window_of_a_user_is_refused() -> None:
    good = value_of([(5, 1, "item", "c")])
    with pytest.raises(DataError, match=rf"{SOURCE}: a record's key, b'\\xff', is no user id"):
        log_of_windows({(0, b"\xff"): good}, SOURCE)
    with pytest.raises(DataError, match="key, b'', is no user id"):
        log_of_windows({(0, b""): good}, SOURCE)
    with pytest.raises(WindowError, match="format 7b"):
        log_of_windows({(0, b"a"): b"{}"}, SOURCE)
    with pytest.raises(WindowError, match="no UTF-8 text"):
        log_of_windows({(0, b"a"): good.replace(b"item", b"it\xffm")}, SOURCE)
    longer = good.replace(b"\x04\x00\x01\x00\x01item", b"\xff\xff\x01\x00\x01item")
    assert longer != good
    with pytest.raises(WindowError, match="do not add up"):
        log_of_windows({(0, b"a"): longer}, SOURCE)
