"""How good scores are: AUC, AUC within users, log loss, calibration, NDCG@10."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit
from scipy.stats import rankdata

from models.arrays import Doubles, Ints
from offline.rankers.calibration import calibration_error, observed_over_expected


@dataclass(frozen=True, slots=True)
class Scored:
    """N candidates that were scored.

    score (N,) log-odds; label (N,) 0 or 1; weight (N,) how much each counts in the log loss; user (N,) whose
    they are; list (N,) with which others each is ranked. The last two are numbers that mean nothing else.
    """

    score: Doubles
    label: Doubles
    weight: Doubles
    user: Ints
    list: Ints


@dataclass(frozen=True, slots=True)
class Quality:
    """auc over all pairs; user_auc the mean of users' own, each weighing as its candidates, of users who have
    both labels; log_loss, calibration_error and observed_over_expected (calibration.py), by weight;
    ndcg_at_10 the mean over lists that have both labels. NaN where there is none.
    """

    auc: float
    user_auc: float
    log_loss: float
    calibration_error: float
    observed_over_expected: float
    ndcg_at_10: float


def quality_of(scored: Scored) -> Quality:
    """Return the figures of scored candidates."""
    counts, aucs = [], []
    for some in _groups(scored.user):
        if _has_both(scored.label[some]):
            counts.append(len(some))
            aucs.append(auc(scored.score[some], scored.label[some]))
    gains = gains_of(scored)
    told = expit(scored.score), scored.label, scored.weight
    return Quality(
        auc=auc(scored.score, scored.label) if _has_both(scored.label) else np.nan,
        user_auc=float(np.average(aucs, weights=counts)) if aucs else np.nan,
        log_loss=log_loss(scored),
        calibration_error=calibration_error(*told),
        observed_over_expected=observed_over_expected(*told),
        ndcg_at_10=float(np.mean(gains)) if len(gains) else np.nan,
    )


def gains_of(scored: Scored) -> Doubles:
    """Return NDCG@10 of each list that has both labels."""
    lists = (some for some in _groups(scored.list) if _has_both(scored.label[some]))
    return np.array([ndcg_at_10(scored.score[some], scored.label[some]) for some in lists])


def auc(score: Doubles, label: Doubles) -> float:
    """Return the chance that a positive scores higher than a negative, ties counting half; both are there."""
    positives = label.sum()
    negatives = len(label) - positives
    ranks = rankdata(score)
    return float((ranks[label > 0].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def ndcg_at_10(score: Doubles, label: Doubles) -> float:
    """Return NDCG@10 of one list with at least one positive; ties count against positives."""
    order = np.lexsort((label, -score))[:10]
    discount = 1 / np.log2(np.arange(2, 12))
    best = discount[: int(min(label.sum(), 10))].sum()
    return float((label[order] * discount[: len(order)]).sum() / best)


def log_loss(scored: Scored) -> float:
    """Return the weighted mean of -log of the probability that each label was given."""
    signed = np.where(scored.label > 0, scored.score, -scored.score)
    with np.errstate(invalid="ignore"):  # NaN of a score that is none
        losses = np.logaddexp(0.0, -signed)
    return float(np.average(losses, weights=scored.weight))


def _groups(number: Ints) -> list[Ints]:
    """Return the places of each group."""
    order = np.argsort(number, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(number[order])) + 1) if len(order) else []


def _has_both(label: Doubles) -> bool:
    return bool(0 < label.sum() < len(label))
