"""What the learner is compared with: rankers that count, learning from the stream as they go.

Each has variants, by a half-life or the like; the walk takes that which ranks best on its first part.
"""

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from models.arrays import Doubles
from models.log.times import HOUR_MS
from offline.stream_walk.counts import HALF_LIVES_MS, DecayedCounts
from offline.stream_walk.events import WalkedLog
from offline.stream_walk.walk import LAST_ITEMS, Case

#: Half-lives of transitions that are tried.
TRANSITION_HALF_LIVES_MS = (float(HOUR_MS), 24.0 * HOUR_MS, np.inf)
#: How much the item one place further back counts in transitions.
PLACE_WEIGHTS = (0.0, 0.5)
#: What is added to transitions before they are multiplied by popularity.
SPREADS = (0.01, 0.1, 1.0)
#: Transitions and neighbours held per item, the last ones.
HELD = 2_000


class Peer(Protocol):
    """A ranker of C items."""

    def learn(self, begin: int, end: int, lasts: Sequence[Sequence[int]]) -> None:
        """Learn rows, in time order; lasts: of each, its user's last items before it, newest first."""

    def scores(self, case: Case) -> Mapping[str, Doubles]:
        """Return the scores (C,) of each variant."""


class Popularity:
    """How often an item was had, an event half as much after every half-life."""

    def __init__(self, stream: WalkedLog) -> None:
        self._stream = stream
        self._counts = DecayedCounts(stream.item_count, HALF_LIVES_MS)
        self._asked: tuple[int, dict[str, Doubles]] = -1, {}

    def learn(self, begin: int, end: int, lasts: Sequence[Sequence[int]]) -> None:
        """Count rows."""
        rows = slice(begin, end)
        every = np.ones(end - begin, np.bool_)
        self._counts.add(self._stream.item[rows].astype(np.int64), self._stream.log.time_ms[rows], every)

    def scores(self, case: Case) -> Mapping[str, Doubles]:
        """Return the log of each item's count and 1, by half-life."""
        if self._asked[0] != case.row:
            logs = np.ascontiguousarray(self._counts.logs(case.time_ms).T)
            self._asked = case.row, {_text_of(each): logs[at] for at, each in enumerate(HALF_LIVES_MS)}
        return self._asked[1]


class HadLast:
    """What the user had last, newest first, and behind it what is popular."""

    def __init__(self, popularity: Popularity) -> None:
        self._popularity = popularity

    def learn(self, begin: int, end: int, lasts: Sequence[Sequence[int]]) -> None:
        """Do nothing: popularity learns by itself, and the case says the rest."""

    def scores(self, case: Case) -> Mapping[str, Doubles]:
        """Return the scores, by the half-life of popularity."""
        found = {}
        for name, logs in self._popularity.scores(case).items():
            scores = logs.copy()
            for back, item in reversed([*enumerate(case.last)]):
                scores[item] = 1e6 - back
            found[name] = scores
        return found


class Transitions:
    """How often an item came right after one of the user's last items; ties go by popularity."""

    def __init__(self, stream: WalkedLog, popularity: Popularity) -> None:
        self._stream, self._popularity = stream, popularity
        self._after: dict[int, deque[tuple[int, int]]] = defaultdict(lambda: deque(maxlen=HELD))
        self._asked: tuple[int, dict[str, Doubles]] = -1, {}

    def learn(self, begin: int, end: int, lasts: Sequence[Sequence[int]]) -> None:
        """Note what came after what."""
        times_ms = self._stream.log.time_ms[begin:end].tolist()
        rows = zip(self._stream.item[begin:end].tolist(), times_ms, strict=True)
        for (item, time_ms), last in zip(rows, lasts, strict=True):
            if last:
                self._after[last[0]].append((item, time_ms))

    def scores(self, case: Case) -> Mapping[str, Doubles]:
        """Return the counts, by half-life and by how many of the last items count."""
        ties = next(iter(self._popularity.scores(case).values())) * 1e-6
        return {name: counts + ties for name, counts in self.counts(case).items()}

    def counts(self, case: Case) -> dict[str, Doubles]:
        """Return the counts (C,) of each variant."""
        if self._asked[0] != case.row:
            self._asked = case.row, dict(self._counts(case))
        return self._asked[1]

    def _counts(self, case: Case) -> Iterator[tuple[str, Doubles]]:
        after = [np.array(self._after.get(item, ()), np.int64).reshape(-1, 2) for item in case.last]
        place = np.repeat(np.arange(len(after)), [len(each) for each in after])
        item, times_ms = np.concatenate([*after, np.zeros((0, 2), np.int64)]).T
        for half_life_ms in TRANSITION_HALF_LIVES_MS:
            age = np.exp2((times_ms - case.time_ms) / half_life_ms)
            for weight in PLACE_WEIGHTS:
                counts = np.bincount(item, age * weight**place, self._stream.item_count)
                yield f"{_text_of(half_life_ms)} {weight}", counts.astype(np.float64)


class TransitionsTimesPopularity:
    """The counts of both multiplied; where nothing followed, popularity decides."""

    def __init__(self, transitions: Transitions, popularity: Popularity) -> None:
        self._transitions, self._popularity = transitions, popularity

    def learn(self, begin: int, end: int, lasts: Sequence[Sequence[int]]) -> None:
        """Do nothing: both learn by themselves."""

    def scores(self, case: Case) -> Mapping[str, Doubles]:
        """Return the products, by what is added, and the variants of both."""
        popular = {name: np.expm1(logs) for name, logs in self._popularity.scores(case).items()}
        return {
            f"{name} {half_life} {spread}": (counts + spread) * popularity
            for name, counts in self._transitions.counts(case).items()
            for half_life, popularity in popular.items()
            for spread in SPREADS
        }


class ItemNeighbours:
    """Items that the same users had within ten events: the cosine to the user's last items, summed."""

    def __init__(self, stream: WalkedLog, popularity: Popularity) -> None:
        self._stream, self._popularity = stream, popularity
        self._near: dict[int, deque[int]] = defaultdict(lambda: deque(maxlen=HELD))
        self._had = np.zeros(stream.item_count)

    def learn(self, begin: int, end: int, lasts: Sequence[Sequence[int]]) -> None:
        """Note what was near what."""
        for item, last in zip(self._stream.item[begin:end].tolist(), lasts, strict=True):
            self._had[item] += 1
            for other in last:
                if other != item:
                    self._near[item].append(other)
                    self._near[other].append(item)

    def scores(self, case: Case) -> Mapping[str, Doubles]:
        """Return the sums, by whether all of the last items count or the newest alone."""
        ties = next(iter(self._popularity.scores(case).values())) * 1e-6
        return {f"last {count}": self._sums(case.last[:count]) + ties for count in (1, LAST_ITEMS)}

    def _sums(self, last: Sequence[int]) -> Doubles:
        sums = np.zeros(self._stream.item_count)
        for item in last:
            if self._near.get(item):
                together = np.bincount(np.array(self._near[item]), minlength=self._stream.item_count)
                sums += together / np.sqrt(self._had[item] * np.maximum(self._had, 1))
        return sums


def peers_of(stream: WalkedLog) -> dict[str, Peer]:
    """Return all peers, none of which has learned anything."""
    popularity = Popularity(stream)
    transitions = Transitions(stream, popularity)
    return {
        "popularity": popularity,
        "transitions": transitions,
        "transitions x popularity": TransitionsTimesPopularity(transitions, popularity),
        "item kNN": ItemNeighbours(stream, popularity),
        "had last": HadLast(popularity),
    }


def _text_of(half_life_ms: float) -> str:
    return f"{half_life_ms / HOUR_MS:.3g} h"
