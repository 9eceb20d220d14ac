"""Log-odds of several rankers -> the weights of their ensemble, by what happened. Pure."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from models.arrays import Doubles
from models.rankers.ensemble import How
from offline.rankers.measures import Scored, log_loss

#: How little stacked weights are pulled in (scikit-learn's C): rankers are few, rows are many.
LITTLE = 1e4


def weights_of(how: How, scores: Doubles, scored: Scored) -> tuple[tuple[float, ...], float]:
    """Return the weight of each of M rankers and the bias, for scores (M, N) of candidates.

    scored has the labels and weights of the candidates; its own scores are not read.
    """
    if how == "mean":
        return (1 / len(scores),) * len(scores), 0.0
    return _stacked(scores, scored) if how == "stacked" else (_weighted(scores, scored), 0.0)


def _weighted(scores: Doubles, scored: Scored) -> tuple[float, ...]:
    """Return weights, none below 0 and together 1, of the least log loss, which has but one least place."""
    count = len(scores)
    share = scored.weight / scored.weight.sum()

    def loss_of(weights: Doubles) -> float:
        own = Scored(weights @ scores, scored.label, scored.weight, scored.user, scored.list)
        return log_loss(own)

    def slope_of(weights: Doubles) -> Doubles:
        found: Doubles = scores @ (share * (expit(weights @ scores) - scored.label))
        return found

    done = minimize(
        loss_of,
        np.full(count, 1 / count),
        jac=slope_of,
        method="SLSQP",
        bounds=[(0, 1)] * count,
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1},
        options={"ftol": 1e-12, "maxiter": 500},
    )
    found = np.clip(done.x, 0, 1)
    return _plain(found / found.sum())


def _stacked(scores: Doubles, scored: Scored) -> tuple[tuple[float, ...], float]:
    """Return the weights and the bias of a logistic regression on the log-odds."""
    regression = LogisticRegression(C=LITTLE, max_iter=1_000)
    regression.fit(scores.T, scored.label, sample_weight=scored.weight)
    return _plain(regression.coef_[0]), float(regression.intercept_[0])


def _plain(weights: Sequence[float] | Doubles) -> tuple[float, ...]:
    return tuple(float(each) for each in weights)
