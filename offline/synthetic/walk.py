"""The items that users of a made-up behaviour log walk through, one after another.

* An **item** has a place in its category's latent sequence. On a slot of interest a user looks again at the
  same item, walks on to the next places, or jumps to a popular item or to one seen before: the last item says
  most about the next one, and yesterday's items less. A slot's walk continues in the next session.
* **Popularity** is Zipf's, differs between tastes, and new items arrive every day and are popular at once.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.arrays import Doubles, Ints

#: How often a slot's walk jumps to a popular item, and how many of the jumps return to where one of the last
#: walks of the slot began.
JUMPS, RETURNS = 0.3, 0.4
#: How often a walk that does not jump moves by 0 places (the same item again), by 1, by 2, ...
STEP_SHARES = (0.36, 0.30, 0.14, 0.09, 0.06, 0.05)
#: Items that arrive during the month, and how many jumps go to those.
ARRIVING_ITEMS, ARRIVING_JUMPS = 0.3, 0.35
#: Of the other jumps, how many go to any item of the category, however rare.
RARE_JUMPS = 0.3


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Items by category: first those that were always there, by popularity, then arrivals, newest first."""

    start: Ints  # (C,) index of the category's first item
    evergreen: Ints  # (C,) how many were always there
    arriving: Ints  # (C,) how many arrive during the month

    @classmethod
    def of(cls, items: int, categories: int) -> "Catalogue":
        """Spread the items over the categories, two at least in each, more in the popular ones."""
        share = (np.arange(categories) + 5.0) ** -0.8
        size = 2 + np.floor(share / share.sum() * (items - 2 * categories)).astype(np.int64)
        size[0] += items - size.sum()
        arriving = (size * ARRIVING_ITEMS).astype(np.int64)
        return cls(np.cumsum(size) - size, size - arriving, arriving)


@dataclass(frozen=True, slots=True)
class Visits:
    """R events, or the jumps among them."""

    taste: Ints  # (R,) of the event's user
    thread: Ints  # (R,) one user's slot of interest
    category: Ints  # (R,) index
    when: Doubles  # (R,) how much of the month is over, in [0, 1)

    def select(self, rows: NDArray[np.int64]) -> "Visits":
        """Return the visits of these rows."""
        return Visits(self.taste[rows], self.thread[rows], self.category[rows], self.when[rows])


def zipf(random: np.random.Generator, sizes: Ints, exponent: float) -> Ints:
    """Draw a rank in [0, size) for each size, rank r with a weight of about (r + 1) ** -exponent."""
    power = 1 - exponent
    largest = (sizes + 1.0) ** power - 1
    rank = ((random.random(len(sizes)) * largest + 1) ** (1 / power) - 1).astype(np.int64)
    return np.minimum(rank, sizes - 1)


def walk(random: np.random.Generator, catalogue: Catalogue, visits: Visits) -> tuple[Ints, Ints]:
    """Return the item of each visit, and how often running its thread had shown that item before.

    The visits come by user and time; the walk goes along each thread.
    """
    order = np.argsort(visits.thread, kind="stable")
    visits = visits.select(order)
    step = random.choice(len(STEP_SHARES), len(order), p=STEP_SHARES)
    is_jump = random.random(len(order)) < JUMPS
    is_jump[0] = True
    is_jump[1:] |= (np.diff(visits.thread) != 0) | (np.diff(visits.category) != 0)
    walked = np.cumsum(np.where(is_jump, 0, step))
    jumps = np.flatnonzero(is_jump)
    anchor = _jump_places(random, catalogue, visits.select(jumps))
    leg = np.cumsum(is_jump) - 1
    place = _around(catalogue, visits.category, anchor[leg], anchor[leg] + walked - walked[jumps][leg])
    is_new = is_jump | (step > 0)
    item, repeats = np.empty_like(place), np.empty_like(place)
    item[order] = catalogue.start[visits.category] + place
    repeats[order] = _running_count(is_new)
    return item, repeats


def _jump_places(random: np.random.Generator, catalogue: Catalogue, jumps: Visits) -> Ints:
    """Return the place in its category of the item that each jump goes to."""
    evergreen, arriving = catalogue.evergreen[jumps.category], catalogue.arriving[jumps.category]
    shift = (jumps.taste * 7_919 + jumps.category * 104_729) % np.minimum(evergreen, 6)
    old = (zipf(random, evergreen, 1.1) + shift) % evergreen
    old = np.where(random.random(len(old)) < RARE_JUMPS, random.integers(0, evergreen), old)
    arrived = (arriving * jumps.when).astype(np.int64)
    new = evergreen + arriving - arrived + zipf(random, np.maximum(arrived, 1), 1.1)
    place = np.where((random.random(len(old)) < ARRIVING_JUMPS) & (arrived > 0), new, old)
    return _with_returns(random, place, jumps)


def _with_returns(random: np.random.Generator, place: Ints, jumps: Visits) -> Ints:
    """Return the places of the jumps, some replaced by that of an earlier jump of the same thread."""
    jump = np.arange(len(place))
    earlier = np.maximum(jump - random.geometric(0.4, len(place)), 0)
    returns = random.random(len(place)) < RETURNS
    returns &= jumps.thread[earlier] == jumps.thread
    returns &= jumps.category[earlier] == jumps.category
    return place[np.where(returns, earlier, jump)]


def _around(catalogue: Catalogue, category: Ints, anchor: Ints, place: Ints) -> Ints:
    """Return places that walked past the end of their part, brought round to items that are there already."""
    evergreen = catalogue.evergreen[category]
    size = evergreen + catalogue.arriving[category]
    past_end = np.where(place < size, place, (place - size) % evergreen)
    return np.where(anchor < evergreen, place % evergreen, past_end)


def _running_count(starts: NDArray[np.bool_]) -> Ints:
    """Return for each row how many rows lie between it and the last start."""
    rows = np.arange(len(starts))
    return rows - np.maximum.accumulate(np.where(starts, rows, 0))
