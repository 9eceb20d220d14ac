"""The walk: each row of a log in time order is learned by all, and the rows asked are ranked just before."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from models.arrays import Flags, Ints
from offline.stream_walk.events import WalkedLog

#: Last items of a user that rankers know.
LAST_ITEMS = 10


@dataclass(frozen=True, slots=True)
class Case:
    """What is asked: which item a row has.

    user: its code; last: that user's last items, newest first; is_ranked (C,): the items that exist, but for
    those that are left out.
    """

    row: int
    target: int
    user: int
    time_ms: int
    last: Sequence[int]
    is_ranked: Flags


class Ranker(Protocol):
    """What ranks C items, in one way or in several."""

    def learn(self, begin: int, end: int, lasts: Sequence[Sequence[int]]) -> None:
        """Learn rows, in time order; lasts: of each, its user's last items before it, newest first."""

    def ranks(self, case: Case) -> Mapping[str, int]:
        """Return the rank of the target by each way, MISSING where it cannot be ranked."""


class Walk:
    """What is known of the stream at a row, and which rows are asked (A,)."""

    def __init__(self, stream: WalkedLog, exclude_seen: bool) -> None:
        self._stream = stream
        self._last: dict[int, deque[int]] = {}
        self._seen: dict[int, set[int]] | None = {} if exclude_seen else None
        self._exists = np.zeros(stream.item_count, np.bool_)
        self._exists[stream.known_codes] = True

    def through(self, asked: Ints, rankers: Mapping[str, Ranker]) -> tuple[Ints, dict[str, dict[str, Ints]]]:
        """Go through the rows up to the last one asked.

        Returns those of the rows asked that were ranked (B,), and by ranker and way the ranks (B,).
        """
        at, rows = 0, []
        found: dict[str, dict[str, list[int]]] = {name: {} for name in rankers}
        for row in asked.tolist():
            lasts = self._pass(at, row)
            for ranker in rankers.values():
                ranker.learn(at, row, lasts)
            at = row
            if (case := self._case(row)) is None:
                continue
            rows.append(row)
            for name, ranker in rankers.items():
                for way, rank in ranker.ranks(case).items():
                    found[name].setdefault(way, []).append(rank)
        ranks = {
            name: {way: np.array(each, np.int64) for way, each in ways.items()}
            for name, ways in found.items()
        }
        return np.array(rows, np.int64), ranks

    def _pass(self, begin: int, end: int) -> list[Sequence[int]]:
        items, users = self._stream.item[begin:end], self._stream.user[begin:end]
        self._exists[items] = True
        lasts: list[Sequence[int]] = []
        for item, user in zip(items.tolist(), users.tolist(), strict=True):
            last = self._last.setdefault(user, deque(maxlen=LAST_ITEMS))
            lasts.append(tuple(last))
            last.appendleft(item)
            if self._seen is not None:
                self._seen.setdefault(user, set()).add(item)
        return lasts

    def _case(self, row: int) -> Case | None:
        """Return what is asked at a row; None where its user had the item, and that is left out."""
        user, target = int(self._stream.user[row]), int(self._stream.item[row])
        is_ranked = self._exists.copy()
        if self._seen is not None:
            seen = self._seen.get(user, set())
            if target in seen:
                return None
            is_ranked[list(seen)] = False
        time_ms = int(self._stream.log.time_ms[row])
        return Case(row, target, user, time_ms, tuple(self._last.get(user, ())), is_ranked)
