"""How fast a log's past loses its worth, found by what is held out: for popularity, and for taste.

Both are found by counting, which takes seconds where training with each half-life would take hours: which
decayed counts make the held-out rows most likely?
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np

from models.arrays import Doubles, Flags, Ints
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
        item, known = histories.item, histories.item >= FIRST_KNOWN
        before = np.concatenate(([0], item[:-1]))  # (E,) the item before; 0 for a history's first
        before[histories.starts[:-1][np.diff(histories.starts) > 0]] = 0
        self._item_count = item_count
        self._item, self._before = item[known & learned] - FIRST_KNOWN, before[known & learned]
        times_ms = histories.time_ms[known & learned]
        self._age_h = np.maximum(present_ms(times_ms) - times_ms, 0) / HOUR_MS
        self._asked, self._asked_before = item[known & held_out] - FIRST_KNOWN, before[known & held_out]
        pairs, self._pair = np.unique(self._pairs(self._before, self._item), return_inverse=True)
        asked = self._pairs(self._asked_before, self._asked)
        place = np.minimum(np.searchsorted(pairs, asked), len(pairs) - 1)
        self._asked_pair = np.where(pairs[place] == asked, place, len(pairs))
        self._pair_count = len(pairs)

    def _pairs(self, before: Ints, item: Ints) -> Ints:
        return before * self._item_count + item

    def popularity_half_life(self) -> float:
        """Return the half-life (h) by which popularity tells best what the held-out events are."""

        def likelihood(half_life_h: float) -> float:
            share = self._share(half_life_h)
            own = np.log(share[self._asked]).mean()
            return max(float(own * each - np.log((share**each).sum())) for each in POPULARITY_WEIGHTS)

        return _longest(likelihood, POPULARITY_TOLERANCE)

    def taste_half_life(self, popularity_h: float) -> float:
        """Return the half-life (h) by which what followed an item tells best what follows the next time."""
        share = self._share(popularity_h)[self._asked]

        def likelihood(half_life_h: float) -> float:
            weight = np.exp2(-self._age_h / half_life_h)
            pairs = np.bincount(self._pair, weight, self._pair_count + 1)[self._asked_pair]
            before = np.bincount(self._before, weight, self._item_count + FIRST_KNOWN)[self._asked_before]
            found = [np.log((pairs + each * share) / (before + each)).mean() for each in POPULARITY_COUNTS]
            return float(max(found))

        return _longest(likelihood, TASTE_TOLERANCE)

    def _share(self, half_life_h: float) -> Doubles:
        weight = np.exp2(-self._age_h / half_life_h)
        return smoothed_share(np.bincount(self._item, weight, self._item_count).astype(np.float64))


def _longest(likelihood: Callable[[float], float], tolerance: float) -> float:
    """Return the longest half-life (h) of TRIED_H whose likelihood is nearly the best."""
    found = {half_life_h: likelihood(half_life_h) for half_life_h in TRIED_H}
    return max(each for each, value in found.items() if value >= max(found.values()) - tolerance)
