"""What a CPU does per event when it encodes, as machine code outside the interpreter lock.

Letters: B users, E events of all of them, H heads, D dimension. An event enters the towers as the sum of its
item's, its category's and its behaviour-and-pause's vector, normed (mean 0, variance 1).
"""

from typing import NamedTuple

import numpy as np

from models.arrays import Bytes, Floats, Ints, Words
from models.compiled import compiled_with_fast_sums
from models.ids.vocabulary_file import FIRST_KNOWN
from models.quantised import Bytes8

#: As torch's layer_norm has it.
EPSILON = 1e-5


class TowerEvents(NamedTuple):
    """The events of B users, users one after the other, each oldest first; all (E,).

    item, category int64 indices, an item of I + r being row r of `Tables.live`; detail int64 rows of
    `Tables.detail`; session int64, numbered within a user.
    """

    item: Ints
    category: Ints
    detail: Ints
    session: Ints


class Tables(NamedTuple):
    """What an event's vector is made of, float32: (item + category) * length + detail.

    item (I, D), category (C, D), detail (., D); the length is item_length (I,) where the item is known, else
    category_length (C,). Of a live item, (item + category) * length is its row of live (R, D) int8 times that
    of live_scale (R,). Of a compressed model, I is what is no known item, and live begins with all that are.
    """

    item: Floats
    category: Floats
    detail: Floats
    item_length: Floats
    category_length: Floats
    live: Bytes8
    live_scale: Floats


@compiled_with_fast_sums
def newest(events: TowerEvents, tables: Tables, firsts: Ints, counts: Ints) -> tuple[Floats, Floats]:
    """Return the newest event of each user's part as it enters the tower, and normed: (B, D) each.

    The part of user u is events firsts[u] to firsts[u] + counts[u]; an empty one gives zeros.
    """
    users, dimension = len(firsts), tables.item.shape[1]
    entering = np.zeros((users, dimension), np.float32)
    normed = np.zeros((users, dimension), np.float32)
    for user in range(users):
        if counts[user]:
            event = firsts[user] + counts[user] - 1
            item, category, detail = events.item[event], events.category[event], events.detail[event]
            row = item - len(tables.item)
            length = tables.live_scale[row] if row >= 0 else _length(tables, item, category)
            for column in range(dimension):
                if row >= 0:
                    value = np.float32(tables.live[row, column])
                else:
                    value = tables.item[item, column] + tables.category[category, column]
                entering[user, column] = value * length + tables.detail[detail, column]
            mean, scale = _spread(entering[user])
            for column in range(dimension):
                normed[user, column] = (entering[user, column] - mean) * scale
    return entering, normed


@compiled_with_fast_sums
def attend(
    events: TowerEvents,
    tables: Tables,
    firsts: Ints,
    counts: Ints,
    queries: Floats,
    by_distance: Floats,
    by_session: Floats,
) -> Floats:
    """Return what each head sees of each user's part, (B, H, D): a weighted mean of its normed events.

    queries (B, H, D) score normed events; by_distance (T, H) is added at so many events before the newest,
    by_session (S, H) at so many sessions. An empty part gives zeros.
    """
    items, categories, details, sessions = events
    by_item, by_category, by_detail, _, _, live, live_scale = tables
    users, heads, dimension = queries.shape
    seen = np.zeros(queries.shape, np.float32)
    entering = np.empty((len(by_distance), dimension), np.float32)
    means, scales = np.empty(len(by_distance), np.float32), np.empty(len(by_distance), np.float32)
    weights = np.empty((heads, len(by_distance)), np.float32)
    totals = np.empty(heads, np.float32)
    for user in range(users):
        first, count = firsts[user], counts[user]
        for head in range(heads):
            totals[head] = 0
            for column in range(dimension):
                totals[head] += queries[user, head, column]
        for place in range(count):
            event = first + place
            item, category, detail = items[event], categories[event], details[event]
            total = squares = np.float32(0)
            row = item - len(by_item)
            if row >= 0:  # written out: a function for it would cost a tenth of everything
                for column in range(dimension):
                    value = live[row, column] * live_scale[row] + by_detail[detail, column]
                    entering[place, column] = value
                    total += value
            else:
                length = _length(tables, item, category)
                for column in range(dimension):
                    value = (by_item[item, column] + by_category[category, column]) * length
                    value += by_detail[detail, column]
                    entering[place, column] = value
                    total += value
            mean = total / np.float32(dimension)
            for column in range(dimension):
                squares += (entering[place, column] - mean) ** 2
            scale = np.float32(1 / np.sqrt(squares / np.float32(dimension) + EPSILON))
            means[place], scales[place] = mean, scale
            apart = min(sessions[first + count - 1] - sessions[event], len(by_session) - 1)
            for head in range(heads):
                score = np.float32(0)
                for column in range(dimension):
                    score += queries[user, head, column] * entering[place, column]
                bias = by_distance[count - 1 - place, head] + by_session[apart, head]
                weights[head, place] = (score - mean * totals[head]) * scale + bias
        for head in range(heads if count else 0):
            _softmax(weights, head, count)
            shift = np.float32(0)
            for place in range(count):
                weight = weights[head, place] * scales[place]
                shift += weight * means[place]
                for column in range(dimension):
                    seen[user, head, column] += weight * entering[place, column]
            for column in range(dimension):
                seen[user, head, column] -= shift
    return seen


@compiled_with_fast_sums
def recall(
    events: TowerEvents,
    tables: Tables,
    firsts: Ints,
    counts: Ints,
    by_place: Floats,
    by_detail: Floats,
    again: np.float32,
) -> Floats:
    """Return the weighted sum (B, D) of the items of each user's part.

    An event weighs by_place (T, 2) at its distance from the newest, [1] where it is of the same session,
    times by_detail (.,) of its behaviour and pause, times `again` where its item is known and comes again.
    """
    users, dimension = len(firsts), tables.item.shape[1]
    total = np.zeros((users, dimension), np.float32)
    for user in range(users):
        last = firsts[user] + counts[user] - 1
        for event in range(firsts[user], last + 1):
            is_same = events.session[event] == events.session[last]
            weight = by_place[last - event, int(is_same)] * by_detail[events.detail[event]]
            item, category = events.item[event], events.category[event]
            for later in range(event + 1, last + 1):
                if item >= FIRST_KNOWN and events.item[later] == item:
                    weight *= again
                    break
            row = item - len(tables.item)
            if row >= 0:
                weight *= tables.live_scale[row]
                for column in range(dimension):
                    total[user, column] += weight * tables.live[row, column]
                continue
            weight *= _length(tables, item, category)
            for column in range(dimension):
                entering = tables.item[item, column] + tables.category[category, column]
                total[user, column] += weight * entering
    return total


@compiled_with_fast_sums
def normed(vectors: Floats) -> Floats:
    """Return vectors (B, D), each moved and scaled to mean 0 and variance 1."""
    found = np.empty_like(vectors)
    for row in range(len(vectors)):
        mean, scale = _spread(vectors[row])
        for column in range(vectors.shape[1]):
            found[row, column] = (vectors[row, column] - mean) * scale
    return found


@compiled_with_fast_sums
def gelu(values: Floats) -> Floats:
    """Return x times the share of a normal distribution below it, of each x (B, D)."""
    found = np.empty_like(values)
    half, root = np.float32(0.5), np.float32(0.5**0.5)
    for row in range(len(values)):
        for column in range(values.shape[1]):
            value = values[row, column]
            found[row, column] = half * value * (np.float32(1) + _error_function(value * root))
    return found


@compiled_with_fast_sums
def _error_function(value: np.float32) -> np.float32:
    """Return erf of a number to 5e-7, in operations that a CPU does on many numbers at once.

    Its [13/8] rational approximation, as Eigen and XLA have it; at 4 it is 1 in single precision.
    """
    x = min(max(value, np.float32(-4)), np.float32(4))
    square = x * x
    above = np.float32(-2.72614225801306e-10)
    above = above * square + np.float32(2.77068142495902e-08)
    above = above * square + np.float32(-2.10102402082508e-06)
    above = above * square + np.float32(-5.69250639462346e-05)
    above = above * square + np.float32(-7.34990630326855e-04)
    above = above * square + np.float32(-2.95459980854025e-03)
    above = above * square + np.float32(-1.60960333262415e-02)
    below = np.float32(-1.45660718464996e-05)
    below = below * square + np.float32(-2.13374055278905e-04)
    below = below * square + np.float32(-1.68282697438203e-03)
    below = below * square + np.float32(-7.37332916720468e-03)
    below = below * square + np.float32(-1.42647390514189e-02)
    return x * above / below


@compiled_with_fast_sums
def _length(tables: Tables, item: int, category: int) -> np.float32:
    return np.float32(tables.item_length[item] if item >= FIRST_KNOWN else tables.category_length[category])


@compiled_with_fast_sums
def _spread(vector: Floats) -> tuple[np.float32, np.float32]:
    """Return the mean of a vector, and what its distances from it are multiplied by for variance 1."""
    dimension = np.float32(len(vector))
    total = squares = np.float32(0)
    for value in vector:
        total += value
    mean = total / dimension
    for value in vector:
        squares += (value - mean) ** 2
    return mean, np.float32(1 / np.sqrt(squares / dimension + EPSILON))


@compiled_with_fast_sums
def _softmax(scores: Floats, row: int, count: int) -> None:
    highest, total = scores[row, 0], np.float32(0)
    for place in range(1, count):
        highest = max(highest, scores[row, place])
    for place in range(count):
        scores[row, place] = np.exp(scores[row, place] - highest)
        total += scores[row, place]
    for place in range(count):
        scores[row, place] /= total


@compiled_with_fast_sums
def fingerprints(
    item: Ints,
    category: Ints,
    behaviour: Bytes,
    gap: Ints,
    session: Ints,
    firsts: Ints,
    counts: Ints,
    seed: int,
) -> Words:
    """Return 64 bits (B,) of all that a tower reads of each user's part, but of the pause before its first.

    Two different parts of one user have the same with a chance of 2**-64; `seed` makes it nobody's to choose.
    """
    prints = np.empty(len(firsts), np.uint64)
    for user in range(len(firsts)):
        first = firsts[user]
        mixed = np.uint64(seed) ^ np.uint64(counts[user])
        for event in range(first, first + counts[user]):
            pause = gap[event] if event > first else 0
            place = ((session[event] - session[first]) * 64 + pause) * 8 + behaviour[event]
            mixed = _mix(mixed ^ np.uint64(item[event]))
            mixed = _mix(mixed ^ np.uint64(category[event]) ^ (np.uint64(place) << np.uint64(32)))
        prints[user] = mixed
    return prints


@compiled_with_fast_sums
def _mix(bits: np.uint64) -> np.uint64:
    # The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), which maps one to one.
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
