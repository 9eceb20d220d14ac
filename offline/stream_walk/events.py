"""A log as a stream: its rows in time order, the items of log and model together, which rows are asked."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.arrays import Ints, Words
from models.artifact.artifact import Artifact
from models.ids.hashes import hashes_of
from models.ids.texts import texts_of
from models.log.behaviour_log import BehaviourLog
from models.windows.fold import EventColumns


@dataclass(frozen=True, slots=True)
class WalkedLog:
    """R rows in time order, and C items: those of the log, and those of the model that it does not have.

    item, user (R,) codes; hashes (C,) of the items; sorted_hashes, sorted_codes (C,): to find them by
    it; known_codes (I,) the model's; first_row (C,) the row where an item first occurs, R for none.
    """

    log: BehaviourLog
    item: npt.NDArray[np.int32]
    user: npt.NDArray[np.int32]
    hashes: Words
    sorted_hashes: Words
    sorted_codes: Ints
    known_codes: Ints
    first_row: Ints

    def __len__(self) -> int:
        return len(self.item)

    @property
    def item_count(self) -> int:
        """C."""
        return len(self.first_row)

    def codes_of(self, hashes: Words) -> Ints:
        """Return the code of each item (n,) by its hash."""
        codes: Ints = self.sorted_codes[np.searchsorted(self.sorted_hashes, hashes)]
        return codes

    def columns(self, begin: int, end: int) -> tuple[list[str], EventColumns]:
        """Return rows as the stream's reader would."""
        rows, log = np.arange(begin, end), self.log
        users, number = np.unique(self.user[begin:end], return_inverse=True)
        return log.user.values[users].tolist(), EventColumns(
            user=number.astype(np.int64),
            offset=rows,
            time_ms=log.time_ms[begin:end],
            behaviour=log.behaviour[begin:end],
            event_hash=rows,
            item=texts_of(log.item.values[self.item[begin:end]].tolist()),
            category=texts_of(log.category.values[log.category.codes[begin:end]].tolist()),
        )


def walked(log: BehaviourLog, artifact: Artifact) -> WalkedLog:
    """Return a log as a stream, beside a model."""
    log = log.in_time_order()
    in_log = {item_id: code for code, item_id in enumerate(log.item.values.tolist())}
    ids = [*in_log, *(item_id for item_id in artifact.item_ids if item_id not in in_log)]
    codes = {item_id: code for code, item_id in enumerate(ids)}
    hashes = hashes_of(texts_of(ids))
    order = np.argsort(hashes)
    first_row = np.full(len(ids), len(log))
    first_row[log.item.codes[::-1]] = np.arange(len(log))[::-1]
    known = np.array([codes[item_id] for item_id in artifact.item_ids])
    return WalkedLog(log, log.item.codes, log.user.codes, hashes, hashes[order], order, known, first_row)


def sampled(rows: Ints, count: int, seed: int) -> Ints:
    """Return `count` of these rows, or all where there are fewer, in their order."""
    if len(rows) <= count:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, count, replace=False))
