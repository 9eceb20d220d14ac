"""Windows in the changelog against the topic: what is right, what is wrong, and what nobody can tell."""

import pytest

from local.proof.findings import Apart
from models.windows.window import window_from_bytes, window_to_bytes
from offline.warm_start.state import BOOTSTRAP_HEADER
from tests.local.proof.world import Record, World, event, forget

TIMES = [5_000, 5_100, 5_050, 5_100, 5_200, 5_300]


def some_events() -> list[Record]:
    """Return two users' events in turn, one of them a duplicate, one unreadable."""
    records = [event(offset, "uv"[offset % 2], time) for offset, time in enumerate(TIMES)]
    records.append(event(6, "u", 5_300, event_id="twice"))
    records.append(event(7, "u", 5_400, event_id="twice"))
    records.append(Record(b"u", b"no json", 8))
    return records


def test_what_a_worker_makes_is_right_and_all_is_accounted_for() -> None:
    world = World(some_events())
    world.store(world.worker(9))
    check = world.check()
    assert (world.findings.complaint, world.findings.apart, check.agreeing) == ("", {}, 2)
    assert (check.events, check.applied, check.duplicate, check.late) == (8, 7, 1, 0)
    assert world.expected.unreadable() == [(0, 8)]


def test_no_category_is_the_empty_text_on_both_sides() -> None:
    world = World([event(0, item_category=None), event(1, item_category=None)])
    world.store(world.worker(2))
    world.check()
    assert world.findings.complaint == ""
    assert window_from_bytes(world.stored.values[b"u"]).categories == ["", ""]


@pytest.mark.parametrize("known", [5, 6, 7, 9])
def test_windows_may_be_ahead_of_what_is_committed_by_any_number_of_events(known: int) -> None:
    world = World(some_events(), committed=5)
    world.store(world.worker(known))
    check = world.check()
    assert (world.findings.complaint, check.agreeing) == ("", 2)
    assert check.events == 5


def test_window_that_does_not_know_a_committed_event_is_wrong() -> None:
    world = World(some_events())
    world.store(world.worker(6))
    check = world.check()
    assert world.findings.complaint == (
        "user 'u': 3 of 5 events are accounted for in the window in the changelog: it knows them up to "
        "offset 4, the user's last is at 7 of partition 0"
    )
    assert check.applied + check.duplicate == check.events - 2


def test_window_that_counts_an_event_too_few_or_holds_another_item_is_wrong() -> None:
    for change, said in (
        ({"applied": 3}, "user 'u': 4 of 5 events are accounted for in the window in the changelog"),
        ({"item_ids": ["x", "y", "z", "z"]}, "user 'u': wrong in the window in the changelog: items"),
    ):
        world = World(some_events())
        windows = world.worker(9)
        window = window_from_bytes(windows[b"u"])
        for name, value in change.items():
            setattr(window, name, value)
        world.store(windows | {b"u": window_to_bytes(window)})
        world.check()
        assert world.findings.complaint.startswith(said)


def test_window_that_knows_an_event_which_is_not_on_the_topic_is_wrong() -> None:
    world = World(some_events()[:6])
    world.records = [*world.records[:4], event(4, "u", 5_210), *world.records[5:]]
    world.store(world.worker(6))
    world.check()
    assert "user 'u': wrong in the window in the changelog: times of events" in world.findings.complaint


def test_user_without_a_window_is_named_and_the_others_are_counted() -> None:
    world = World(some_events())
    world.check()
    assert world.findings.complaint == "user 'u': the changelog has no window (1 more differ)"


def test_window_of_a_user_who_is_not_on_the_topic_is_wrong_unless_it_is_newer_than_what_was_read() -> None:
    world = World(some_events(), committed=5)
    windows = world.worker(5)
    later = World([*some_events()[:5], event(5, "new")])
    world.store(windows | {b"new": later.worker(6)[b"new"]})
    world.check()
    assert world.findings.complaint == ""
    world = World(some_events())
    world.store(world.worker(9) | {b"stranger": windows[b"u"]})
    world.check()
    assert world.findings.complaint == ("user 'stranger': the changelog has a window, the topic has no event")


def test_forgotten_user_has_no_window_and_who_comes_back_a_new_one() -> None:
    records = [event(0), event(1), forget(2), event(3, "v")]
    world = World(records)
    world.store(world.worker(4))
    check = world.check()
    assert (world.findings.complaint, check.events, check.applied) == ("", 3, 3)
    world = World(records)
    world.store(world.worker(2) | {b"v": world.worker(4)[b"v"]})
    world.check()
    assert world.findings.complaint == "user 'u': was forgotten at offset 2, and the changelog has a window"
    world = World([*records, event(4)])
    world.store(world.worker(5))
    check = world.check()
    assert (world.findings.complaint, check.events, check.applied) == ("", 4, 4)


def test_user_who_is_forgotten_while_the_topic_is_read_may_be_gone() -> None:
    world = World([event(0), event(1), forget(2)], committed=2)
    world.check()
    assert (world.findings.complaint, world.findings.apart) == ("", {Apart.DROPPED: 1})


def test_log_that_was_cut_off_sets_apart_who_began_before_and_finds_what_is_wrong_with_the_rest() -> None:
    records = [event(0), event(1), event(2), event(3, "v"), event(4, "v")]
    world = World(records, first=2)
    windows = world.worker(5)
    world.store(windows)
    check = world.check()
    assert (world.findings.complaint, check.agreeing) == ("", 1)
    assert world.findings.apart == {Apart.BEGAN_BEFORE: 1}
    world = World(records, first=2)
    world.store({b"u": windows[b"u"], b"v": world.worker(4)[b"v"]})
    world.check()
    assert world.findings.complaint.startswith("user 'v': 1 of 2 events are accounted for")


def test_window_that_holds_the_log_s_events_alone_is_right_whatever_came_before() -> None:
    world = World([event(offset, time=5_000 + offset) for offset in range(8)], first=2)
    world.store(world.worker(8))
    check = world.check()
    assert (world.findings.complaint, world.findings.apart, check.agreeing) == ("", {}, 1)


def test_users_of_a_bootstrap_are_set_apart() -> None:
    world = World([event(0, "u"), event(1, "v")])
    before = World([event(offset, "u", 4_900) for offset in range(3)]).worker(3)[b"u"]
    window = window_from_bytes(before)
    window.offset = 0  # as a bootstrap writes it: the events before offset 1 are those of the file
    header = ((BOOTSTRAP_HEADER, b"1"),)
    world.stored.read(Record(b"u", window_to_bytes(window), 0, 0, header))
    world.store({b"v": world.worker(2)[b"v"]})
    check = world.check()
    assert (world.findings.complaint, check.agreeing) == ("", 1)
    assert world.findings.apart == {Apart.BEGAN_BEFORE: 1}


def test_user_who_was_not_seen_for_a_horizon_may_be_gone_and_come_back() -> None:
    records = [event(0, time=1_000), event(1, time=1_001), event(2, "v", 9_000)]
    world = World(records)
    world.store({b"v": world.worker(3)[b"v"]})
    world.check()
    assert (world.findings.complaint, world.findings.apart) == ("", {Apart.DROPPED: 1})
    for swept in (True, False):
        world = World([*records, event(3, time=9_500)])
        whole = world.worker(4)
        world.store(whole | {b"u": world.worker(4, first=3)[b"u"]} if swept else whole)
        check = world.check()
        assert (world.findings.complaint, world.findings.apart, check.agreeing) == ("", {}, 2)


def test_late_event_after_a_possible_sweep_leaves_no_telling_and_a_new_beginning_ends_that() -> None:
    records = [event(0, time=1_000), event(1, "v", 9_000), event(2, time=1_500)]
    for swept, agreeing in ((True, 1), (False, 2)):
        world = World(records)
        whole = world.worker(3)
        world.store(whole | {b"u": world.worker(3, first=2)[b"u"]} if swept else whole)
        assert (world.check().agreeing, world.findings.complaint) == (agreeing, "")
    world = World([*records, event(3, time=9_000)])
    altered = window_from_bytes(world.worker(4)[b"u"])
    altered.item_ids = ["x"]
    world.store(world.worker(4) | {b"u": window_to_bytes(altered)})
    world.check()
    assert world.findings.complaint == "user 'u': wrong in the window in the changelog: items"


def test_user_on_two_partitions_is_set_apart() -> None:
    world = World([event(0), event(1)])
    world.expected.read_committed([event(0, partition=1)], 10_000_000)
    world.store(world.worker(2))
    world.check()
    assert (world.findings.complaint, world.findings.apart) == ("", {Apart.SPLIT: 1})


def test_event_that_was_too_far_ahead_for_the_worker_stays_out_although_its_time_has_come() -> None:
    world = World([event(0)])
    world.expected._too_early = {(0, 1)}
    world.expected.read_committed([event(1)], 10_000_000)
    world.store(world.worker(1))
    world.check()
    assert world.findings.complaint == ""
    assert world.expected.unreadable() == [(0, 1)]


def test_sample_checks_its_own_users_and_no_other() -> None:
    records = [event(offset, f"u{offset % 50}", 5_000 + offset) for offset in range(200)]
    world = World(records, sample=5)
    windows = world.worker(200)
    checked = set(world.expected.users)
    assert len(checked) == 5
    world.store({key: value for key, value in windows.items() if key in checked})  # nobody else has one
    check = world.check()
    assert (world.findings.complaint, check.agreeing, check.events) == ("", 5, 20)
    assert set(world.stored.values) == checked


def test_changelog_of_an_earlier_topic_sets_apart_whose_window_holds_more() -> None:
    world = World([event(0), event(1, "v")])
    windows = world.worker(2)
    older = window_from_bytes(windows[b"u"])
    older.topic_id, older.applied = "another", 7
    world.store({b"gone": window_to_bytes(older)})
    mixed = window_from_bytes(windows[b"u"])
    mixed.applied, mixed.item_ids = 8, ["x"]
    world.store(windows | {b"u": window_to_bytes(mixed)})
    check = world.check()
    assert (world.findings.complaint, check.agreeing) == ("", 1)
    assert world.findings.apart == {Apart.BEGAN_BEFORE: 1}
