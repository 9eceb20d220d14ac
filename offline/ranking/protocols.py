"""What an evaluation asks: for each user a history and the item that came next."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from models.arrays import Flags, Ints
from models.errors import DataError
from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import FIRST_KNOWN
from models.log.behaviour_log import BehaviourLog
from models.windows.histories import Histories
from models.windows.log_histories import EVERYTHING, histories_of_log
from models.windows.window import WindowSettings

#: Rows of a user from which on a training that leaves rows out does so: of those with fewer, all are learned.
LEAST_ROWS = 3


@dataclass(frozen=True, slots=True)
class Cases:
    """B users with what their windows held and what came next.

    target (B,) place of the next item in the vocabulary's item_ids, -1 where it is not there; known: the log
    of all rows that a model may have seen, past: all its users' whole histories, asked (B,) the place of
    each user there; cold_start_users: how many had no history and are left out.
    """

    user_ids: list[str]
    histories: Histories
    target: Ints
    known: BehaviourLog
    past: Histories
    asked: Ints
    cold_start_users: int

    def take(self, users: Ints) -> "Cases":
        """Return the cases of these users (indices), in this order."""
        return replace(
            self,
            user_ids=[self.user_ids[user] for user in users],
            histories=self.histories.take(users),
            target=self.target[users],
            asked=self.asked[users],
        )

    def seen(self, users: Ints) -> tuple[Ints, Ints]:
        """Return (user, item) pairs: which known items (places in item_ids) each of these users ever had."""
        whole = self.past.take(self.asked[users])
        user = np.repeat(np.arange(len(users)), np.diff(whole.starts))
        is_known = whole.item >= FIRST_KNOWN
        return user[is_known], whole.item[is_known] - FIRST_KNOWN


def repeats(cases: Cases) -> npt.NDArray[np.bool_]:
    """Return whether the next item of each case (B,) is one that the user had before."""
    user, item = cases.seen(np.arange(len(cases.target)))
    is_repeat = np.zeros(len(cases.target), dtype=np.bool_)
    is_repeat[user[item == cases.target[user]]] = True
    return is_repeat


def without_repeats(cases: Cases) -> Cases:
    """Return the cases whose next item is not one that the user had before."""
    is_repeat = repeats(cases)
    if is_repeat.all():
        raise DataError(f"{cases.known.path}: every next item is one seen before: leave --exclude-seen out")
    return cases.take(np.flatnonzero(~is_repeat))


def cases_by_time(log: BehaviourLog, vocabulary: Vocabulary, window: WindowSettings, cutoff_ms: int) -> Cases:
    """Ask for each user's first event at or after `cutoff_ms`, given their window of events before it."""
    later = np.flatnonzero(log.time_ms >= cutoff_ms)
    order = later[np.lexsort((log.line[later], log.time_ms[later], log.user.codes[later]))]
    users = log.user.codes[order]
    first = order[np.append(True, users[1:] != users[:-1])] if len(order) else order
    return _cases(log, log.select(log.time_ms < cutoff_ms), first, vocabulary, window)


def cases_leave_one_out(
    log: BehaviourLog, vocabulary: Vocabulary, window: WindowSettings, last: Flags | None = None
) -> Cases:
    """Ask for users' last events, given their window of the events before it.

    last (R,): which rows these are; None: of each user, see `are_last`.
    """
    last = are_last(log) if last is None else last
    return _cases(log, log.select(~last), np.flatnonzero(last), vocabulary, window)


def are_last(log: BehaviourLog, least_rows: int = 1) -> Flags:
    """Return whether each row (R,) is the last of a user who has so many at least."""
    order = log.by_user()
    users = log.user.codes[order]
    ends = np.flatnonzero(np.append(users[1:] != users[:-1], True)[: len(order)])
    counts = np.diff(ends, prepend=-1)
    last = np.zeros(len(log), dtype=np.bool_)
    last[order[ends[counts >= least_rows]]] = True
    return last


def _cases(
    log: BehaviourLog, known: BehaviourLog, target_rows: Ints, vocabulary: Vocabulary, window: WindowSettings
) -> Cases:
    user_ids, histories = histories_of_log(known, vocabulary, window)
    _, past = histories_of_log(known, vocabulary, EVERYTHING)  # in the same order of users
    targets = log.select(target_rows)
    items = vocabulary.item_indices(targets.item.strings().tolist())
    next_item = dict(zip(targets.user.strings().tolist(), items.tolist(), strict=True))
    asked = np.flatnonzero([user_id in next_item for user_id in user_ids])
    if not len(asked):
        raise DataError(
            f"{log.path}: no user has events both before and after the cut, so nothing can be ranked"
        )
    asked_ids = [user_ids[user] for user in asked]
    target = np.array([next_item[user_id] for user_id in asked_ids], dtype=np.int64)
    return Cases(
        user_ids=asked_ids,
        histories=histories.take(asked),
        target=np.where(target >= FIRST_KNOWN, target - FIRST_KNOWN, -1),
        known=known,
        past=past,
        asked=asked,
        cold_start_users=len(next_item) - len(asked),
    )
