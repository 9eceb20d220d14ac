"""The histories of a behaviour log's users, as their windows would hold them."""

import numpy as np
import numpy.typing as npt

from models.arrays import Ints
from models.blocks import blocks_of, smallest_integer
from models.ids.vocabulary import Vocabulary
from models.log.behaviour_log import BehaviourLog
from models.windows.histories import Histories
from models.windows.window import WindowSettings

#: Settings that keep every event of a log.
EVERYTHING = WindowSettings(max_events=2**62, horizon_ms=2**62)


def histories_of_log(
    log: BehaviourLog,
    vocabulary: Vocabulary,
    settings: WindowSettings,
    until_ms: int | None = None,
    *,
    is_small: bool = False,
) -> tuple[list[str], Histories]:
    """Return the users of a log and what their windows hold after all its rows, or those before `until_ms`.

    Equal to folding the rows in time order, ties in the order of the file, through `models.windows.fold`:
    the last `max_events` that lie within `horizon_ms` of the user's newest. Users without a row are left out.
    is_small: items and categories are of the smallest integers that hold them.
    """
    rows = log.by_user()
    if until_ms is not None:
        rows = rows[log.time_ms[rows] < until_ms]
    rows, starts = last_events(rows, log.user.codes[rows], log.time_ms[rows], settings)
    user_ids = log.user.values[log.user.codes[rows[starts[:-1]]]].tolist()
    log.release()
    item_of = vocabulary.item_indices(log.item.values.tolist())
    category_of = vocabulary.category_indices(log.category.values.tolist())
    counts = vocabulary.item_count, vocabulary.category_count
    items, categories = (
        np.empty(len(rows), smallest_integer(count) if is_small else np.int64) for count in counts
    )
    for some in blocks_of(len(rows)):
        found = item_of[log.item.codes[rows[some]]]
        items[some] = found
        categories[some] = vocabulary.categories_of(found, category_of[log.category.codes[rows[some]]])
    log.release()
    histories = Histories(items, categories, log.behaviour[rows], log.time_ms[rows], starts)
    log.release()
    return user_ids, histories


def last_events(
    rows: Ints, users: npt.NDArray[np.int32], times_ms: Ints, settings: WindowSettings
) -> tuple[Ints, Ints]:
    """Return the rows that the window's rule keeps, and where each user starts in them.

    users, times_ms (R,) are those of the rows: one user after the other, each in time order.
    """
    is_first = np.ones(len(rows), dtype=np.bool_)
    np.not_equal(users[1:], users[:-1], out=is_first[1:])
    starts = np.flatnonzero(is_first)
    ends = np.append(starts, len(rows))[1:]
    longest_ms = (times_ms[ends - 1] - times_ms[starts]).max(initial=0)
    if (ends - starts).max(initial=0) <= settings.max_events and longest_ms <= settings.horizon_ms:
        return rows, np.append(starts, len(rows))
    user = np.cumsum(is_first) - 1
    keep = np.arange(len(rows)) >= (ends - min(settings.max_events, len(rows)))[user]
    keep &= times_ms >= (times_ms[ends - 1] - settings.horizon_ms)[user]
    counts = np.bincount(user[keep], minlength=len(starts))
    return rows[keep], np.concatenate(([0], np.cumsum(counts)))
