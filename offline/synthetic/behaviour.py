"""A made-up behaviour log with structure worth learning, as columns; `offline.sample` writes it.

How the rows come about, so that one knows what a model can find:

* A **user** has a taste and a few slots of interest, each a category; a slot changes to another category now
  and then over the month (drift). Users of one taste like the same categories and the same items in them.
* A **session** is a burst of events, seconds to minutes apart, mostly on one slot.
* The **items** of a slot follow each other as `synthetic_walk` says: the last one predicts the next.
* A **buy, cart or favourite** mostly comes after repeated views of the item, and more on 12 December.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.arrays import Doubles, Ints
from models.errors import SettingsError
from offline.synthetic.walk import Catalogue, Visits, walk, zipf

FIRST_SECOND = 1_416_268_800  # 2014-11-18 00:00 UTC
DAYS = 31
DAY_S = 86_400
MONTH_S = DAYS * DAY_S
SALE_DAY = 24  # 12 December, counted from 18 November

#: Rows of each behaviour in Tianchi's 12,256,906.
TIANCHI_ROWS = 12_256_906
TIANCHI_BEHAVIOURS = {4: 120_205, 3: 343_564, 2: 242_556}
#: Relative activity of the hours 0 to 23.
DAILY_RHYTHM = (5, 3, 2, 1, 1, 1, 2, 3, 4, 5, 5, 5, 5, 5, 5, 5, 5, 4, 5, 7, 9, 10, 10, 8)
SALE_DAY_ACTIVITY = 2.0
EMPTY_GEOHASHES = 0.68
GEOHASH_ALPHABET = np.array(list("0123456789bcdefghjkmnpqrstuvwxyz"))

#: A longer log is made in blocks of about so many rows, each of its own users, all of the same items.
BLOCK_ROWS = 1 << 24

MEAN_SESSION_EVENTS = 10
TASTES = 12
#: How often a session is about the user's first, second, ... interest; the last one is any category.
SLOT_SHARES = (0.34, 0.22, 0.15, 0.11, 0.10, 0.08)
#: Events of a session that stray to another slot.
STRAY = 0.06
#: The month is cut into this many periods; at each a slot changes to another category with this probability.
PERIODS, DRIFT = 10, 0.15


@dataclass(frozen=True, slots=True)
class SampleSettings:
    """How large the log is, and the seed that makes it the same each time."""

    #: Users, each with at least one row.
    users: int = 2_000
    #: Rows.
    rows: int = 200_000
    #: Seed of all randomness.
    seed: int = 7

    def __post_init__(self) -> None:
        if self.users < 1:
            raise SettingsError(f"--users is {self.users}; it must be at least 1")
        if self.rows < self.users:
            raise SettingsError(f"--rows is {self.rows}; it must be at least --users, {self.users}")
        if self.seed < 0:
            raise SettingsError(f"--seed is {self.seed}; it must not be negative")

    @property
    def items(self) -> int:
        """Return how many items exist: 4,000 at 200,000 rows; at Tianchi's size 2.8 million occur."""
        return max(20, round(self._growing_rows / 50 * math.pow(self._growth, 0.88)))

    @property
    def categories(self) -> int:
        """Return how many categories there are: 40 at 200,000 rows, 8,916 at Tianchi's size."""
        return max(3, round(self._growing_rows / 5_000 * math.pow(self._growth, 0.3137)))

    @property
    def _growth(self) -> float:
        return max(1.0, self._growing_rows / 200_000)

    @property
    def _growing_rows(self) -> int:
        """Rows up to which there are more items with more of them."""
        return min(self.rows, BLOCK_ROWS)


@dataclass(frozen=True, slots=True)
class SampleRows:
    """The R rows of a made-up log, in the order of the file."""

    user_id: Ints
    item_id: Ints
    behaviour: NDArray[np.uint8]
    #: (R,) index into `geohashes`, whose first is the empty one.
    geohash: NDArray[np.int32]
    geohashes: list[str]
    category_id: Ints
    #: Epoch seconds.
    time_s: Ints
    #: The taste of each row's user.
    taste: Ints


@dataclass(frozen=True, slots=True)
class _Size:
    """How many there are in a block."""

    users: int
    rows: int
    items: int
    categories: int


@dataclass(frozen=True, slots=True)
class _Ids:
    """Raw ids by index."""

    user: Ints
    item: Ints
    category: Ints


@dataclass(frozen=True, slots=True)
class _Events:
    """When who did something, by user and then by time."""

    user: Ints  # (R,) index
    time_s: Ints  # (R,) second of the month
    session: Ints  # (R,) index


def generate(settings: SampleSettings) -> Iterator[SampleRows]:
    """Yield the rows of the log that these settings describe, in blocks; equal settings give equal rows."""
    random = np.random.default_rng(settings.seed)
    blocks = min(-(-settings.rows // BLOCK_ROWS), settings.users)
    if blocks == 1:
        yield _block(random, _Size(settings.users, settings.rows, settings.items, settings.categories))
        return
    ids = _ids_of(random, settings)
    for number in range(blocks):
        users, rows = (
            slice(whole * number // blocks, whole * (number + 1) // blocks)
            for whole in (settings.users, settings.rows)
        )
        size = _Size(users.stop - users.start, rows.stop - rows.start, settings.items, settings.categories)
        yield _block(random, size, _Ids(ids.user[users], ids.item, ids.category))


def _block(random: np.random.Generator, size: _Size, ids: _Ids | None = None) -> SampleRows:
    """Return the rows of some users; where no ids are given these are drawn, too."""
    events = _events(random, size)
    user, time_s = events.user, events.time_s
    taste = random.integers(0, TASTES, size.users)
    slot, category = _interests(random, size, taste, events)
    visits = Visits(taste[user], user * len(SLOT_SHARES) + slot, category, time_s / MONTH_S)
    item, repeats = walk(random, Catalogue.of(size.items, size.categories), visits)
    behaviour = _behaviours(random, repeats, time_s)
    geohash, geohashes = _geohashes(random, size.users, user)
    file_order = _shuffled_user_hours(random, size.users, user, time_s)
    ids = ids or _ids_of(random, size)
    return SampleRows(
        user_id=ids.user[user[file_order]],
        item_id=ids.item[item[file_order]],
        behaviour=behaviour[file_order],
        geohash=geohash[file_order],
        geohashes=geohashes,
        category_id=ids.category[category[file_order]],
        time_s=FIRST_SECOND + time_s[file_order],
        taste=taste[user[file_order]],
    )


def _ids_of(random: np.random.Generator, size: _Size | SampleSettings) -> _Ids:
    return _Ids(
        _ids(random, size.users, 142_455_899),
        _ids(random, size.items, 404_562_488),
        _ids(random, size.categories, 14_080),
    )


def _ids(random: np.random.Generator, count: int, highest: int) -> Ints:
    """Return distinct numbers up to about `highest`, in random order."""
    widest_gap = max(1, 2 * highest // count - 1)
    return random.permutation(np.cumsum(random.integers(1, widest_gap, count, endpoint=True)))


def _events(random: np.random.Generator, size: _Size) -> _Events:
    activity = random.lognormal(0, 1, size.users)
    counts = 1 + random.multinomial(size.rows - size.users, activity / activity.sum())
    user = np.repeat(np.arange(size.users), counts)
    is_first = random.random(size.rows) < 1 / MEAN_SESSION_EVENTS
    is_first[np.cumsum(counts) - counts] = True
    session = np.cumsum(is_first) - 1
    first = np.flatnonzero(is_first)
    gap_s = random.lognormal(3.4, 1.1, size.rows)
    elapsed_s = np.cumsum(gap_s)
    elapsed_s -= elapsed_s[first][session]
    longest_s = np.maximum.reduceat(elapsed_s, first)
    start_s = np.clip(_session_starts(random, len(first)), 0, MONTH_S - 1 - longest_s)
    time_s = np.maximum(start_s[session] + elapsed_s, 0).astype(np.int64)
    order = np.argsort(user * MONTH_S + time_s, kind="stable")
    return _Events(user[order], time_s[order], session[order])


def _session_starts(random: np.random.Generator, count: int) -> Doubles:
    day_share = np.ones(DAYS)
    day_share[SALE_DAY] = SALE_DAY_ACTIVITY
    hour_share = np.array(DAILY_RHYTHM, dtype=float)
    day = random.choice(DAYS, count, p=day_share / day_share.sum())
    hour = random.choice(24, count, p=hour_share / hour_share.sum())
    return day * DAY_S + (hour + random.random(count)) * 3_600.0


def _interests(random: np.random.Generator, size: _Size, taste: Ints, events: _Events) -> tuple[Ints, Ints]:
    """Return the slot of interest and the category of each event; taste is that of each user."""
    curiosity = len(SLOT_SHARES) - 1
    sessions = int(events.session.max()) + 1
    session_slot = random.choice(len(SLOT_SHARES), sessions, p=SLOT_SHARES)
    stray = random.random(len(events.user)) < STRAY
    slot = np.where(stray, random.choice(curiosity, len(stray)), session_slot[events.session])
    liked = np.stack([random.permutation(size.categories) for _ in range(TASTES)])
    wanted = _liked_categories(random, size, np.repeat(taste, PERIODS * curiosity), liked)
    by_period = wanted.reshape(size.users, PERIODS, curiosity)
    keeps = random.random(by_period.shape) >= DRIFT
    for period in range(1, PERIODS):
        by_period[:, period] = np.where(keeps[:, period], by_period[:, period - 1], by_period[:, period])
    curious = random.integers(0, size.categories, sessions)[events.session]
    period_of = events.time_s * PERIODS // MONTH_S
    of_slot = by_period[events.user, period_of, np.minimum(slot, curiosity - 1)]
    return slot, np.where(slot == curiosity, curious, of_slot)


def _liked_categories(random: np.random.Generator, size: _Size, taste: Ints, liked: Ints) -> Ints:
    """Draw a category for each taste: mostly one that the taste likes, else one that everybody likes."""
    rank = zipf(random, np.full(len(taste), size.categories), 1.1)
    return np.where(random.random(len(taste)) < 0.7, liked[taste, rank], rank)


def _behaviours(random: np.random.Generator, repeats: Ints, time_s: Ints) -> NDArray[np.uint8]:
    """Return views and Tianchi's shares of buys, carts and favourites, most of them on a repeated item."""
    on_sale_day = np.where(time_s // DAY_S == SALE_DAY, 3.0, 1.0)
    likely = {4: (1.0, 10.0, 40.0), 3: (1.0, 30.0, 10.0), 2: (1.0, 5.0, 5.0)}
    behaviour = np.ones(len(repeats), dtype=np.uint8)
    for kind, tianchi_rows in TIANCHI_BEHAVIOURS.items():
        weight = np.array(likely[kind])[np.minimum(repeats, 2)] * (on_sale_day if kind == 4 else 1.0)
        key = np.log(random.random(len(repeats))) / weight  # weighted draw without replacement
        key[behaviour > 1] = -np.inf
        count = round(len(repeats) * tianchi_rows / TIANCHI_ROWS)
        behaviour[np.argpartition(-key, count)[:count]] = kind
    return behaviour


def _geohashes(random: np.random.Generator, users: int, user: Ints) -> tuple[NDArray[np.int32], list[str]]:
    """Return a place of each row: none, the user's home, or one of a few others nearby."""
    letters = GEOHASH_ALPHABET[random.integers(0, 32, (3 * users, 4))]
    geohashes = ["", *sorted({"9" + "".join(row) + "q" for row in letters})]
    place = random.integers(1, len(geohashes), (users, 4), dtype=np.int32)
    nearby = np.maximum(random.integers(-6, 4, len(user)), 0)
    code = np.where(random.random(len(user)) < EMPTY_GEOHASHES, 0, place[user, nearby])
    return code, geohashes


def _shuffled_user_hours(random: np.random.Generator, users: int, user: Ints, time_s: Ints) -> Ints:
    """Return the file order: users' hours are shuffled, the rows within one keep their order."""
    hour = user * (DAYS * 24) + time_s // 3_600
    return np.argsort(random.permutation(users * DAYS * 24)[hour], kind="stable")
