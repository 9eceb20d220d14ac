"""What a learner of items holds, as plain arrays that compiled loops read.

Letters: E events of a batch, N rows of items, U rows of users, K events that a user's vector is made of, D
dimension.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.arrays import Bytes, Doubles, Flags, Floats, Ints, Words
from models.items.slots import Places

Hashes32 = npt.NDArray[np.uint32]

#: The numbers in `Stream.numbers`: events gone through; the stream's clock (ms); how many events counted;
#: those that were learned, came again, counted no more; by how many more, lately, were far ahead of the clock
#: than were not.
STEP, NEWEST_MS, COUNTED, LEARNED, DUPLICATE, REPEATED, AHEAD = range(7)
#: The numbers in `Stream.losses`: decayed sums of the learner's loss, of that of the vectors as trained, on
#: the same events, and of their weights.
LIVE, FROZEN, WEIGHT = 0, 1, 2
#: Different readers of an item that are told apart.
MAX_READERS = 5
#: What AdaGrad's sums of squares begin with, for the model's items and for new ones.
KNOWN_SQUARES, NEW_SQUARES = 1e-3, 1e-4
#: The time of what never was.
LONG_AGO_MS = -(2**62)


class Batch(NamedTuple):
    """E events in the order of the stream, all (E,) but users: hashes (U',) by the events' user numbers.

    item, event_hash: 64 bits each; category: the index of what the event says.
    """

    users: Words
    user: Ints
    item: Words
    category: Ints
    behaviour: Bytes
    time_ms: Ints
    event_hash: Ints


class Items(NamedTuple):
    """N rows of items.

    inputs, outputs (N, D); input_squares, output_squares (N,) AdaGrad's sums; trained (N,) row of the model's
    tables, -1 for a new item; category (N,) index; counts (N, 2) decayed up to counted_ms (N,); readers (N,)
    how many different users so far, reader_hashes (N, MAX_READERS) theirs; generation (N,) how often the row
    was given to another item; revision (N,) the step that changed it last; last_ms (N,) its newest event.
    """

    inputs: Floats
    outputs: Floats
    input_squares: Floats
    output_squares: Floats
    trained: Ints
    category: Ints
    counts: Doubles
    counted_ms: Ints
    readers: Ints
    reader_hashes: Hashes32
    generation: Places
    revision: Ints
    last_ms: Ints


class Users(NamedTuple):
    """The last K events of U users, oldest first; all (U, K) but had (U,), how many there were in all.

    item, generation: as in `Items`; an item of another generation is gone.
    """

    had: Ints
    item: Places
    generation: Places
    behaviour: Bytes
    time_ms: Ints
    event_hash: Ints


class Stream(NamedTuple):
    """What is known of the stream: numbers, losses (see above), and the last M events that counted.

    recent (M, 2): row and generation of their items, where negatives are drawn from.
    """

    numbers: Ints
    losses: Doubles
    recent: Places


class Rules(NamedTuple):
    """What does not change: see LiveItemsSettings and LearnerSettings."""

    half_lives_ms: tuple[int, int]
    rate: float
    moves_known: bool
    pull: float
    learned_until_ms: int
    max_items: int
    max_users: int
    item_ttl_ms: int
    start_squares: float
    horizon_ms: int
    seed: int


class Room(NamedTuple):
    """What a step computes in: user, short, gradient (D,), and start_in, start_out (D,) of a new item; weight
    (K,), rows (K,) of a user's last items, -1 for one that is gone; drawn (1 + negatives,) rows of target and
    negatives, scores likewise; has_long (1,): whether the long tower has something to read. trained_user,
    trained_short, trained_scores: the same of the vectors as trained.
    """

    user: Floats
    short: Floats
    gradient: Floats
    start_in: Floats
    start_out: Floats
    weight: Floats
    rows: Ints
    drawn: Ints
    scores: Floats
    has_long: Flags
    trained_user: Floats
    trained_short: Floats
    trained_scores: Floats
