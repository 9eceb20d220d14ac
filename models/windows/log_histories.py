"""The histories of a behaviour log's users, as their windows would hold them."""

import numpy as np
import numpy.typing as npt

from models.arrays import Ints
from models.ids.vocabulary import Vocabulary
from models.log.behaviour_log import BehaviourLog
from models.windows.histories import Histories
from models.windows.window import WindowSettings

#: Settings that keep every event of a log.
EVERYTHING = WindowSettings(max_events=2**62, horizon_ms=2**62)


def histories_of_log(
    log: BehaviourLog, vocabulary: Vocabulary, settings: WindowSettings, until_ms: int | None = None
) -> tuple[list[str], Histories]:
    """Return the users of a log and what their windows hold after all its rows, or those before `until_ms`.

    Equal to folding the rows in time order, ties in the order of the file, through `models.windows.fold`:
    the last `max_events` that lie within `horizon_ms` of the user's newest. Users without a row are left out.
    """
    rows = log.by_user()
    if until_ms is not None:
        rows = rows[log.time_ms[rows] < until_ms]
    rows, starts = last_events(rows, log.user.codes[rows], log.time_ms[rows], settings)
    items = vocabulary.item_indices(log.item.values.tolist())[log.item.codes[rows]]
    categories = vocabulary.category_indices(log.category.values.tolist())[log.category.codes[rows]]
    user_ids = log.user.values[log.user.codes[rows[starts[:-1]]]].tolist()
    categories = vocabulary.categories_of(items, categories)
    return user_ids, Histories(items, categories, log.behaviour[rows], log.time_ms[rows], starts)


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
    user = np.cumsum(is_first) - 1
    keep = np.arange(len(rows)) >= (ends - min(settings.max_events, len(rows)))[user]
    keep &= times_ms >= (times_ms[ends - 1] - settings.horizon_ms)[user]
    counts = np.bincount(user[keep], minlength=len(starts))
    return rows[keep], np.concatenate(([0], np.cumsum(counts)))
