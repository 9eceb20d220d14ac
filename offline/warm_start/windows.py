"""A behaviour log -> the windows that folding all its rows would leave, without folding them one by one."""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from models.arrays import Ints
from models.events import event_hash
from models.log.behaviour_log import BehaviourLog
from models.log.event_ids import EventIds
from models.windows.log_histories import last_events
from models.windows.window import MAX_EDGE_HASHES, Window, WindowSettings

#: Users whose windows exist at once.
USERS_PER_PORTION = 1_000


def windows_of_log(
    log: BehaviourLog, settings: WindowSettings, users_per_portion: int = USERS_PER_PORTION
) -> Iterator[list[tuple[str, Window]]]:
    """Yield every user of a log with their window, some users at a time.

    Equal to folding the rows in time order, ties in the order of the file, through `models.windows.fold`,
    under the event ids that `replay` gives them. The windows come from no topic yet.
    """
    order, ids = log.by_user(), EventIds(log)
    users, times_ms = log.user.codes[order], log.time_ms[order]
    places, starts = last_events(np.arange(len(order)), users, times_ms, settings)
    first = np.flatnonzero(np.diff(users, prepend=-1))
    counts = np.diff(first, append=len(order))
    edges = _edges(times_ms, first, places[starts[:-1]])
    for begin in range(0, len(first), users_per_portion):
        portion = slice(begin, begin + users_per_portion)
        bounds = starts[begin : begin + users_per_portion + 1]
        rows = order[places[bounds[0] : bounds[-1]]]
        user_ids = log.user.values[users[first[portion]]].tolist()
        windows = _windows(log, ids, rows, bounds - bounds[0])
        for window, count, edge in zip(windows, counts[portion].tolist(), edges[portion], strict=True):
            window.applied = count
            window.edge_hashes = [event_hash(event_id) for event_id in ids.of(order[edge])]
        yield list(zip(user_ids, windows, strict=True))


def _edges(times_ms: Ints, first: Ints, oldest_kept: Ints) -> list[slice]:
    """Return, per user, the events that fell out of the window although as old as the oldest kept one."""
    edges = [slice(0, 0)] * len(first)
    for user in np.flatnonzero((oldest_kept > first) & (times_ms[oldest_kept - 1] == times_ms[oldest_kept])):
        begin, end = int(first[user]), int(oldest_kept[user])
        begin = bisect_left(times_ms, times_ms[end], begin, end)
        edges[user] = slice(max(begin, end - MAX_EDGE_HASHES), end)
    return edges


def _windows(log: BehaviourLog, ids: EventIds, rows: Ints, starts: Ints) -> list[Window]:
    """Return a window of each run of rows; run u is starts[u] to starts[u+1]."""
    times_ms, behaviours = log.time_ms[rows].tolist(), log.behaviour[rows].tolist()
    item_ids = log.item.values[log.item.codes[rows]].tolist()
    categories = log.category.values[log.category.codes[rows]].tolist()
    hashes = [event_hash(event_id) for event_id in ids.of(rows)]
    bounds = starts.tolist()
    return [
        Window(
            times_ms=times_ms[begin:end],
            behaviours=behaviours[begin:end],
            item_ids=item_ids[begin:end],
            categories=categories[begin:end],
            event_hashes=hashes[begin:end],
        )
        for begin, end in pairwise(bounds)
    ]
