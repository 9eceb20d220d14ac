"""Full-ranking metrics from the rank of each target."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: Rank of a target that is not in the catalogue: a miss at every cut-off.
MISSING = np.iinfo(np.int64).max

Ranks = npt.NDArray[np.int64]


def ranks(scores: npt.NDArray[np.float32], target: npt.NDArray[np.int64]) -> Ranks:
    """Return the rank (B,) of each target (B,) among all items, 1 for the best; scores (B, I).

    Ties count against the target: its rank is the number of items that score at least as high, itself
    included. So does a score that is NaN, wherever it is: what cannot be compared is not behind the target. A
    target of -1 is not in the catalogue: MISSING.
    """
    known = target >= 0
    own = scores[np.arange(len(target)), np.where(known, target, 0)]
    return np.where(known, scores.shape[1] - (scores < own[:, None]).sum(axis=1), MISSING)


def gains_in_ten(target_ranks: Ranks) -> npt.NDArray[np.float64]:
    """Return what each target (B,) adds to NDCG@10: 1/log2(1 + rank), 0 beyond rank 10."""
    rank = target_ranks.astype(np.float64)
    return np.where(rank <= 10, 1 / np.log2(1 + rank), 0.0)


def gains(target_ranks: Ranks) -> npt.NDArray[np.float64]:
    """Return what each target (B,) adds to NDCG without a cut-off: 1/log2(1 + rank), 0 for MISSING."""
    return np.where(target_ranks == MISSING, 0.0, 1 / np.log2(1 + target_ranks.astype(np.float64)))


@dataclass(frozen=True, slots=True)
class Ranking:
    """How well B targets were ranked, misses included; every figure is a mean over all B."""

    recall_at_10: float
    recall_at_20: float
    ndcg_at_10: float
    ndcg_at_10_error: float
    ndcg: float
    mrr_at_10: float
    mrr: float


def summarise(target_ranks: Ranks) -> Ranking:
    """Return the metrics of ranks (B,), B at least 1.

    With one target per row: Recall@k is the share with rank <= k; NDCG@10 the mean of 1/log2(1 + rank), and
    MRR@10 the mean of 1/rank, both 0 beyond rank 10; NDCG and MRR have no cut-off, but 0 for
    MISSING. NDCG without one is what an epoch is chosen by: it moves far less by chance. The error is half
    the 95 % confidence interval (normal approximation).
    """
    rank = target_ranks.astype(np.float64)
    in_ten = rank <= 10
    gain = gains(target_ranks)
    gain_in_ten = gains_in_ten(target_ranks)
    reciprocal = np.where(target_ranks == MISSING, 0.0, 1 / rank)
    return Ranking(
        recall_at_10=float(in_ten.mean()),
        recall_at_20=float((rank <= 20).mean()),
        ndcg_at_10=float(gain_in_ten.mean()),
        ndcg_at_10_error=float(1.96 * gain_in_ten.std() / np.sqrt(len(rank))),
        ndcg=float(gain.mean()),
        mrr_at_10=float(np.where(in_ten, reciprocal, 0.0).mean()),
        mrr=float(reciprocal.mean()),
    )
