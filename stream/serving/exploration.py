"""A share of a list for items of which little is known: how many, which ones, and where in it; pure.

Needs neither torch nor Faust.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.arrays import Flags, Floats, Ints
from models.errors import SettingsError
from stream.serving.item_index import best

#: Little is known of this share of a model's own items, the least frequent, and of all that appeared since;
#: but not of what so many events were about of late, as the item learner counts them.
RARE_SHARE, RARE_EVENTS = 0.2, 25.0
#: For each item that is drawn so many are drawn from: those nearest to the user.
DRAWN_FROM = 10


class Shelf(NamedTuple):
    """Items as n rows: those of the model, the most frequent first, and then those that appeared since.

    vectors (n, D); categories (n,); is_there (n,) which rows are items that may be shown; popularity (n, 2)
    log(1 + events of late), None where nobody counts them; known: how many are the model's.
    """

    row_of: Mapping[str, int]
    vectors: Floats
    categories: npt.NDArray[np.object_]
    is_there: Flags
    popularity: Floats | None
    known: int


def random_of(seed: int | None, user_id: str) -> np.random.Generator:
    """Return what draws for a user: with a seed always the same, whoever is asked about beside."""
    return np.random.default_rng(None if seed is None else [seed, *user_id.encode()])


def explored_count(k: int, share: float, random: np.random.Generator) -> int:
    """Return how many of k items explore: k * share on average. Raises SettingsError for what is no share."""
    if not 0 <= share <= 1:
        raise SettingsError(f"explore is {share}; it must be a share of the list, from 0 to 1")
    whole = math.floor(k * share)
    return whole + int(random.random() < k * share - whole)


def drawn_rows(
    shelf: Shelf,
    taste: Floats,
    count: int,
    random: np.random.Generator,
    left_out: Collection[str],
    category: str | None,
) -> Ints:
    """Return so many rows of which little is known, by chance, more often those near to a user's taste (D,).

    Fewer where there are no more. Drawn is by a softmax, without replacement, among the nearest.
    """
    first, is_rare = _rare(shelf, left_out, category)
    places = np.flatnonzero(is_rare)
    near = (shelf.vectors[first:] @ taste)[places]
    nearest, nearness = best(near, DRAWN_FROM * count)
    spread = float(nearness.std()) if len(nearness) else 0.0
    noise = random.gumbel(size=len(nearness)).astype(np.float32)
    chances = nearness / (spread or 1.0) + noise  # whose greatest are a softmax's
    found: Ints = first + places[nearest[best(chances, count)[0]]]
    return found


def _rare(shelf: Shelf, left_out: Collection[str], category: str | None) -> tuple[int, Flags]:
    """Return the first row that may be rare, and which of those from there on are, and may be shown."""
    first = math.floor(shelf.known * (1 - RARE_SHARE))
    is_rare = shelf.is_there[first:].copy()
    if shelf.popularity is not None:
        is_rare &= shelf.popularity[first:].max(axis=1) <= math.log1p(RARE_EVENTS)
    if category is not None:
        is_rare &= np.asarray(shelf.categories[first:] == category, np.bool_)
    out = [row - first for item in left_out if (row := shelf.row_of.get(item, -1)) >= first]
    is_rare[out] = False
    return first, is_rare


def interleaved(others: Sequence[int], explored: Sequence[int], random: np.random.Generator) -> list[int]:
    """Return both as one list in which explored ones stand anywhere; each of the two keeps its order."""
    length = len(others) + len(explored)
    is_explored = np.zeros(length, np.bool_)
    is_explored[random.choice(length, len(explored), replace=False)] = True
    of_others, of_explored = iter(others), iter(explored)
    return [next(of_explored if each else of_others) for each in is_explored.tolist()]
