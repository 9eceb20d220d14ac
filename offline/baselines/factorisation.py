"""Rankers by matrix factorisation, of the package `implicit`, where it is installed."""

import importlib.util
import logging
from typing import Any

import numpy as np
import scipy.sparse

from models.arrays import Ints
from models.ids.vocabulary_file import FIRST_KNOWN
from offline.ranking.protocols import Cases
from offline.ranking.scorers import Scorer

logger = logging.getLogger(__name__)

#: Length of the factors, passes over the data of each, and the seed of both.
FACTORS, ALS_ITERATIONS, BPR_ITERATIONS, FACTORS_SEED = 64, 15, 100, 0


def factorisations(cases: Cases, item_count: int) -> dict[str, Scorer]:
    """Return the scorers "ALS" and "BPR", none where `implicit` is not installed.

    The matrix holds how often each user had each item. Source: implicit's AlternatingLeastSquares and
    BayesianPersonalizedRanking with their defaults but for the constants above.
    """
    if importlib.util.find_spec("implicit") is None:
        logger.info("no ALS and BPR: `pip install implicit` adds them")
        return {}
    from implicit.als import AlternatingLeastSquares
    from implicit.bpr import BayesianPersonalizedRanking
    from threadpoolctl import threadpool_limits

    counts = _counts(cases, item_count)
    with threadpool_limits(1, "blas"):  # implicit has threads of its own
        models = {
            "ALS": AlternatingLeastSquares(FACTORS, iterations=ALS_ITERATIONS, random_state=FACTORS_SEED),
            "BPR": BayesianPersonalizedRanking(FACTORS, iterations=BPR_ITERATIONS, random_state=FACTORS_SEED),
        }
        return {name: _fitted(model, counts, cases.asked) for name, model in models.items()}


def _fitted(model: Any, counts: Any, asked: Ints) -> Scorer:
    model.fit(counts, show_progress=False)
    users, items = model.user_factors, model.item_factors
    return lambda chosen: users[asked[chosen]] @ items.T


def _counts(cases: Cases, item_count: int) -> Any:
    """Return a sparse matrix (U, I): how often each user of the past had each known item."""
    past = cases.past
    user = np.repeat(np.arange(len(past)), np.diff(past.starts))
    is_known = past.item >= FIRST_KNOWN
    ones = np.ones(int(is_known.sum()), dtype=np.float32)
    places = (user[is_known], past.item[is_known] - FIRST_KNOWN)
    return scipy.sparse.csr_matrix((ones, places), shape=(len(past), item_count))
