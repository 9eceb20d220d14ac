"""How fast a log's past loses its worth, found by what is held out: for popularity, and for taste.

Both are found by counting, which takes seconds where training with each half-life would take hours: which
decayed counts make the held-out rows most likely?
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.arrays import Doubles, Flags, Ints
from models.blocks import blocks_of
from models.ids.vocabulary_file import FIRST_KNOWN
from models.log.times import HOUR_MS
from models.windows.histories import Histories
from offline.training.popularity import present_ms, smoothed_share
from offline.training.settings import FOR_EVER, TrainSettings, hours_of

#: Half-lives that are tried (h), from an hour to for ever.
TRIED_H = (1.0, 4.0, 16.0, 64.0, 256.0, np.inf)
#: Weights of the log of popularity, and of popularity beside the counts of what followed, that are tried.
POPULARITY_WEIGHTS = (0.25, 0.5, 0.75, 1.0)
POPULARITY_COUNTS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
#: The longest half-life is taken that is no more than this behind the best (nats per row). It is more for
#: taste: vectors gain by more to learn from what counts do not.
POPULARITY_TOLERANCE, TASTE_TOLERANCE = 0.01, 0.05


@dataclass(frozen=True, slots=True)
class HalfLives:
    """After how many hours an event counts half: in an item's popularity, and as a target of the towers."""

    popularity_h: float
    taste_h: float

    def to_plain(self) -> dict[str, float | str]:
        """Return them as plain values, to be stored in an artifact."""
        return {name: FOR_EVER if np.isinf(hours) else hours for name, hours in asdict(self).items()}

    @classmethod
    def from_plain(cls, stored: Mapping[str, float | str]) -> "HalfLives":
        """Return those of `to_plain`."""
        return cls(**{name: np.inf if hours == FOR_EVER else float(hours) for name, hours in stored.items()})


def half_lives_of(
    settings: TrainSettings, histories: Histories, learned: Flags, held_out: Flags, item_count: int
) -> HalfLives:
    """Return the half-lives that are set, or else found: learned, held_out (E,) say which events are which.

    Leave-one-out knows no present, so there nothing ages.
    """
    popularity_h, taste_h = hours_of(settings.popularity_half_life_h), hours_of(settings.half_life_h)
    if settings.protocol == "leave-one-out":
        return HalfLives(popularity_h or np.inf, taste_h or np.inf)
    counting = _Counting(histories, learned, held_out, item_count)
    popularity_h = popularity_h or counting.popularity_half_life()
    return HalfLives(popularity_h, taste_h or counting.taste_half_life(popularity_h))


class _Counting:
    """Decayed counts of a log's learned events, and how likely they make the held-out ones."""

    def __init__(self, histories: Histories, learned: Flags, held_out: Flags, item_count: int) -> None:
        known = histories.item >= FIRST_KNOWN
        self._item, self._item_count = histories.item, item_count
        self._before = _before(histories)
        self._learned, asked = learned & known, held_out & known
        self._time_ms, self._now_ms = histories.time_ms, present_ms(histories.time_ms, self._learned)
        self._asked = histories.item[asked].astype(np.int64)
        self._asked_before = self._before[asked].astype(np.int64)
        pairs = self._pairs(self._asked_before, self._asked)
        self._asked_pairs, self._asked_pair = np.unique(pairs, return_inverse=True)
        self._pair = self._places()

    def _pairs(self, before: Ints, item: Ints) -> Ints:
        return before.astype(np.int64) * (FIRST_KNOWN + self._item_count) + item

    def _places(self) -> npt.NDArray[np.int32]:
        """Return which of the asked pairs each event (E,) makes with the one before; a last one for none."""
        pairs, found = self._asked_pairs, np.empty(len(self._item), np.int32)
        for some in blocks_of(len(found)):
            own = self._pairs(self._before[some], self._item[some])
            order = np.argsort(own)  # places of pairs that lie side by side are found faster
            own, place = own[order], np.empty(len(own), np.int64)
            near = np.minimum(np.searchsorted(pairs, own), len(pairs) - 1)
            place[order] = np.where(pairs[near] == own, near, len(pairs))
            found[some] = place
        return found

    def popularity_half_life(self) -> float:
        """Return the half-life (h) by which popularity tells best what the held-out events are."""

        def likelihood(half_life_h: float) -> float:
            share = self._share(half_life_h)
            own = np.log(share[self._asked - FIRST_KNOWN]).mean()
            return max(float(own * each - np.log((share**each).sum())) for each in POPULARITY_WEIGHTS)

        return _longest(likelihood, POPULARITY_TOLERANCE)

    def taste_half_life(self, popularity_h: float) -> float:
        """Return the half-life (h) by which what followed an item tells best what follows the next time."""
        share = self._share(popularity_h)[self._asked - FIRST_KNOWN]

        def likelihood(half_life_h: float) -> float:
            pairs = self._counts(self._pair, len(self._asked_pairs) + 1, half_life_h)[self._asked_pair]
            before = self._counts(self._before, self._item_count + FIRST_KNOWN, half_life_h)
            before = before[self._asked_before]
            found = [np.log((pairs + each * share) / (before + each)).mean() for each in POPULARITY_COUNTS]
            return float(max(found))

        return _longest(likelihood, TASTE_TOLERANCE)

    def _share(self, half_life_h: float) -> Doubles:
        counts = self._counts(self._item, self._item_count + FIRST_KNOWN, half_life_h)
        return smoothed_share(counts[FIRST_KNOWN:])

    def _counts(self, value: npt.NDArray[Any], count: int, half_life_h: float) -> Doubles:
        """Return how often each of so many values is that of a learned event (E,), by the events' ages."""
        counts = np.zeros(count)
        for some in blocks_of(len(value)):
            chosen = self._learned[some]
            age_h = np.maximum(self._now_ms - self._time_ms[some][chosen], 0) / HOUR_MS
            np.add.at(counts, value[some][chosen], np.exp2(-age_h / half_life_h))
        return counts


def _before(histories: Histories) -> Ints:
    """Return the item before each event (E,), 0 for a history's first."""
    before = np.empty_like(histories.item)
    before[1:] = histories.item[:-1]
    before[histories.starts[:-1][np.diff(histories.starts) > 0]] = 0
    return before


def _longest(likelihood: Callable[[float], float], tolerance: float) -> float:
    """Return the longest half-life (h) of TRIED_H whose likelihood is nearly the best."""
    found = {half_life_h: likelihood(half_life_h) for half_life_h in TRIED_H}
    return max(each for each, value in found.items() if value >= max(found.values()) - tolerance)
