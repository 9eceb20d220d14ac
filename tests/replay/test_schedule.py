import json
from collections import Counter, defaultdict

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import DataError, SettingsError
from models.events import Event
from models.log.behaviour_log import BehaviourLog, Column
from models.log.event_ids import EventIds
from replay import ordered_log
from replay.disturbances import HOT_USER, Disturbances, Mark
from replay.ordered_log import LogInMemory
from replay.pace import Pace
from replay.records import DEFECTS, Digest, Records, joined, spoil
from replay.run import rehearse
from replay.schedule import FOREVER, Schedule, ScheduleSettings, Spread
from replay.selection import Selection, Users

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
NOW_MS = 1_795_000_000_000
EVERYTHING = Disturbances(0.2, 1_000, 0.1, 9_000, 0.2, 1_000, 0.1, 0.1)


def log_of(time_ms: list[int], unit_ms: int = HOUR_MS, users: int = 5) -> BehaviourLog:
    """Return a log of rows with these times, in this order."""
    count = len(time_ms)
    random = np.random.default_rng(count)

    def column(prefix: str, values: int) -> Column:
        names = np.array([f"{prefix}{value}" for value in range(values)], dtype=object)
        return Column(random.integers(0, values, count).astype(np.int32), names)

    return BehaviourLog(
        path="made up",
        fingerprint="",
        precision_ms=unit_ms,
        user=column("u", users),
        item=column("i", 50),
        category=column("c", 5),
        geohash=column("", 1),
        behaviour=random.integers(1, 5, count).astype(np.uint8),
        time_ms=np.array(time_ms, dtype=np.int64),
        line=np.arange(count),
    )


def schedule_of(log: BehaviourLog, **settings: object) -> Schedule:
    return Schedule(LogInMemory(log), ScheduleSettings(**{"pace": Pace(1, 1), **settings}))  # type: ignore[arg-type]


def records_of(log: BehaviourLog, **settings: object) -> Records:
    return joined(list(schedule_of(log, **settings).blocks()))


def values_of(records: Records) -> list[dict[str, object]]:
    return [json.loads(value) for value in records.values]


HOURS = st.lists(st.integers(0, 40), min_size=1, max_size=120)
SPREADS = st.sampled_from(list(Spread))


def test_rows_of_an_hour_are_spread_evenly_over_it() -> None:
    log = log_of([hour * HOUR_MS for hour in (5, 5, 5, 5, 6, 6, 9)])
    assert (records_of(log).due_s / 3600).tolist() == [0, 0.25, 0.5, 0.75, 1, 1.5, 4]
    assert (records_of(log, spread=Spread.NONE).due_s / 3600).tolist() == [0, 0, 0, 0, 1, 1, 4]


def test_rows_of_a_second_are_spread_over_it_and_no_further() -> None:
    assert records_of(log_of([7_000, 7_000, 8_000, 60_000], 1_000)).due_s.tolist() == [0, 0.5, 1, 53]


@given(hours=HOURS, spread=SPREADS, seed=st.integers(0, 3))
def test_every_row_is_sent_once_in_order_and_within_its_hour(
    hours: list[int], spread: Spread, seed: int
) -> None:
    log = log_of([hour * HOUR_MS for hour in hours])
    records, ordered = records_of(log, spread=spread, seed=seed), log.in_time_order()
    assert [event["event_id"] for event in values_of(records)] == EventIds(ordered).of(slice(None))
    assert records.keys == [user.encode() for user in ordered.user.strings()]
    assert records.time_ms.tolist() == ordered.time_ms.tolist()
    assert (np.diff(records.due_s) >= 0).all()
    assert (np.floor(records.due_s / 3600 + 1e-9) == (ordered.time_ms - ordered.time_ms[0]) // HOUR_MS).all()


def test_uniform_spread_fills_the_hour_and_depends_on_the_seed() -> None:
    log = log_of([0] * 2_000)
    one, two = (records_of(log, spread=Spread.UNIFORM, seed=seed).due_s / 3600 for seed in (1, 2))
    assert np.histogram(one, 4, (0, 1))[0] == pytest.approx([500] * 4, rel=0.15)
    assert not np.array_equal(one, two)


@pytest.mark.parametrize("disturbances", [Disturbances(), EVERYTHING])
def test_a_log_in_many_parts_gives_what_it_gives_as_a_whole(
    disturbances: Disturbances, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(3)
    log = log_of((random.integers(0, 30, 400) * HOUR_MS).tolist())
    settings = {"disturbances": disturbances, "laps": 3, "spread": Spread.UNIFORM, "rebase_ms": NOW_MS}
    whole = records_of(log, **settings)
    monkeypatch.setattr(ordered_log, "CHUNK_ROWS", 37)
    monkeypatch.setattr("replay.schedule.BLOCK_RECORDS", 11)
    parts = records_of(log, **settings)
    assert (parts.keys, parts.values) == (whole.keys, whole.values)
    assert parts.due_s.tolist() == whole.due_s.tolist()
    assert len(list(LogInMemory(log).chunks())) > 5


@given(hours=HOURS, spread=SPREADS, seed=st.integers(0, 9))
def test_what_disturbances_do(hours: list[int], spread: Spread, seed: int) -> None:
    log = log_of([hour * HOUR_MS for hour in hours])
    plain = records_of(log, spread=spread, seed=seed)
    records = records_of(log, spread=spread, seed=seed, disturbances=EVERYTHING)
    due_s = dict(zip([event["event_id"] for event in values_of(plain)], plain.due_s, strict=True))
    assert (np.diff(records.due_s) >= 0).all()
    sent: Counter[str] = Counter()
    for key, value, marks, at_s in zip(
        records.keys, records.values, records.marks, records.due_s, strict=True
    ):
        if marks & Mark.MALFORMED:
            continue
        event = json.loads(value)
        assert key.decode() == event["user_id"]
        assert (key.decode() == HOT_USER) == bool(marks & Mark.HOT_USER)
        delay_s = at_s - due_s[event["event_id"]]
        if marks & Mark.DUPLICATE:
            assert 0 <= delay_s < 9_000 + 1_000 + 1e-6
            continue
        sent[event["event_id"]] += 1
        expected = (9_000, 9_000) if marks & Mark.LATE else (0, 1_000) if marks & Mark.DISORDERED else (0, 0)
        assert expected[0] - 1e-6 <= delay_s <= expected[1] + 1e-6
    assert sent == Counter(list(due_s))


@given(hours=HOURS, seed=st.integers(0, 9))
def test_without_disorder_a_users_events_keep_their_order_and_a_duplicate_follows_its_event(
    hours: list[int], seed: int
) -> None:
    log = log_of([hour * HOUR_MS for hour in hours])
    disturbances = Disturbances(duplicate=0.3, malformed=0.2, hot_user=0.2)
    records = records_of(log, seed=seed, disturbances=disturbances, spread=Spread.UNIFORM)
    ids = EventIds(log.in_time_order()).of(slice(None))
    row_of = {event_id: row for row, event_id in enumerate(ids)}
    firsts, seen = defaultdict(list), set()
    for key, value, marks in zip(records.keys, records.values, records.marks, strict=True):
        if marks & Mark.MALFORMED:
            continue
        event_id = json.loads(value)["event_id"]
        assert (event_id in seen) == bool(marks & Mark.DUPLICATE)
        seen.add(event_id)
        if not marks & Mark.DUPLICATE:
            firsts[key].append(row_of[event_id])
    assert all(rows == sorted(rows) for rows in firsts.values())


def test_shares_are_what_was_asked_for() -> None:
    report = rehearse(schedule_of(log_of([0] * 20_000), disturbances=EVERYTHING))
    shares = {name: number / 20_000 for name, number in report.counts.items()}
    expected = {"rows": 1, "disordered": 0.2, "late": 0.1, "duplicates": 0.2, "malformed": 0.1}
    assert {name: shares[name] for name in expected} == pytest.approx(expected, rel=0.1)


def test_malformed_records_are_of_every_kind_and_none_can_be_used() -> None:
    records = records_of(log_of([HOUR_MS] * 200), disturbances=Disturbances(malformed=1))
    pairs = {
        (key, value)
        for key, value, marks in zip(records.keys, records.values, records.marks, strict=True)
        if marks & Mark.MALFORMED
    }
    reasons: Counter[str] = Counter()
    for key, value in pairs:
        try:
            event = msgspec.json.decode(value, type=Event)
        except msgspec.DecodeError:
            reasons["unreadable"] += 1
            continue
        wrong = {
            "item": not event.item_id,
            "behaviour": event.behavior_type not in (1, 2, 3, 4),
            "time": event.time <= 0,
            "key": str(event.user_id).encode() != key,
        }
        reasons.update(name for name, is_so in wrong.items() if is_so)
        assert sum(wrong.values()) == 1
    assert len(reasons) == len(DEFECTS) == 5
    assert {spoil((b"u", records.values[0]), kind) for kind in range(5)} - {(b"u", records.values[0])}


@given(hours=HOURS, cut=st.integers(0, 120))
def test_digests_are_equal_where_records_are_and_only_there(hours: list[int], cut: int) -> None:
    log = log_of([hour * HOUR_MS for hour in hours])
    one, two = (rehearse(schedule_of(log, disturbances=EVERYTHING)).digest for _ in range(2))
    records = records_of(log, disturbances=EVERYTHING)
    by_parts = Digest()
    by_parts.add(records.part(slice(0, cut)))
    by_parts.add(records.part(slice(cut, None)))
    assert one == two == str(by_parts)
    other = records.values[0]
    for changed in (other + b" ", other[:-1]):
        records.values[0] = changed
        digest = Digest()
        digest.add(records)
        assert str(digest) != one


def test_another_seed_gives_another_digest() -> None:
    log = log_of([0] * 300)
    assert (
        len({rehearse(schedule_of(log, disturbances=EVERYTHING, seed=seed)).digest for seed in range(3)}) == 3
    )


@given(
    hours=HOURS,
    stray_years=st.integers(0, 5),
    speeds=st.tuples(*[st.sampled_from([0.2, 1.0, 3.0, 1e3])] * 2),
    ramp_s=st.sampled_from([0.0, 600.0, 1e5]),
    laps=st.integers(1, 3),
    rate_limit=st.sampled_from([0.01, np.inf]),
)
def test_events_that_are_moved_to_now_are_never_ahead_of_the_clock_and_no_older_than_they_must_be(
    hours: list[int],
    stray_years: int,
    speeds: tuple[float, float],
    ramp_s: float,
    laps: int,
    rate_limit: float,
) -> None:
    log = log_of([-stray_years * 365 * DAY_MS, *(hour * HOUR_MS for hour in hours)])
    pace = Pace(speeds[0], speeds[1] if ramp_s else speeds[0], ramp_s, rate_limit)
    records = records_of(log, pace=pace, rebase_ms=NOW_MS, laps=laps)
    ahead_ms = records.time_ms - (NOW_MS + records.due_s * 1_000)
    assert ahead_ms.max() <= 1e-3
    event_ms, time_ms = np.sort(log.time_ms), records.time_ms[: len(log)]
    assert np.diff(event_ms).tolist() == np.diff(time_ms).tolist()
    if not ramp_s and rate_limit == np.inf:
        assert ahead_ms.max() > -HOUR_MS - 1_000


def test_nobody_waits_for_years_without_events() -> None:
    years_ms = 5 * 365 * DAY_MS
    log = log_of([0, 0, years_ms, years_ms + HOUR_MS])
    assert records_of(log).due_s.tolist() == [0, 0.5, 1, 3_601]
    moved = records_of(log, rebase_ms=NOW_MS)
    assert moved.time_ms.tolist()[2:] == [NOW_MS + 1_000, NOW_MS + 1_000 + HOUR_MS]


def test_a_week_without_events_is_kept() -> None:
    assert records_of(log_of([0, 7 * DAY_MS])).due_s.tolist() == [0, 7 * 86_400]


def test_laps_are_new_events_that_come_later() -> None:
    log = log_of([hour * HOUR_MS for hour in (0, 0, 3)])
    records = records_of(log, laps=3)
    assert (records.due_s / 3_600).tolist() == [0, 0.5, 3, 4, 4.5, 7, 8, 8.5, 11]
    assert (records.time_ms // HOUR_MS).tolist() == [0, 0, 3, 4, 4, 7, 8, 8, 11]
    assert len({event["event_id"] for event in values_of(records)}) == 9
    endless = schedule_of(log, laps=FOREVER)
    assert endless.records_about is None
    blocks = endless.blocks()
    assert joined([next(blocks) for _ in range(3)]).values == records.values


def test_what_would_run_ahead_of_the_clock_for_ever_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"--loop without an end and --rebase-time at 2x"):
        ScheduleSettings(Pace(2, 2), laps=FOREVER, rebase_ms=0)
    ScheduleSettings(Pace(1, 1), laps=FOREVER, rebase_ms=0)


def chosen(log: BehaviourLog, selection: Selection) -> list[tuple[str, int]]:
    return [
        (str(user), int(time_ms) // HOUR_MS)
        for chunk in LogInMemory(log, selection).chunks()
        for user, time_ms in zip(
            chunk.log.user.strings()[chunk.first : chunk.end],
            chunk.log.time_ms[chunk.first : chunk.end],
            strict=True,
        )
    ]


def test_rows_are_chosen_by_time_user_and_number() -> None:
    log = log_of([hour * HOUR_MS for hour in range(50, 0, -1)])
    everything = chosen(log, Selection())
    assert [hour for _, hour in everything] == list(range(1, 51))
    assert chosen(log, Selection(10 * HOUR_MS, 20 * HOUR_MS)) == everything[9:19]
    theirs = [pair for pair in everything if pair[0] in ("u1", "u3")]
    assert chosen(log, Selection(users=Users.of("u1,u3,nobody"))) == theirs
    assert chosen(log, Selection(users=Users.of("u1,u3"), limit=4)) == theirs[:4]
    with pytest.raises(
        DataError, match=r"made up: no rows are chosen; the log covers 1970-01-01 01:00:00 to"
    ):
        chosen(log, Selection(users=Users.of("nobody")))


def test_a_share_of_users_is_always_the_same_ones() -> None:
    log = log_of([HOUR_MS] * 5_000, users=1_000)
    some = {user for user, _ in chosen(log, Selection(users=Users.of("20%")))}
    more = {user for user, _ in chosen(log, Selection(users=Users.of("40%")))}
    assert some < more
    assert len(some) == pytest.approx(200, rel=0.2)


def test_events_before_1970_are_refused_and_those_after_9999_have_a_name() -> None:
    log = log_of([-2 * DAY_MS, -DAY_MS])
    with pytest.raises(DataError, match="before 1970"):
        schedule_of(log)
    with pytest.raises(DataError, match="before 1970"):
        schedule_of(log_of([NOW_MS]), rebase_ms=-62_135_596_800_000)
    assert len(schedule_of(log, rebase_ms=NOW_MS).log.timeline.before_ms) == 0
    assert rehearse(schedule_of(log_of([253_402_300_799_000]), laps=2)).planned()["last_event"] == (
        "10000-01-01T00:59:59.000+00:00"
    )
