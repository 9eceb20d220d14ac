"""A made-up log of many users with a heavy tail, and the windows that it must lead to.

Users and items are drawn by Zipf's law; some rows come late (out of time order), some come twice, and the log
is longer than a window's horizon: every rule of a window is in use.
"""

import numpy as np
from numpy.typing import NDArray

from models.events import event_hash
from models.log.behaviour_log import BehaviourLog, Column
from models.log.event_ids import EventIds
from models.windows.window import DAY_MS, Window, WindowSettings
from offline.synthetic.behaviour import EMPTY_GEOHASHES
from offline.synthetic.walk import zipf

FIRST_MS = 1_416_268_800_000  # 2014-11-18 00:00 UTC
SPAN_DAYS = 45
ITEMS, CATEGORIES = 20_000, 200
#: The busiest of 10,000 users has 3 % of the events, the busiest tenth 56 %.
USER_EXPONENT = 0.8
ITEM_EXPONENT = 0.9
#: Shares of rows that are late by up to an hour, and that repeat one of the thousand rows before.
LATE, REPEATED = 0.02, 0.01


def make_log(events: int, users: int, seed: int = 7, items: int = ITEMS) -> BehaviourLog:
    """Return a log in the order of arrival; equal arguments give equal rows."""
    random = np.random.default_rng(seed)
    item = zipf(random, np.full(events, items), ITEM_EXPONENT)
    late_ms = np.where(random.random(events) < LATE, random.integers(0, 3_600_000, events), 0)
    log = BehaviourLog(
        path="made up by bench",
        fingerprint=f"bench{seed}",
        precision_ms=1_000,
        user=_ids(142_455_899, users, zipf(random, np.full(events, users), USER_EXPONENT)),
        item=_ids(404_562_488, items, item),
        category=_ids(14_080, CATEGORIES, random.integers(0, CATEGORIES, items)[item]),
        geohash=_geohashes(random, events),
        behaviour=random.choice([1, 2, 3, 4], events, p=[0.9, 0.04, 0.04, 0.02]).astype(np.uint8),
        time_ms=FIRST_MS + 3_600_000 + np.arange(events) * (SPAN_DAYS * DAY_MS) // events - late_ms,
        line=np.arange(2, events + 2),
    )
    is_repeated = random.random(events) < REPEATED
    back = np.where(is_repeated, random.integers(1, 1_000, events), 0)
    return log.select(np.maximum(np.arange(events) - back, 0))


def distinct(log: BehaviourLog) -> BehaviourLog:
    """Return the rows in time order, each once: then each changes its user's vector, as `seq` can tell."""
    _, rows = np.unique(log.line, return_index=True)
    return log.select(np.sort(rows)).in_time_order()


def expected_windows(log: BehaviourLog, limits: WindowSettings) -> dict[str, Window]:
    """Return every user's window by its definition: each event once, ordered by (time, arrival), cut."""
    _, rows = np.unique(log.line, return_index=True)
    rows = rows[np.lexsort((rows, log.time_ms[rows], log.user.codes[rows]))]
    ends = np.flatnonzero(np.diff(log.user.codes[rows], append=-1)) + 1
    ids = EventIds(log)
    return {
        str(log.user.values[log.user.codes[of_user[0]]]): _window(log, ids, of_user, limits)
        for of_user in np.split(rows, ends[:-1])
    }


def _window(log: BehaviourLog, ids: EventIds, rows: NDArray[np.intp], limits: WindowSettings) -> Window:
    newest_ms = log.time_ms[rows[-1]]
    kept = rows[log.time_ms[rows] >= newest_ms - limits.horizon_ms][-limits.max_events :]
    return Window(
        times_ms=log.time_ms[kept].tolist(),
        behaviours=log.behaviour[kept].tolist(),
        item_ids=log.item.values[log.item.codes[kept]].tolist(),
        categories=log.category.values[log.category.codes[kept]].tolist(),
        event_hashes=[event_hash(event_id) for event_id in ids.of(kept)],
    )


def _ids(first: int, count: int, codes: NDArray[np.int64]) -> Column:
    values = np.array([str(first + 7 * place) for place in range(count)], dtype=object)
    return Column(codes.astype(np.int32), values)


def _geohashes(random: np.random.Generator, events: int) -> Column:
    values = np.array(["", *(f"9{place:05d}q" for place in range(1_000))], dtype=object)
    codes = np.where(random.random(events) < EMPTY_GEOHASHES, 0, random.integers(1, 1_001, events))
    return Column(codes.astype(np.int32), values)
