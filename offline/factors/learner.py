"""Alternating least squares with biases: each pass makes all users by the items, and items by the users."""

import numpy as np

from models.arrays import Doubles, Flags
from models.factors.events import Columns, observed_of
from models.factors.factor_model import FactorModel
from models.factors.ridge import Observed, Ridge
from models.factors.settings import FactorSettings
from models.factors.weights import FactorWeights
from models.ids.log_vocabulary import vocabulary_of_log
from models.ids.vocabulary import Vocabulary
from models.log.behaviour_log import BehaviourLog
from models.windows.log_histories import EVERYTHING, histories_of_log
from offline.factors.pieces import cut_like_windows
from offline.factors.settings import FactorConfig

#: Observations scored at a time.
AT_ONCE = 1 << 17


class FactorLearner:
    """A factorisation of what users of a log have had; an `offline.encoders.run.Learner`."""

    def __init__(self, log: BehaviourLog, rows: Flags, config: FactorConfig) -> None:
        """rows (R,): which of the log's are learned."""
        train = config.train
        known = log.select(rows)
        self.vocabulary: Vocabulary = vocabulary_of_log(known, train.min_item_count, train.max_items)
        _, histories = histories_of_log(known, self.vocabulary, EVERYTHING)
        pieces = cut_like_windows(histories, config.window)
        items = len(self.vocabulary.item_ids)
        by_items = Columns(items, np.zeros(0, np.bool_))  # an event of an unknown item teaches nothing
        self.fit = Fit(observed_of(pieces, by_items, config.factors), items, config.factors, train.seed)

    def epoch(self) -> float:
        """Make all users and all items anew; return the mean of what is minimised, by observation."""
        self.fit.sweep()
        return self.fit.loss()

    def model(self) -> FactorModel:
        """Return the model as it is now."""
        return FactorModel(self.fit.weights(), self.fit.settings, self.vocabulary.item_categories)


class Fit:
    """U users (U, 1 + K) and I items (I, 1 + K), each a bias and factors, and what was observed."""

    def __init__(self, by_user: Observed, items: int, settings: FactorSettings, seed: int) -> None:
        self.settings = settings
        self.by_user = by_user
        self.by_item = transposed(by_user, items)
        random = np.random.default_rng(seed)
        self.mean = 0.0
        self.users = np.zeros((len(by_user.starts) - 1, 1 + settings.factors))
        self.items = random.normal(0, 0.1 / np.sqrt(settings.factors), (items, 1 + settings.factors))
        self.items[:, 0] = 0

    def sweep(self) -> None:
        """Make the global bias, then users, then items, each the best there is beside the others."""
        self.mean += self._mean_residual()
        self.users = self._ridge(self.items).solve(self.by_user)
        self.items = self._ridge(self.users).solve(self.by_item)

    def weights(self) -> FactorWeights:
        """Return what users are folded in by."""
        items = self.items.astype(np.float32)
        return FactorWeights(np.array([self.mean], np.float32), items[:, 0].copy(), items[:, 1:].copy())

    def _ridge(self, others: Doubles) -> Ridge:
        features = np.hstack([np.ones((len(others), 1)), others[:, 1:]])
        strength = self.settings.ridge
        return Ridge.of(features, self.mean + others[:, 0], self.settings.unseen_weight, strength)

    def _mean_residual(self) -> float:
        """Return by how much the global bias is too low."""
        observed, unseen = self.by_user, self.settings.unseen_weight
        users, items = self.users, self.items
        pairs = len(users) * len(items)
        scores = self._scores()
        every = self.mean * pairs + users[:, 0].sum() * len(items) + items[:, 0].sum() * len(users)
        every += users[:, 1:].sum(axis=0) @ items[:, 1:].sum(axis=0)
        missing = (observed.weight * (observed.value - scores)).sum() - unseen * every
        return float(missing / (observed.weight.sum() + unseen * pairs))

    def _scores(self) -> Doubles:
        """Return the score (N,) of each observation."""
        user = np.repeat(np.arange(len(self.users)), np.diff(self.by_user.starts))
        found = np.empty(len(user))
        for begin in range(0, len(found), AT_ONCE):
            some = slice(begin, begin + AT_ONCE)
            users, items = self.users[user[some]], self.items[self.by_user.column[some]]
            products = np.einsum("nk,nk->n", users[:, 1:], items[:, 1:])
            found[some] = self.mean + users[:, 0] + items[:, 0] + products
        return found

    def loss(self) -> float:
        """Return what the sweeps minimise, by weight of the observations."""
        observed = self.by_user
        seen = (observed.weight * (observed.value - self._scores()) ** 2).sum()
        length = self.settings.ridge * ((self.users**2).sum() + (self.items**2).sum())
        return float((seen + self.settings.unseen_weight * self._squares() + length) / observed.weight.sum())

    def _squares(self) -> float:
        """Return the sum of the squared scores of all pairs, from products of (2 + K, 2 + K)."""
        ones_of_users, ones_of_items = (np.ones((len(each), 1)) for each in (self.users, self.items))
        users = np.hstack([ones_of_users, self.users])  # (U, 2 + K)
        items = np.hstack([self.mean + self.items[:, :1], ones_of_items, self.items[:, 1:]])  # (I, 2 + K)
        return float(((users.T @ users) * (items.T @ items)).sum())


def transposed(observed: Observed, columns: int) -> Observed:
    """Return the same observations by column: which rows observed each of them."""
    row = np.repeat(np.arange(len(observed.starts) - 1), np.diff(observed.starts))
    order = np.argsort(observed.column, kind="stable")
    counts = np.bincount(observed.column, minlength=columns)
    starts = np.concatenate(([0], np.cumsum(counts)))
    return Observed(starts, row[order], observed.value[order], observed.weight[order])
