"""Rankers by neighbours: items that the same users had, and sessions that held the same items."""

from typing import Any

import numpy as np
import scipy.sparse

from models.arrays import Ints
from models.ids.vocabulary_file import FIRST_KNOWN
from models.sessions import starts_session
from models.windows.histories import Histories
from offline.ranking.protocols import Cases
from offline.ranking.scorers import Scorer, Scores

#: Neighbours that count: items per item, and sessions per session.
ITEM_NEIGHBOURS, SESSION_NEIGHBOURS = 100, 100
#: Items whose neighbours are looked for at a time; users times sessions that are compared at a time.
ITEMS_AT_ONCE, PAIRS_AT_ONCE = 1_024, 1 << 24
#: Popularity tells equal scores apart, and is no more than this.
TIE_WEIGHT = 1e-6


def item_knn(cases: Cases, popular: Scores) -> Scorer:
    """Return the scorer by similarity to the items of a user's whole past.

    Two items are as similar as the cosine of the sets of users who had them, 0 beyond an item's
    ITEM_NEIGHBOURS nearest. Source: Deshpande and Karypis 2004, cosine, without row normalisation.
    """
    had = _had(cases.past, np.diff(cases.past.starts), len(popular))  # (U, I)
    weight = 1 / np.sqrt(np.maximum(np.asarray(had.sum(axis=0)).ravel(), 1))
    normed = had.multiply(weight).tocsr()
    columns = normed.T.tocsr()
    blocks = [
        _nearest(columns[at : at + ITEMS_AT_ONCE], normed, at) for at in range(0, len(popular), ITEMS_AT_ONCE)
    ]
    similar = scipy.sparse.vstack(blocks).tocsr()  # (I, I)
    ties = popular * (TIE_WEIGHT / max(popular.max(), 1))

    def score(users: Ints) -> Scores:
        found: Scores = (had[cases.asked[users]] @ similar).toarray() + ties
        return found

    return score


def _nearest(block: Any, normed: Any, first: int) -> Any:
    """Return the similarities (J, I) of the items from `first` on, all but their ITEM_NEIGHBOURS best 0."""
    found = (block @ normed).tocsr()
    for row in range(found.shape[0]):
        values = found.data[found.indptr[row] : found.indptr[row + 1]]  # a view
        values[found.indices[found.indptr[row] : found.indptr[row + 1]] == first + row] = 0
    return _best(found, ITEM_NEIGHBOURS)


def _best(found: Any, count: int) -> Any:
    """Return a sparse matrix, which is changed, with 0 for all but the `count` largest values of each row."""
    for row in range(found.shape[0]):
        values = found.data[found.indptr[row] : found.indptr[row + 1]]  # a view
        if len(values) > count:
            values[values < np.partition(values, -count)[-count]] = 0
    found.eliminate_zeros()
    return found


def session_knn(cases: Cases, popular: Scores, gap_ms: int) -> Scorer:
    """Return the scorer by the past sessions nearest to a user's last one, which is not among them.

    An item of the last session weighs 1 over how many events ago it was; nearness is the cosine.
    Source: V-SKNN of Ludewig and Jannach 2018, over all sessions, without its time decay.
    """
    past = cases.past
    opens = starts_session(past.time_ms, past.starts[:-1], gap_ms)
    starts = np.append(np.flatnonzero(opens), len(opens))
    sessions = _had(past, np.diff(starts), len(popular))  # (S, I)
    normed = sessions.multiply(1 / np.sqrt(np.maximum(np.asarray(sessions.sum(axis=1)), 1))).tocsr()
    last = np.searchsorted(starts, past.starts[1:] - 1, side="right") - 1  # (U,)
    ties = popular * (TIE_WEIGHT / max(popular.max(), 1))

    def scores_of(own: Ints) -> Scores:
        """Return the scores (B, I) by the sessions that are near these (B,)."""
        query = _last_sessions(past, starts[own], starts[own + 1], len(popular))  # (B, I)
        near = (query @ normed.T).tocsr()  # (B, S)
        near.data[near.indices == np.repeat(own, np.diff(near.indptr))] = 0
        near = _best(near, SESSION_NEIGHBOURS)
        near.sort_indices()  # so that sums are the same whichever users are asked together
        found: Scores = (near @ sessions).toarray() + ties
        return found

    def score(users: Ints) -> Scores:
        own = last[cases.asked[users]]
        at_once = max(PAIRS_AT_ONCE // sessions.shape[0], 1)
        return np.concatenate([scores_of(own[at : at + at_once]) for at in range(0, len(own), at_once)])

    return score


def _had(past: Histories, counts: Ints, item_count: int) -> Any:
    """Return a sparse 0-1 matrix (R, I): which known items are among the counts[r] events of row r."""
    row = np.repeat(np.arange(len(counts)), counts)
    is_known = past.item >= FIRST_KNOWN
    ones = np.ones(int(is_known.sum()))
    places = (row[is_known], past.item[is_known] - FIRST_KNOWN)
    matrix = scipy.sparse.csr_matrix((ones, places), shape=(len(counts), item_count))
    matrix.data[:] = 1
    return matrix


def _last_sessions(past: Histories, begin: Ints, end: Ints, item_count: int) -> Any:
    """Return a sparse matrix (B, I) of the weights of the items of events begin[b] to end[b] in row b."""
    count = end - begin
    row = np.repeat(np.arange(len(count)), count)
    event = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count) + begin[row]
    weight = 1.0 / (end[row] - event)
    item = past.item[event] - FIRST_KNOWN
    is_known = item >= 0
    return scipy.sparse.csr_matrix(
        (weight[is_known], (row[is_known], item[is_known])), shape=(len(count), item_count)
    )
